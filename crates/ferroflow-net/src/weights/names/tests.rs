use std::collections::BTreeMap;

use super::*;
use crate::weights::Weights;
use crate::weights::formula::Stream;
use crate::weights::import::tests::table;
use crate::weights::import::{Contents, Tensor};

fn file(format: Format, tensors: Vec<Tensor>) -> Imported {
    let contents = Contents { tensors, ..Contents::default() };
    Imported { format, source: String::new(), sha256: String::new(), contents }
}

/// A golden table's names and shapes, without values.
fn hollow(format: Format, model: &str) -> Option<Imported> {
    let tensors = table(model)?.into_iter().map(|(name, shape, ..)| Tensor { name, shape, data: Vec::new() });
    Some(file(format, tensors.collect()))
}

const TABLES: [(&str, &str, Format, &[(&str, &str)]); 25] = [
    ("FlowNet2", "flownet2", Format::PytorchZip, &[]),
    ("FlowNet2", "flownet2", Format::Mindspore, &[("variant", "mindspore")]),
    ("FlowNet2C", "flownet2-c", Format::PytorchTar, &[]),
    ("FlowNet2C_bn", "flownet2-c-bn", Format::PytorchZip, &[]),
    ("FlowNet2CS", "flownet2-cs", Format::PytorchLegacy, &[]),
    ("FlowNet2CSS", "flownet2-css", Format::PytorchZip, &[]),
    ("FlowNet2S", "flownet2-s", Format::PytorchZip, &[]),
    ("FlowNet2SD", "flownet2-sd", Format::PytorchZip, &[]),
    ("FlowNet2S_bn", "flownet2-s-bn", Format::PytorchZip, &[]),
    ("lightflow", "lightflow", Format::PytorchLegacy, &[]),
    ("pwcdcnet", "pwcnet", Format::PytorchZip, &[]),
    ("pwcdcnet_old", "pwcnet-old", Format::PytorchZip, &[]),
    ("pwcnet_nodc", "pwcnet-nodc", Format::PytorchZip, &[]),
    ("tfoptflow_dense", "pwcnet-dense", Format::TensorflowBundle, &[]),
    ("tfoptflow_lg", "pwcnet-lg-6-2", Format::TensorflowBundle, &[]),
    ("tfoptflow_res", "pwcnet-res", Format::TensorflowBundle, &[]),
    ("tfoptflow_sm", "pwcnet-sm", Format::TensorflowBundle, &[]),
    ("uflow_default", "uflow", Format::TensorflowBundle, &[]),
    ("uflow_mindspore", "uflow-mindspore", Format::Mindspore, &[]),
    ("uflow_no_cost_volume", "uflow", Format::TensorflowBundle, &[("cost-volume", "off")]),
    ("uflow_original_sizes", "uflow", Format::TensorflowBundle, &[("layer-sizes", "original")]),
    ("uflow_shared_decoder", "uflow", Format::TensorflowBundle, &[("shared-decoder", "on")]),
    // These compute something else with the same parameters: only the user can tell.
    ("uflow_no_accumulate", "uflow", Format::TensorflowBundle, &[]),
    ("uflow_no_normalize", "uflow", Format::TensorflowBundle, &[]),
    ("uflow_no_warp", "uflow", Format::TensorflowBundle, &[]),
];

#[test]
fn every_reference_table_is_recognised() {
    for (table, name, format, options) in TABLES {
        let Some(file) = hollow(format, table) else { return };
        let model = recognise(&file, Extra::Refuse).unwrap_or_else(|e| panic!("{table}: {e}"));
        let options: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!((model.name, &model.options), (name, &options), "{table}");
    }
}

#[test]
fn options_given_by_hand_decide_shapes_too() {
    for (table, option) in
        [("uflow_half_channels", ("channel-multiplier", "0.5")), ("uflow_level1_1x1", ("level1-1x1", "1"))]
    {
        let Some(file) = hollow(Format::TensorflowBundle, table) else { return };
        let model = network(&file, "uflow", &BTreeMap::from([(option.0.to_string(), option.1.to_string())])).unwrap();
        let difference = compare(&model, &by_parameter(&file));
        assert!(difference.is_empty(), "{table}: {difference}");
    }
}

