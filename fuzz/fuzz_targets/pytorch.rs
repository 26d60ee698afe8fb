//! A PyTorch checkpoint of any container: zip, legacy stream, tar.
#![no_main]

mod checkpoint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checkpoint::import(&[("net.pth", data)]));
