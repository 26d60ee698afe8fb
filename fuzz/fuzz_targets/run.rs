//! What lies in the folder of a run: weights, a checkpoint, a recipe. The first byte says which.
#![no_main]

use std::sync::LazyLock;

use ferroflow_net::{Model, weights::store};
use ferroflow_train::{Recipe, checkpoint};

static SMALL: LazyLock<Model> = LazyLock::new(|| Model::named("lightflow-0.5").expect("a network"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => drop(store::read_from(rest)),
        1 => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("step-000000001.safetensors");
            std::fs::write(&path, rest).expect("a temporary file");
            let _ = checkpoint::read(&path, &SMALL.graph);
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(rest)
                && let Ok(recipe) = Recipe::parse("fuzz", text, &[""; 0])
            {
                // What is written out is the same recipe.
                assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).expect("a recipe"), recipe);
            }
        }
    }
});
