//! Tests across modules, some on real files that are not part of the repository.

mod formats;
mod golden_metrics;
mod golden_occlusion;
mod real_files;

use std::path::PathBuf;

/// A path among the shared test files, which lie beside the repository or where `FERROFLOW_SHARED` says; `None`, with a
/// line that says so, where they are absent.
fn shared(relative: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("FERROFLOW_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = root.join(relative);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}
