//! What every target does: imports files that may be anything, within the memory that their size allows.

use std::collections::BTreeMap;

use ferroflow_net::weights::{Extra, convert, import};

pub fn import(files: &[(&str, &[u8])]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a temporary file");
    }
    let Ok(file) = import::import(&folder.path().join(files[0].0)) else { return };
    let values: usize = file.contents.tensors.iter().map(|t| t.data.len()).sum();
    let given: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(4 * values as u64 <= import::EXPANSION * given as u64 + 4096);
    // Of one network: to try every one would leave little time for the readers.
    let _ = convert(file, Some(("lightflow-0.5", &BTreeMap::new())), Extra::Ignore);
}
