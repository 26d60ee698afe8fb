//! A MindSpore checkpoint.
#![no_main]

mod checkpoint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checkpoint::import(&[("net.ckpt", data)]));