#[test]
fn wrappers_and_foreign_names_are_taken_off() {
    let Some(mut wrapped) = hollow(Format::PytorchZip, "pwcnet_nodc") else { return };
    wrapped.contents.tensors.iter_mut().for_each(|t| t.name.insert_str(0, "module.model."));
    wrapped.contents.words.insert("pytorch-lightning_version".into(), "2.0".into());
    assert_eq!(recognise(&wrapped, Extra::Refuse).unwrap().name, "pwcnet-nodc");

    let Some(mut light) = hollow(Format::PytorchZip, "lightflow") else { return };
    light.contents.numbers.insert("div_flow".into(), 10.0);
    assert_eq!(recognise(&light, Extra::Refuse).unwrap().options["div-flow"], "10");

    let Some(mut norms) = hollow(Format::Mindspore, "FlowNet2S_bn") else { return };
    for t in &mut norms.contents.tensors {
        let (layer, last) = t.name.rsplit_once('.').unwrap();
        let last = match last {
            "running_mean" => "moving_mean",
            "running_var" => "moving_variance",
            "weight" if layer.ends_with(".1") => "gamma",
            "bias" if layer.ends_with(".1") => "beta",
            other => other,
        };
        t.name = format!("{layer}.{last}");
    }
    assert_eq!(recognise(&norms, Extra::Refuse).unwrap().name, "flownet2-s-bn");
}

#[test]
fn sniklaus_names_are_nvlabs_parameters() {
    for (theirs, ours) in [
        ("moduleExtractor.moduleOne.0.weight", "conv1a.0.weight"),
        ("moduleExtractor.moduleThr.2.bias", "conv3aa.0.bias"),
        ("netExtractor.netSix.0.weight", "conv6aa.0.weight"),
        ("netExtractor.netSix.2.weight", "conv6a.0.weight"),
        ("moduleSix.moduleOne.0.weight", "conv6_0.0.weight"),
        ("moduleTwo.moduleFiv.0.bias", "conv2_4.0.bias"),
        ("moduleFou.moduleSix.0.weight", "predict_flow4.weight"),
        ("moduleFiv.moduleUpflow.weight", "deconv6.weight"),
        ("moduleTwo.moduleUpfeat.bias", "upfeat3.bias"),
        ("moduleRefiner.moduleMain.0.weight", "dc_conv1.0.weight"),
        ("moduleRefiner.moduleMain.12.bias", "dc_conv7.bias"),
    ] {
        assert_eq!(sniklaus::to_nvlabs(theirs).as_deref(), Some(ours), "{theirs}");
    }
}

#[test]
fn uflow_cells_have_one_canonical_name() {
    for name in ["_feature_model._conv1.weight", "_conv1.weight", "network._teacher_feature_model._conv1.weight"] {
        assert_eq!(uflow::canonical(name).as_deref(), Some("_teacher_feature_model._conv1.weight"));
    }
    assert_eq!(uflow::canonical("feature_model/_convs/0/0/kernel"), None);
    assert_eq!(uflow::canonical("conv1.0.weight"), None);
}

#[test]
fn tensorflow_values_are_transposed_both_ways() {
    let Some(rows) = table("tfoptflow_sm") else { return };
    let tensors = rows.iter().map(|(name, shape, scale, offset)| Tensor {
        name: name.clone(),
        shape: shape.clone(),
        data: Stream::new("ferroflow-golden", name).tensor(shape.iter().product(), *scale, *offset),
    });
    let file = file(Format::TensorflowBundle, tensors.collect());
    let model = recognise(&file, Extra::Refuse).unwrap();
    let weights = Weights::new(&model.graph, assign(file.clone(), &model, Extra::Refuse).unwrap()).unwrap();
    for (param, values) in model.graph.params.iter().zip(weights.iter()) {
        let tensor = file.contents.tensors.iter().find(|t| t.name == param.name).unwrap();
        if let (&[kh, kw, c, d], &[x, y, ..]) = (&tensor.shape[..], &param.shape[..]) {
            assert_eq!((x, y), (d, c), "{}", param.name);
            // The value at row 1, column 2, first channel index 0, second 1.
            let (r, s, i, j) = (1, 2, c - 1, 1);
            assert_eq!(values[((j * c + i) * kh + r) * kw + s], tensor.data[((r * kw + s) * c + i) * d + j]);
        }
        assert_eq!(model.layout.to_stored(&param.shape, values), tensor.data);
    }
}

