//! A flow file of any format, and a mask as an array: .flo, .pfm, KITTI's .png, .npy, .npz, .flo5.
#![no_main]

use ferroflow_core::io::{FlowFormat, decode_flow, npy, npz};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(flow) = decode_flow(data) {
        // What was read can be written, and read again.
        for format in FlowFormat::WRITTEN {
            if let Ok(bytes) = format.encode(&format.clip(&flow).0) {
                let again = decode_flow(&bytes).expect("what was written is read");
                assert_eq!((again.width(), again.height()), (flow.width(), flow.height()));
            }
        }
    }
    let _ = npy::decode_mask(data);
    let _ = npy::decode_array(data);
    let _ = npz::decode_mask(data);
});
