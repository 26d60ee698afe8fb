use super::*;
use crate::weights::import::{Format, Imported, import};
use crate::weights::{Extra, Provenance, Weights, convert};

fn stored(name: &str) -> store::Stored {
    let model = Model::named(name).unwrap();
    store::Stored { weights: Weights::random(&model.graph, 3), model, provenance: Provenance::default() }
}

fn exported(path: &Path, stored: &store::Stored, target: Target) -> Imported {
    export(path, stored, target).unwrap();
    for file in files(path, target) {
        assert!(file.is_file(), "{}", file.display());
    }
    import(path).unwrap()
}

#[test]
fn what_goes_out_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    for (name, target, format) in [
        ("lightflow-0.5", Target::Pytorch, Format::PytorchLegacy),
        ("lightflow-0.5", Target::PytorchSafetensors, Format::Safetensors),
        ("lightflow-0.5", Target::Mindspore, Format::Mindspore),
        ("uflow-mindspore", Target::Mindspore, Format::Mindspore),
        ("uflow", Target::PytorchSafetensors, Format::Safetensors),
        ("uflow", Target::Tensorflow, Format::TensorflowBundle),
        ("pwcnet-sm", Target::Tensorflow, Format::TensorflowBundle),
    ] {
        let stored = stored(name);
        let file = exported(&folder.path().join(format!("{name} {format}")), &stored, target);
        assert_eq!(file.format, format);
        let back = convert(file, None, Extra::Refuse).unwrap().stored;
        assert_eq!((back.model.name, back.weights), (name, stored.weights));
    }
}

/// What training scripts read beside the weights.
#[test]
fn what_is_known_of_a_run_goes_out_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::parse("lightflow-0.5", ["div-flow=1"]).unwrap();
    let provenance = Provenance {
        metrics: [("best_EPE".to_string(), 3.25)].into(),
        notes: [("epoch".to_string(), "7".to_string())].into(),
        ..Provenance::default()
    };
    let stored = store::Stored { weights: Weights::random(&model.graph, 3), model, provenance };
    let file = exported(&folder.path().join("a.pth.tar"), &stored, Target::Pytorch);
    assert_eq!((file.epoch(), file.metrics()["best_EPE"]), (Some(7), 3.25));
    assert_eq!((file.contents.words["arch"].as_str(), file.contents.numbers["div_flow"]), ("flownetl", 1.0));
    assert_eq!(convert(file, None, Extra::Refuse).unwrap().stored.model.options["div-flow"], "1");
}

#[test]
fn no_file_is_written_that_its_framework_could_not_use() {
    let folder = tempfile::tempdir().unwrap();
    for (name, target, way) in
        [("pwcnet-sm", Target::Pytorch, "for TensorFlow"), ("lightflow-0.5", Target::Tensorflow, "for PyTorch")]
    {
        let error = export(&folder.path().join("x"), &stored(name), target).unwrap_err().to_string();
        assert!(error.ends_with(way), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