#[test]
fn what_does_not_fit_is_listed() {
    let Some(mut file) = hollow(Format::PytorchZip, "lightflow") else { return };
    file.contents.tensors[0].shape = vec![1, 2, 3];
    let gone = file.contents.tensors.remove(7).name;
    file.contents.tensors.push(Tensor { name: "stray".into(), shape: vec![1], data: vec![0.0] });
    let error = recognise(&file, Extra::Refuse).unwrap_err().to_string();
    for word in ["lightflow", gone.as_str(), "stray", "[1, 2, 3] instead of"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    let model = network(&file, "lightflow", &BTreeMap::new()).unwrap();
    let tensors = by_parameter(&file);
    assert_eq!((common(&model, &tensors), tensors.len()), (model.graph.params.len() - 2, model.graph.params.len()));
    assert!(matches!(assign(file, &model, Extra::Refuse), Err(MatchError::NotThese { .. })));
}

/// The shapes of state dicts that public bug reports show.
#[test]
fn checkpoint_shapes() {
    let Some(plain) = hollow(Format::PytorchZip, "pwcdcnet") else { return };
    let renamed = |name: &dyn Fn(&str) -> String| {
        let mut file = plain.clone();
        file.contents.tensors.iter_mut().for_each(|t| t.name = name(&t.name));
        file
    };
    let compiled = |name: &str| {
        let (layer, rest) = name.split_once('.').unwrap();
        format!("{layer}._orig_mod.{rest}")
    };
    let names: [&dyn Fn(&str) -> String; 5] = [
        &compiled,
        &|n| format!("module._orig_mod.{n}"),
        &|n| format!("_orig_mod.module.{n}"),
        &|n| format!("model.module.net.{n}"),
        &|n| n.replacen('.', ".module.", 1),
    ];
    for (i, name) in names.into_iter().enumerate() {
        let model = recognise(&renamed(name), Extra::Refuse).unwrap_or_else(|e| panic!("{i}: {e}"));
        assert_eq!(model.name, "pwcnet", "{i}");
    }
    // Lightning's, with a metric beside the network.
    let mut metric = renamed(&|n| format!("model.{n}"));
    metric.contents.tensors.push(Tensor { name: "metric.epe".into(), shape: vec![1], data: vec![0.0] });
    let error = recognise(&metric, Extra::Refuse).unwrap_err().to_string();
    for part in ["closest is `pwcnet`", "1 extra: metric.epe", "--ignore-extra"] {
        assert!(error.contains(part), "{error}");
    }
    let model = recognise(&metric, Extra::Ignore).unwrap();
    assert_eq!(assign(metric, &model, Extra::Ignore).unwrap().len(), model.graph.params.len());
    // Most tensors in common, however many others there are.
    let mut crowd = plain.clone();
    for i in 0..500 {
        crowd.contents.tensors.push(Tensor { name: format!("head.{i}"), shape: vec![i], data: Vec::new() });
    }
    assert!(recognise(&crowd, Extra::Refuse).unwrap_err().to_string().contains("closest is `pwcnet`"));
    let strange = renamed(&|n| format!("stem/{n}"));
    assert!(matches!(recognise(&strange, Extra::Ignore), Err(MatchError::Nothing { .. })));
    // Two names that a wrapper's removal would make one stay apart.
    let mut twice = plain.clone();
    let doubled: Vec<Tensor> =
        plain.contents.tensors.iter().map(|t| Tensor { name: format!("module.{}", t.name), ..t.clone() }).collect();
    twice.contents.tensors.extend(doubled);
    let error = recognise(&twice, Extra::Refuse).unwrap_err().to_string();
    assert!(error.contains("closest is `pwcnet`") && error.contains("module."), "{error}");
}

#[test]
fn implementations_with_the_same_parameters_are_told_of() {
    let Some(mut file) = hollow(Format::PytorchZip, "pwcdcnet") else { return };
    // Only NVlabs' has a `deconv2`.
    let model = recognise(&file, Extra::Refuse).unwrap();
    assert!(undecided(&file, &model, None).is_empty());
    file.contents.tensors.retain(|tensor| !tensor.name.contains("deconv2"));
    let model = recognise(&file, Extra::Refuse).unwrap();
    assert_eq!(undecided(&file, &model, None), ["sniklaus", "ptlflow"]);
    let given = BTreeMap::from([("variant".to_string(), "ptlflow".to_string())]);
    let chosen = network(&file, "pwcnet", &given).unwrap();
    assert!(undecided(&file, &chosen, Some(&given)).is_empty());
    file.contents.words.insert("pytorch-lightning_version".into(), "2.0".into());
    let model = recognise(&file, Extra::Refuse).unwrap();
    assert!(model.options["variant"] == "ptlflow" && undecided(&file, &model, None).is_empty());
}

/// Names and shapes of the files that people download, from the projects' own code (`raft.json` is made by
/// `ferroflow-cpu/tests/golden/raft/make.py`), each tensor with the formula's values of the parameter that it must become.
fn raft_file(label: &str, model: &Model, wrapper: &str) -> Imported {
    let tables: BTreeMap<String, Vec<(String, Vec<usize>)>> = serde_json::from_str(include_str!("raft.json")).unwrap();
    let weights = Weights::formula(model, "s");
    let values: BTreeMap<&str, &[f32]> =
        model.graph.params.iter().map(|p| p.name.as_str()).zip(weights.iter()).collect();
    let tensors =
        tables[label].iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).map(|(name, shape)| {
            let separable = !label.ends_with("small");
            let ours = raft::to_princeton(name, separable).or_else(|| raft::first_name(name)).unwrap_or(name.clone());
            let data = values.get(&ours[..]).unwrap_or_else(|| panic!("{label}: {name}")).to_vec();
            assert_eq!(data.len(), shape.iter().product::<usize>(), "{label}: {name}");
            Tensor { name: format!("{wrapper}{name}"), shape: shape.clone(), data }
        });
    file(Format::PytorchZip, tensors.collect())
}

