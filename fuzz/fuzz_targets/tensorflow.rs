//! A TensorFlow bundle: two bytes with the length of the index, the index, the only shard.
#![no_main]

mod checkpoint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (index, shard) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    checkpoint::import(&[("net.index", index), ("net.data-00000-of-00001", shard)]);
});
