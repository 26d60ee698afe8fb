//! Runs the cases.

use std::marker::PhantomData;

use ferroflow_cpu::reference::{Tensor, resize};
use ferroflow_net::graph::{Filter, Grid, Param};
use ferroflow_net::weights::formula::image_pair;
use ferroflow_net::{Model, Weights};

use super::cases::{self, Case, Images, Target};
use super::compare::{Tolerance, compare};
use super::executor::{Executor, Planned, Reference};
use super::shared::{Array, Input, SEED, golden, read};

const F32: &dyn Executor = &Reference::<f32>(PhantomData);
const F64: &dyn Executor = &Reference::<f64>(PhantomData);

/// Names, height and width.
fn pairs(images: Images) -> (&'static [&'static str], usize, usize) {
    match images {
        Images::A => (&["a0", "a1"], 128, 192),
        Images::B | Images::BPadded => (&["b0"], 64, 64),
        Images::U => (&["u0", "u1"], 160, 192),
        Images::U0 => (&["u0"], 160, 192),
    }
}

fn input(images: Images) -> Input {
    let (names, height, width) = pairs(images);
    let whole = Input::set(names, height, width);
    if images == Images::BPadded { whole.cropped(54, 59).padded(height, width) } else { whole }
}

/// `NAME@everyK` holds elements 0, K, 2K, ... and `NAME@flat` all.
fn sampling(name: &str) -> (&str, usize) {
    match name.split_once('@') {
        None => (name, 1),
        Some((name, "flat")) => (name, 1),
        Some((name, every)) => (name, every.strip_prefix("every").unwrap().parse().unwrap()),
    }
}

/// Formula weights, kept from case to case as long as the parameters are the same.
#[derive(Default)]
struct Formula(Option<(Vec<Param>, Weights)>);

impl Formula {
    fn of(&mut self, model: &Model) -> &Weights {
        let params = &model.graph.params;
        // `normalize=off` changes UFlow's formula, not its parameters.
        if self.0.as_ref().is_none_or(|(kept, _)| kept != params || model.name == "uflow") {
            self.0 = Some((params.clone(), Weights::formula(model, SEED)));
        }
        &self.0.as_ref().unwrap().1
    }
}

