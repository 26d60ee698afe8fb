//! What tests of several crates share; never part of the product.

mod flo5;

use std::path::{Path, PathBuf};

pub use flo5::flo5;

/// A file or folder of the test data beside the checkout, `../shared` or what `FERROFLOW_SHARED` names. `None`, said aloud, where it
/// is not there: the test is then to be left out.
///
/// # Panics
/// If it is not there and `FERROFLOW_REQUIRE_SHARED` is 1.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERROFLOW_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    let required = std::env::var_os("FERROFLOW_REQUIRE_SHARED").is_some_and(|value| value == "1");
    assert!(!required, "{} is not there, and FERROFLOW_REQUIRE_SHARED=1", found.display());
    eprintln!("skipped: {} is not there", found.display());
    None
}
