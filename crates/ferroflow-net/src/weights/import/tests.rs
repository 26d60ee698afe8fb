//! Real files of every format, and files that lie.

use super::*;
use crate::weights::formula::Stream;

mod samples;
use samples::samples;

pub(crate) use ferroflow_testing::shared;

/// A golden table: name, shape, scale, offset of every tensor but counters.
pub(crate) fn table(model: &str) -> Option<Vec<(String, Vec<usize>, f64, f64)>> {
    let text = std::fs::read(shared(&format!("golden/tables/{model}.json"))?).unwrap();
    let table: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let rows = table["tensors"].as_array().unwrap().iter().filter(|row| row["kind"] != "count");
    let row = |row: &serde_json::Value| {
        let shape = row["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
        (
            row["name"].as_str().unwrap().to_string(),
            shape,
            row["scale"].as_f64().unwrap(),
            row["offset"].as_f64().unwrap(),
        )
    };
    Some(rows.map(row).collect())
}

/// Golden file, format, table, prefix of its names, weights, skipped (optimiser, counters, others).
const GOLDEN: [(&str, Format, &str, &str, usize, [usize; 3]); 5] = [
    ("lightflow.legacy.pth.tar", Format::PytorchLegacy, "lightflow", "", 190, [0, 38, 0]),
    ("flownet2_fusion_part.pth", Format::PytorchZip, "FlowNet2", "module.", 28, [0, 0, 0]),
    ("tfoptflow_part", Format::TensorflowBundle, "tfoptflow_sm", "", 32, [66, 1, 0]),
    ("uflow_part/ckpt-1.index", Format::TensorflowBundle, "uflow_default", "", 30, [0, 2, 1]),
    ("uflow_mindspore_part.ckpt", Format::Mindspore, "uflow_mindspore", "", 30, [63, 1, 0]),
];

#[test]
fn every_container_gives_the_formula_values() {
    for (file, format, model, prefix, weights, [optimiser, counters, other]) in GOLDEN {
        let (Some(path), Some(table)) = (shared(&format!("golden/checkpoints/{file}")), table(model)) else { return };
        let imported = import(&path).unwrap();
        assert_eq!(imported.format, format, "{file}");
        assert_eq!(imported.sha256.len(), 64);
        assert_eq!(imported.contents.skipped, Skipped { optimiser, counters, other }, "{file}");
        assert_eq!(imported.contents.tensors.len(), weights, "{file}");
        for tensor in &imported.contents.tensors {
            let name = tensor.name.strip_prefix(prefix).unwrap();
            let (_, shape, scale, offset) = table.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(&tensor.shape, shape, "{file}: {name}");
            let expected = Stream::new("ferroflow-golden", name).tensor(tensor.data.len(), *scale, *offset);
            assert_eq!(tensor.data, expected, "{file}: {name}");
        }
    }
}

#[test]
fn what_stands_beside_the_weights_is_kept() {
    let Some(path) = shared("golden/checkpoints/lightflow.legacy.pth.tar") else { return };
    let imported = import(&path).unwrap();
    assert_eq!((imported.epoch(), imported.step()), (Some(7), None));
    assert_eq!(imported.metrics(), BTreeMap::from([("best_EPE".to_string(), 3.25)]));
    assert_eq!(imported.contents.words["arch"], "flownetl");
    let Some(path) = shared("golden/checkpoints/tfoptflow_part/pwcnet.ckpt-176000") else { return };
    assert_eq!(import(&path).unwrap().step(), Some(176_000));
}

#[test]
fn a_real_legacy_file_of_python_2_is_read() {
    let Some(path) = shared("data/weights/nvlabs-mff/fusion_net.pth.tar") else { return };
    let imported = import(&path).unwrap();
    assert_eq!(imported.format, Format::PytorchLegacy);
    let values: usize = imported.contents.tensors.iter().map(|t| t.data.len()).sum();
    assert_eq!((imported.contents.tensors.len(), values), (28, 580_074));
}

/// Small files cut at every length (a tar, mostly padding, at six hundred): each is either refused with an error or, cut behind its last value, read.
#[test]
fn truncated_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in samples(dir.path()) {
        let whole = import(&write(dir.path(), &name, &bytes)).unwrap();
        assert_eq!(whole.contents.tensors.len(), 2, "{name}");
        for length in (0..bytes.len()).step_by(bytes.len().div_ceil(600)) {
            match import(&write(dir.path(), &name, &bytes[..length])) {
                Err(error) => assert!(!error.to_string().is_empty()),
                // A tar's padding is no loss; MindSpore's file has no end mark and can be cut between two values.
                Ok(part) if part.contents == whole.contents => {
                    assert_eq!(part.format, Format::PytorchTar, "{name} at {length}")
                }
                Ok(part) => {
                    assert!(part.format == Format::Mindspore && part.contents.tensors.len() < 2, "{name} at {length}")
                }
            }
        }
    }
}