fn run_cases(executor: &dyn Executor, cases: &[Case]) {
    let Some(golden) = golden() else { return };
    let mut wrong = Vec::new();
    let mut formula = Formula::default();
    for case in cases {
        let model = Model::parse(case.model, case.options).unwrap();
        let weights = formula.of(&model);
        let input = input(case.images);
        let values = executor.run(&model, weights, &input);
        let file = read(&golden.join(format!("{}.safetensors", case.file)));
        let mut reversed = None;
        let mut compared = 0;
        for (name, theirs) in &file {
            let Some(name) = name.strip_prefix(case.prefix) else { continue };
            let (name, every) = sampling(name);
            let what = format!("{} {}{:?} {name} ({})", case.file, case.prefix, case.options, executor.name());
            let (ours, factor, tolerance) = match (case.target)(name) {
                Target::Node(node, factor, tolerance) => (values(&node), factor, tolerance),
                Target::Reversed(node, factor, tolerance) => {
                    let values = reversed.get_or_insert_with(|| executor.run(&model, weights, &input.reversed()));
                    (values(&node), factor, tolerance)
                }
                Target::FlowSwapped(tolerance) => (values("flow").map(exchanged), 1.0, tolerance),
                Target::EndPointError => {
                    let error = values("flow").map(|flow| end_point_error(&flow, case.images));
                    (error, 1.0, Tolerance::Absolute(2e-4, 2e-4))
                }
                Target::Elsewhere(reason) => {
                    println!("{what}: {reason}");
                    continue;
                }
                Target::Unknown => {
                    wrong.push(format!("{what}: no case knows it"));
                    continue;
                }
            };
            match ours {
                Some(ours) => {
                    let theirs: Vec<f32> = theirs.data.iter().map(|v| v * factor).collect();
                    let sampled = ours.data.iter().step_by(every).take(theirs.len());
                    let ours: Vec<f32> = sampled.map(|v| v * factor).collect();
                    wrong.extend(compare(&what, &ours, &theirs, tolerance).err());
                    compared += 1;
                }
                None if executor.keeps_all() => wrong.push(format!("{what}: not among the values")),
                None => {}
            }
        }
        assert!(compared > 0, "{} compares nothing", case.file);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Mean distance to the true flow.
fn end_point_error(flow: &Array, images: Images) -> Array {
    let (names, height, width) = pairs(images);
    let plane = height * width;
    let truth = names.iter().flat_map(|name| image_pair(SEED, name, height, width).flow);
    let apart: Vec<f64> = flow.data.iter().zip(truth).map(|(a, b)| f64::from(a - b)).collect();
    let lengths = apart.chunks_exact(2 * plane).flat_map(|d| (0..plane).map(|i| d[i].hypot(d[plane + i])));
    let mean = lengths.sum::<f64>() / (names.len() * plane) as f64;
    Array { shape: Vec::new(), data: vec![mean as f32] }
}

/// (u, v) to (v, u)
fn exchanged(flow: Array) -> Array {
    let plane = flow.shape[2] * flow.shape[3];
    let data = flow.data.chunks_exact(2 * plane).flat_map(|p| [&p[plane..], &p[..plane]].concat()).collect();
    Array { shape: flow.shape, data }
}

macro_rules! groups {
    ($($name:ident: $cases:ident, exact: $exact:literal $(, ignore = $reason:literal)?;)*) => {
        /// By the plain interpreter: the definition.
        mod reference {
            $(
                #[test]
                $(#[ignore = $reason])?
                fn $name() {
                    super::run_cases(super::F32, super::cases::$cases);
                }
            )*
        }

        /// By the inference plan: what users run.
        mod plan {
            $(
                #[test]
                fn $name() {
                    super::run_cases(&super::Planned { exact: $exact }, super::cases::$cases);
                }
            )*
        }

        const GROUPS: &[&[Case]] = &[$(cases::$cases),*];
    };
}

groups! {
    flownet_s: FLOWNET_S, exact: false;
    flownet_c: FLOWNET_C, exact: false;
    flownet_sd: FLOWNET_SD, exact: false;
    flownet2_cs: FLOWNET2_CS, exact: false;
    flownet2_css: FLOWNET2_CSS, exact: false;
    flownet2: FLOWNET2, exact: false;
    flownet2_large: FLOWNET2_LARGE, exact: false, ignore = "a minute on two cores; the plan runs it always";
    pwcnet: PWCNET, exact: false;
    tfoptflow: TFOPTFLOW, exact: false;
    uflow: UFLOW, exact: false;
    // Flows of up to 26 level pixels: Winograd is off by 6e-4 there, plain sums by 1e-4 of the 2e-4 allowed.
    uflow_no_cost_volume: UFLOW_NO_COST_VOLUME, exact: true;
    lightflow: LIGHTFLOW, exact: false;
}

/// The references in double precision: what is left is the rounding of the stored numbers and of a few constants.
#[test]
fn double_precision() {
    let Some(golden) = golden() else { return };
    let mut wrong = Vec::new();
    for (file, name, node, model, options, images) in [
        ("flownet2/nvidia_FlowNet2C_b", "flow_f64", "flow", "flownet2-c", &[][..], Images::B),
        ("flownet2/nvidia_FlowNet2S_bn_b", "flow_f64", "flow", "flownet2-s-bn", &[], Images::B),
        ("flownet2/nvidia_FlowNet2_b", "flow_f64", "flow", "flownet2", &[], Images::B),
        ("flownet2/ptlflow_flownet2_b", "flow_f64", "flow", "flownet2", &["variant=ptlflow"], Images::B),
        ("pwcnet/nvlabs_pwcdcnet_b", "flow2_f64", "flow2", "pwcnet", &[], Images::B),
        ("pwcnet/sniklaus_pwcnet_b", "flow2x20_f64", "flow2.pixels", "pwcnet", &["variant=sniklaus"], Images::B),
        ("pwcnet/tfoptflow_lg_b", "flow2_f64", "flow2", "pwcnet-lg-6-2", &[], Images::B),
        ("lightflow/eval_a", "flow_f64", "flow2", "lightflow", &[], Images::A),
    ] {
        let model = Model::parse(model, options).unwrap();
        let values = F64.run(&model, &Weights::formula(&model, SEED), &input(images));
        let theirs = &read(&golden.join(format!("{file}.safetensors")))[name];
        let what = format!("{file} {name}");
        wrong.extend(compare(&what, &values(node).unwrap().data, &theirs.data, Tolerance::Absolute(1e-5, 1e-6)).err());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn resized(input: &Input, height: usize, width: usize, round: bool) -> Input {
    input.each(height, width, |frame| {
        let frame = Tensor::<f32>::from_f32([1, 3, input.height, input.width], frame).unwrap();
        let resized = resize(&frame, height, width, Filter::Bilinear, Grid::HalfPixel).data;
        if round { resized.iter().map(|v| v.round()).collect() } else { resized }
    })
}

/// Frames of any size: resized or padded to fit, the flow brought back.
#[test]
fn frames_that_do_not_fit() {
    let Some(golden) = golden() else { return };
    let mut wrong = Vec::new();
    let mut check = |file: &str, name: &str, every, model: &str, options: &[&str], input: Input, swap, tolerance| {
        let model = Model::parse(model, options).unwrap();
        let flow = F32.run(&model, &Weights::formula(&model, SEED), &input)("flow").unwrap();
        let flow = if swap { exchanged(flow) } else { flow };
        let ours: Vec<f32> = flow.data.into_iter().step_by(every).collect();
        let theirs = &read(&golden.join(format!("{file}.safetensors")))[name];
        wrong.extend(compare(&format!("{file} {name}"), &ours, &theirs.data, tolerance).err());
    };
    let b = Input::set(&["b0"], 64, 64).cropped(54, 59);
    let fit = |input: Input, output| Input { output, ..input };
    let sniklaus = "pwcnet/sniklaus_pwcnet_b";
    let px = Tolerance::Absolute(2e-3, 2e-4);
    let input = fit(resized(&b, 64, 64, false), (54, 59));
    check(sniklaus, "estimate_cropped_input", 1, "pwcnet", &["variant=sniklaus"], input, false, px);
    // OpenCV resizes 8-bit frames in fixed point: a grey level of difference.
    let input = fit(resized(&b, 64, 64, true), (54, 59));
    check(sniklaus, "nvlabs_script_cropped_input", 1, "pwcnet", &[], input, false, Tolerance::Absolute(0.3, 0.03));

    let u = Input::set(&["u0", "u1"], 160, 192);
    let px = Tolerance::Absolute(1e-3, 1e-4);
    let options = &["normalize-over=batch"];
    let google = "uflow/google_model";
    let input = fit(resized(&u.cropped(153, 183), 160, 192, false), (153, 183));
    check(google, "infer_flow_odd@every55", 55, "uflow", options, input, true, px);
    let input = fit(resized(&u, 160, 224, false), (160, 192));
    check(google, "infer_flow_resized@every61", 61, "uflow", options, input, true, px);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // Zeros below and to the right: the flow is cut back.
    let model = Model::named("pwcnet-lg-6-2").unwrap();
    let flow = F32.run(&model, &Weights::formula(&model, SEED), &b.padded(64, 64))("flow").unwrap();
    let cut: Vec<f32> =
        flow.data.chunks_exact(64 * 64).flat_map(|p| (0..54).flat_map(|y| p[y * 64..][..59].to_vec())).collect();
    let theirs = &read(&golden.join("pwcnet/tfoptflow_lg_b.safetensors"))["flow_cropped_input"];
    compare("tfoptflow_lg_b flow_cropped_input", &cut, &theirs.data, Tolerance::Absolute(5e-3, 3e-4)).unwrap();
}

/// Every forward file is in a case: none is forgotten.
#[test]
fn no_file_is_left_out() {
    let Some(golden) = golden() else { return };
    let known: Vec<&str> = GROUPS.iter().copied().flatten().map(|c| c.file).collect();
    let training = ["train", "losses", "masks"];
    for folder in ["flownet2", "pwcnet", "uflow", "lightflow"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = format!("{folder}/{}", name.trim_end_matches(".safetensors"));
            let is_training = training.iter().any(|word| stem.contains(word));
            assert!(is_training || known.contains(&stem.as_str()), "{stem} has no case");
        }
    }
}
