//! Data sets whose files are containers or tables of their own: shards, TFRecord files, tables of pairs. The first byte says which.
#![no_main]

use ferroflow_data::Spec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let (name, spec, bytes) = match kind % 3 {
        0 => ("shard-000000.tar", format!("shards:{}", folder.path().display()), rest.to_vec()),
        1 => ("a.tfrecord", format!("tfrecord:{}", path("a.tfrecord").display()), record(rest)),
        _ => ("pairs.tsv", format!("pairs:{}", path("pairs.tsv").display()), rest.to_vec()),
    };
    std::fs::write(path(name), bytes).expect("a temporary file");
    let Ok(spec) = spec.parse::<Spec>() else { return };
    let Ok(source) = spec.open() else { return };
    for index in 0..source.len().unwrap_or(0).min(4) {
        let _ = source.get(index);
    }
});

/// One record with the right checksums: a wrong one is refused before anything is read.
fn record(bytes: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}