/// Changed bytes give an error or other values, never a panic or a large allocation.
#[test]
fn mutated_files_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in samples(dir.path()) {
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(150)) {
            for change in [0x01, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                if let Ok(read) = import(&write(dir.path(), &name, &changed)) {
                    let values: usize = read.contents.tensors.iter().map(|t| t.data.len()).sum();
                    assert!(4 * values as u64 <= EXPANSION * bytes.len() as u64 + 4096, "{name} at {at}");
                }
            }
        }
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn files_that_lie_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, word) in samples::hostile() {
        let error = import(&write(dir.path(), name, &bytes)).expect_err(name).to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
}

#[test]
fn files_that_are_taken_for_checkpoints_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, words) in samples::mistaken() {
        let error = import(&write(dir.path(), name, &bytes)).expect_err(name);
        assert!(matches!(error, ImportError::NotWeights { .. }), "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn averaged_weights_are_named_and_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let read = |keys: &[&str], key| import_entry(&write(dir.path(), "net.pt", &samples::checkpoint(keys)), key);
    for (keys, key, taken, others) in [
        (&["state_dict", "state_dict_ema"][..], None, "state_dict", &["state_dict_ema"][..]),
        (&["state_dict", "state_dict_ema"], Some("state_dict_ema"), "state_dict_ema", &["state_dict"]),
        (&["model", "ema"], None, "model", &["ema"]),
        (&["ema_state_dict"], None, "ema_state_dict", &[]),
        (&["model_ema"], None, "model_ema", &[]),
        (&["teacher", "student"], Some("student"), "student", &[]),
    ] {
        let contents = read(keys, key).unwrap().contents;
        let names: Vec<&str> = contents.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a.weight", "b"], "{keys:?}");
        assert_eq!(
            (contents.entry.as_deref(), &contents.other_entries[..]),
            (Some(taken), &others.iter().map(|o| o.to_string()).collect::<Vec<_>>()[..])
        );
        assert_eq!(contents.skipped.other, 2 * (keys.len() - 1), "{keys:?}");
    }
    let error = read(&["model", "ema"], Some("averaged")).unwrap_err().to_string();
    assert!(error.contains("there are ema, model"), "{error}");
    let (name, bytes) = samples(dir.path()).into_iter().find(|(name, _)| name.ends_with(".safetensors")).unwrap();
    let path = write(dir.path(), &name, &bytes);
    assert_eq!(import_entry(&path, Some("a")).unwrap().contents.tensors[0].name, "weight");
    assert!(matches!(import_entry(&path, Some("c")), Err(ImportError::NoEntry { .. })));
}

#[test]
#[ignore = "writes the seeds of the fuzz targets"]
fn write_fuzz_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, bytes) in samples(dir.path()) {
        let (target, bytes) = match name.rsplit_once('.').unwrap().1 {
            "ckpt" => ("mindspore", bytes),
            "safetensors" => ("safetensors", bytes),
            "index" => {
                let shard = std::fs::read(dir.path().join("bundle.data-00000-of-00001")).unwrap();
                ("tensorflow", [&(bytes.len() as u16).to_le_bytes()[..], &bytes, &shard].concat())
            }
            _ => ("pytorch", bytes),
        };
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(name), bytes).unwrap();
    }
}
