//! A safetensors file: somebody else's, and one that claims to be ours.
#![no_main]

mod checkpoint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checkpoint::import(&[("net.safetensors", data)]);
    let _ = ferroflow_net::weights::store::read_from(data);
});
