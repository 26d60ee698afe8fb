//! An image of any format, as a frame and as a mask.
#![no_main]

use ferroflow_core::io::{Orientation, frame};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let stored = frame::decode_as(data, Orientation::Stored);
    let tagged = frame::decode_as(data, Orientation::Tagged);
    assert_eq!(stored.is_ok(), tagged.is_ok());
    let _ = frame::decode_mask(data);
});