#[test]
fn files_of_raft_and_its_heirs_are_recognised() {
    for (label, name, wrapper) in [
        ("torchvision raft_large", "raft", ""),
        ("torchvision raft_small", "raft-small", ""),
        ("Princeton raft", "raft", "module."),
        ("Princeton raft-small", "raft-small", "module."),
        ("SEA-RAFT (S)", "sea-raft-s", ""),
        ("SEA-RAFT (M)", "sea-raft-m", "module."),
        ("NeuFlow v2", "neuflow-v2", ""),
    ] {
        let model = Model::named(name).unwrap();
        let file = raft_file(label, &model, wrapper);
        let found = recognise(&file, Extra::Refuse).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!((found.name, &found.options), (name, &BTreeMap::new()), "{label}");
        assert!(undecided(&file, &found, None).is_empty());
        let weights = Weights::new(&found.graph, assign(file, &found, Extra::Refuse).unwrap()).unwrap();
        assert_eq!(weights, Weights::formula(&model, "s"), "{label}");
    }
}

/// A safetensors file holds tensors that lie in the same memory once, under either name; one that is no such second name is
/// refused.
#[test]
fn one_of_two_names_is_enough() {
    let model = Model::named("sea-raft-s").unwrap();
    for dropped in ["bn3", "downsample.1"] {
        let mut file = raft_file("SEA-RAFT (S)", &model, "");
        file.contents.tensors.retain(|t| !t.name.contains(dropped));
        assert_eq!(recognise(&file, Extra::Refuse).unwrap().name, "sea-raft-s", "{dropped}");
        assert!(assign(file, &model, Extra::Refuse).is_ok());
    }
    let mut file = raft_file("SEA-RAFT (S)", &model, "");
    file.contents.tensors.push(Tensor { name: "cnet.layer9.weight".into(), shape: vec![1], data: vec![0.0] });
    assert!(
        matches!(recognise(&file, Extra::Refuse), Err(MatchError::Unknown { closest, .. }) if closest == "sea-raft-s")
    );
}

/// Whole files as the projects save them, through the readers: `torch.save`'s archive, and safetensors.
#[test]
fn files_of_raft_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::named("raft-small").unwrap();
    let tensors = raft_file("torchvision raft_small", &model, "").contents.tensors;
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|t| (t.name, t.shape, t.data.into_iter().flat_map(f32::to_le_bytes).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let saved = dir.path().join("raft_small-00000000.safetensors");
    std::fs::write(&saved, safetensors::serialize(views, None).unwrap()).unwrap();
    let stored = crate::weights::convert(crate::weights::import::import(&saved).unwrap(), None, Extra::Refuse).unwrap();
    assert_eq!((stored.stored.model.name, stored.as_named), ("raft-small", Some(false)));
    assert_eq!(stored.stored.weights, Weights::formula(&model, "s"));
    assert_eq!(stored.stored.provenance.license, None, "nobody published this file");
}

/// torchvision's names say how the SHA-256 of a file begins: what is known of such a file is stored with its weights.
#[test]
fn published_files_have_their_licence() {
    let model = Model::named("raft").unwrap();
    let mut file = raft_file("torchvision raft_large", &model, "");
    file.source = "raft_large_C_T_SKHT_V2-ff5fadd5.pth".into();
    for (sha256, as_named, licence) in
        [("ff5fadd5".repeat(8), true, Some("BSD-3-Clause")), ("0".repeat(64), false, None)]
    {
        let converted = crate::weights::convert(Imported { sha256, ..file.clone() }, None, Extra::Refuse).unwrap();
        assert_eq!((converted.as_named, converted.stored.model.name), (Some(as_named), "raft"));
        assert_eq!(converted.stored.provenance.license.as_deref(), licence);
        assert_eq!(converted.stored.provenance.training_data.is_some(), licence.is_some());
    }
}
