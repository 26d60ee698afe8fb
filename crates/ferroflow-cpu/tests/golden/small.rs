//! The product's own golden flows, for when the large set is not at hand.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use ferroflow_net::weights::formula::image_pair;
use ferroflow_net::{Model, Weights};

use super::compare::{Tolerance, compare};
use super::executor::{Executor, Planned, Reference};
use super::shared::Input;

const SEED: &str = "ferroflow";
const SIZE: usize = 64;
/// Samples of each flow: every 128th number.
const EVERY: usize = 2 * SIZE * SIZE / 64;

/// One line each: what is proved, and whose network it is.
const NETWORKS: &[(&str, &[&str])] = &[
    ("flownet2-s", &[]),
    ("flownet2-s-bn", &[]),
    ("flownet2-c", &[]),
    ("flownet2-sd", &[]),
    ("flownet2-cs", &["variant=ascend"]),
    ("flownet2-css", &["variant=mindspore"]),
    ("flownet2", &[]),
    ("flownet2", &["variant=ptlflow"]),
    ("flownet2", &["variant=caffe"]),
    ("pwcnet", &[]),
    ("pwcnet-old", &[]),
    ("pwcnet-nodc", &[]),
    ("pwcnet-sm", &[]),
    ("pwcnet-lg-6-2", &[]),
    ("pwcnet-dense", &[]),
    ("pwcnet-res", &[]),
    ("uflow", &[]),
    ("uflow", &["cost-volume=off", "shared-decoder=on", "accumulate-flow=off"]),
    ("uflow-mindspore", &[]),
    ("lightflow", &[]),
    ("lightflow-0.75", &[]),
    ("lightflow-0.5", &[]),
];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/small.json")
}

fn label(name: &str, options: &[&str]) -> String {
    std::iter::once(&name).chain(options).copied().collect::<Vec<_>>().join(" ")
}

fn samples(executor: &dyn Executor, name: &str, options: &[&str]) -> Vec<f32> {
    let model = Model::parse(name, options).unwrap();
    let weights = Weights::formula(&model, SEED);
    let pair = image_pair(SEED, "small", SIZE, SIZE);
    let frames = [&pair.first, &pair.second].map(|f| f.iter().map(|&v| f32::from(v)).collect());
    let input = Input { batch: 1, height: SIZE, width: SIZE, output: (SIZE, SIZE), frames };
    executor.run(&model, &weights, &input)("flow").unwrap().data.into_iter().step_by(EVERY).collect()
}

#[test]
fn flows_are_as_stored() {
    let text = std::fs::read_to_string(path()).unwrap();
    let stored: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    assert_eq!(stored.len(), NETWORKS.len());
    let mut wrong = Vec::new();
    for (name, options) in NETWORKS {
        let label = label(name, options);
        let ours = samples(&Planned { exact: false }, name, options);
        // Tens of pixels through up to four networks in single precision; a wrong rule is off by 0.01 px or more.
        wrong.extend(compare(&label, &ours, &stored[&label], Tolerance::Absolute(2e-3, 3e-4)).err());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `cargo test --release -p ferroflow-cpu --test golden -- --ignored regenerate`
#[test]
#[ignore = "writes small.json from the double-precision interpreter; run it when a network changes on purpose"]
fn regenerate() {
    let flows: Vec<String> = NETWORKS
        .iter()
        .map(|(name, options)| {
            let flow = samples(&Reference::<f64>(PhantomData), name, options);
            format!("{}: {}", serde_json::json!(label(name, options)), serde_json::json!(flow))
        })
        .collect();
    std::fs::write(path(), format!("{{\n{}\n}}\n", flows.join(",\n"))).unwrap();
}
