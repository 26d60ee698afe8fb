//! Which file belongs to which network, and which of its arrays to which node.

use super::compare::{INTERMEDIATE, Tolerance};

/// The formula pairs of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Images {
    /// Two pairs of 128x192.
    A,
    /// One pair of 64x64.
    B,
    /// `B` cut to 54x59 and padded with zeros to 64x64.
    BPadded,
    /// Two pairs of 160x192.
    U,
    /// The first of `U`.
    U0,
}

/// A golden file, or a part of one.
pub struct Case {
    pub file: &'static str,
    /// What the names of its arrays begin with.
    pub prefix: &'static str,
    pub model: &'static str,
    pub options: &'static [&'static str],
    pub images: Images,
    pub target: fn(&str) -> Target,
}

/// What an array of a golden file is.
pub enum Target {
    /// The value of a node, compared after both are multiplied by a factor; where the node holds the features of both
    /// frames, the array holds those of the first.
    Node(String, f32, Tolerance),
    /// As `Node` of a run from the second frame to the first.
    Reversed(String, f32, Tolerance),
    /// The flow in pixels with its channels exchanged.
    FlowSwapped(Tolerance),
    /// The mean end-point error of the flow in pixels.
    EndPointError,
    /// Not compared here, for this reason.
    Elsewhere(&'static str),
    /// Nobody knows: an error.
    Unknown,
}

use Target::{Elsewhere, EndPointError, FlowSwapped, Node, Reversed, Unknown};

const F64: &str = "compared in double precision";
const FITTED: &str = "frames of another size: compared by its own test";
const FLOWNET2_PX: Tolerance = Tolerance::Absolute(1e-3, 1e-4);
const PWCNET_PX: Tolerance = Tolerance::Absolute(2e-3, 2e-4);

fn node(name: impl Into<String>) -> Target {
    Node(name.into(), 1.0, INTERMEDIATE)
}

/// `flow6`, `corr5`, ...: one of the words and a level.
fn level_of(name: &str, words: &[&str]) -> Option<String> {
    words.iter().find_map(|word| {
        let level = name.strip_prefix(word)?;
        (level.len() == 1 && level.bytes().all(|b| b.is_ascii_digit())).then(|| level.to_string())
    })
}

fn flownet2(name: &str) -> Target {
    match name {
        "flow" => return Node("flow".into(), 1.0, FLOWNET2_PX),
        "flow_f64" => return Elsewhere(F64),
        "flow_align_corners" => return Elsewhere("another upsampling grid: a case of its own"),
        "x1" | "x2" => return node(name),
        // Its predictions are 20 times pixels and of single-precision size: rounding shows.
        "flownets_d.flow2" => return Node(name.into(), 1.0, Tolerance::Absolute(1e-2, 1e-2)),
        _ => {}
    }
    let of = |network: &str, value: &str| node(format!("{network}.{value}"));
    match name {
        "resample1.out" => of("flownetc", "warped"),
        "resample1.flow" => of("flownetc", "flow"),
        "channelnorm0" => of("flownetc", "error"),
        "resample2.out" => of("flownets_1", "warped"),
        "resample2.flow" => of("flownets_1", "flow"),
        "channelnorm1" => of("flownets_1", "error"),
        "channelnorm2" => of("flownets_2", "norm"),
        "resample4.out" => of("flownets_2", "warped"),
        "resample4.flow" => of("flownets_2", "flow"),
        "channelnorm3" => of("flownets_2", "error"),
        "channelnorm4" => of("flownets_d", "norm"),
        "resample3.out" => of("flownets_d", "warped"),
        "resample3.flow" => of("flownets_d", "flow"),
        "channelnorm5" => of("flownets_d", "error"),
        _ => {
            let last = name.rsplit('.').next().unwrap_or(name);
            let known = ["corr", "conv3a", "conv3b"].contains(&last) || level_of(last, &["flow"]).is_some();
            if known { node(name) } else { Unknown }
        }
    }
}

/// A flow of 0.01 px: compared as an intermediate.
fn flownet2_tiny(name: &str) -> Target {
    if name == "flow" { node("flow") } else { flownet2(name) }
}

fn align_corners(name: &str) -> Target {
    match name {
        "flow_align_corners" => Node("flow".into(), 1.0, FLOWNET2_PX),
        _ => Elsewhere("half-pixel grid: a case of its own"),
    }
}

fn nvlabs(name: &str) -> Target {
    match name {
        "flow2" => Node(name.into(), 20.0, PWCNET_PX),
        "flow2_f64" => Elsewhere(F64),
        "flow2_raw" | "dc_conv7" => node(name),
        "warp6" => node("feat2_6"),
        _ if level_of(name, &["flow", "deconv", "upfeat", "corr", "feat1_", "warp"]).is_some() => node(name),
        _ => Unknown,
    }
}

fn sniklaus(name: &str) -> Target {
    match name {
        "flow2x20" => Node("flow2.pixels".into(), 1.0, PWCNET_PX),
        "flow2x20_f64" => Elsewhere(F64),
        "estimate_cropped_input" | "nvlabs_script_cropped_input" => Elsewhere(FITTED),
        _ => Unknown,
    }
}

fn ptlflow_pwcnet(name: &str) -> Target {
    match name {
        "flow" => Node("flow".into(), 1.0, PWCNET_PX),
        "flow2" => node("flow2_raw"),
        _ if level_of(name, &["flow", "deconv"]).is_some() => node(name),
        _ => Unknown,
    }
}

fn ptlflow_nodc(name: &str) -> Target {
    if name == "flow2" { node("flow2") } else { ptlflow_pwcnet(name) }
}

fn tfoptflow(name: &str, residual: bool) -> Target {
    match name {
        "flow" => Node("flow".into(), 1.0, Tolerance::Absolute(5e-3, 3e-4)),
        "flow2_f64" => Elsewhere(F64),
        "flow2_raw" => node(name),
        "flow_cropped_input" => Elsewhere(FITTED),
        _ => match (level_of(name, &["corr"]), name.strip_suffix("_raw")) {
            (Some(level), _) => node(format!("cost{level}")),
            (None, Some(flow)) if !residual => node(flow),
            (None, Some(_)) => node(name),
            _ if level_of(name, &["flow", "up_flow", "up_feat", "warp"]).is_some() => node(name),
            _ => Unknown,
        },
    }
}

fn tfoptflow_residual(name: &str) -> Target {
    tfoptflow(name, true)
}

fn tfoptflow_plain(name: &str) -> Target {
    tfoptflow(name, false)
}

fn uflow(name: &str) -> Target {
    const LEVEL: Tolerance = Tolerance::Absolute(2e-4, 2e-5);
    // Google counts levels from 0: features at 1/2, flows at 1/4.
    let number = name.rsplit('_').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "flow_fw_" => Node(format!("flow{}", number + 2), 1.0, LEVEL),
        "flow_bw_" => Reversed(format!("flow{}", number + 2), 1.0, LEVEL),
        "feature_" => node(format!("conv{}_2", number + 1)),
        "features1_norm_" => node(format!("features1_norm{}", number + 1)),
        "warped2_norm_" => node(format!("warped2_norm{}", number + 1)),
        "cost_" => node(format!("corr{}", number + 1)),
        "infer_flow" => FlowSwapped(Tolerance::Absolute(1e-3, 1e-4)),
        "infer_flow_odd" | "infer_flow_resized" => Elsewhere(FITTED),
        "infer_occlusion_wang" => Elsewhere("an occlusion mask: consistency is not the network's"),
        _ if name.starts_with("loss_") => Elsewhere("a loss: the trainer's tests read it"),
        _ => Unknown,
    }
}

fn lightflow(name: &str) -> Target {
    match name {
        "flow" => Node("flow2".into(), 20.0, Tolerance::Absolute(5e-4, 5e-5)),
        "flow_f64" => Elsewhere(F64),
        "real_epe" => EndPointError,
        "loss_l1" | "loss_l2" => Elsewhere("a loss: the trainer's tests read it"),
        _ if name.starts_with("conv") => node(name),
        _ => Unknown,
    }
}

const fn case(
    file: &'static str,
    model: &'static str,
    options: &'static [&'static str],
    images: Images,
    target: fn(&str) -> Target,
) -> Case {
    Case { file, prefix: "", model, options, images, target }
}

const fn variant(prefix: &'static str, options: &'static [&'static str]) -> Case {
    Case { prefix, ..case("uflow/google_variants", "uflow", options, Images::U, uflow) }
}

const MINDSPORE: &[&str] = &["variant=mindspore"];
const ASCEND: &[&str] = &["variant=ascend"];
const PTLFLOW: &[&str] = &["variant=ptlflow"];
const ALIGN: &[&str] = &["upsample-grid=align-corners"];
const BATCH: &str = "normalize-over=batch";

use Images::{A, B, BPadded, U, U0};

/// One group per set of weights.
pub const FLOWNET_S: &[Case] = &[
    case("flownet2/nvidia_FlowNet2S_a", "flownet2-s", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2S_b", "flownet2-s", &[], B, flownet2),
    case("flownet2/mindspore_FlowNet2S_b", "flownet2-s", MINDSPORE, B, flownet2),
    case("flownet2/ptlflow_flownets_b", "flownet2-s", PTLFLOW, B, flownet2),
    case("flownet2/nvidia_FlowNet2S_bn_a", "flownet2-s-bn", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2S_bn_b", "flownet2-s-bn", &[], B, flownet2),
];

pub const FLOWNET_C: &[Case] = &[
    case("flownet2/nvidia_FlowNet2C_a", "flownet2-c", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2C_b", "flownet2-c", &[], B, flownet2),
    case("flownet2/nvidia_FlowNet2C_b", "flownet2-c", ALIGN, B, align_corners),
    case("flownet2/mindspore_FlowNet2C_b", "flownet2-c", MINDSPORE, B, flownet2),
    case("flownet2/ptlflow_flownetc_b", "flownet2-c", PTLFLOW, B, flownet2),
    case("flownet2/nvidia_FlowNet2C_bn_a", "flownet2-c-bn", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2C_bn_b", "flownet2-c-bn", &[], B, flownet2),
];

pub const FLOWNET_SD: &[Case] = &[
    case("flownet2/nvidia_FlowNet2SD_a", "flownet2-sd", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2SD_b", "flownet2-sd", &[], B, flownet2),
    case("flownet2/mindspore_FlowNet2SD_b", "flownet2-sd", MINDSPORE, B, flownet2),
    case("flownet2/ptlflow_flownetsd_b", "flownet2-sd", PTLFLOW, B, flownet2_tiny),
];

pub const FLOWNET2_CS: &[Case] = &[
    case("flownet2/nvidia_FlowNet2CS_a", "flownet2-cs", &[], A, flownet2),
    case("flownet2/nvidia_FlowNet2CS_b", "flownet2-cs", &[], B, flownet2),
    case("flownet2/nvidia_FlowNet2CS_b", "flownet2-cs", ALIGN, B, align_corners),
    case("flownet2/mindspore_FlowNet2CS_b", "flownet2-cs", MINDSPORE, B, flownet2),
    case("flownet2/ptlflow_flownetcs_b", "flownet2-cs", PTLFLOW, B, flownet2),
];

pub const FLOWNET2_CSS: &[Case] = &[
    case("flownet2/nvidia_FlowNet2CSS_b", "flownet2-css", &[], B, flownet2),
    case("flownet2/mindspore_FlowNet2CSS_b", "flownet2-css", MINDSPORE, B, flownet2),
    case("flownet2/ptlflow_flownetcss_b", "flownet2-css", PTLFLOW, B, flownet2),
];

pub const FLOWNET2: &[Case] = &[
    case("flownet2/nvidia_FlowNet2_b", "flownet2", &[], B, flownet2),
    case("flownet2/nvidia_FlowNet2_b", "flownet2", ALIGN, B, align_corners),
    case("flownet2/mindspore_FlowNet2_b", "flownet2", MINDSPORE, B, flownet2),
    case("flownet2/ascend_FlowNet2_b", "flownet2", ASCEND, BPadded, flownet2),
    case("flownet2/ptlflow_flownet2_b", "flownet2", PTLFLOW, B, flownet2),
];

/// 45 GFLOP each, those of CSS 26.
pub const FLOWNET2_LARGE: &[Case] = &[
    case("flownet2/nvidia_FlowNet2_a", "flownet2", &[], A, flownet2),
    case("flownet2/mindspore_FlowNet2_a", "flownet2", MINDSPORE, A, flownet2),
    case("flownet2/ascend_FlowNet2_a", "flownet2", ASCEND, A, flownet2),
    case("flownet2/ptlflow_flownet2_a", "flownet2", PTLFLOW, A, flownet2),
    case("flownet2/nvidia_FlowNet2CSS_a", "flownet2-css", &[], A, flownet2),
    case("flownet2/ptlflow_flownetcss_a", "flownet2-css", PTLFLOW, A, flownet2),
];

pub const PWCNET: &[Case] = &[
    case("pwcnet/nvlabs_pwcdcnet_a", "pwcnet", &[], A, nvlabs),
    case("pwcnet/nvlabs_pwcdcnet_b", "pwcnet", &[], B, nvlabs),
    case("pwcnet/nvlabs_pwcdcnet_old_b", "pwcnet-old", &[], B, nvlabs),
    case("pwcnet/sniklaus_pwcnet_a", "pwcnet", &["variant=sniklaus"], A, sniklaus),
    case("pwcnet/sniklaus_pwcnet_b", "pwcnet", &["variant=sniklaus"], B, sniklaus),
    case("pwcnet/ptlflow_pwcnet_a", "pwcnet", PTLFLOW, A, ptlflow_pwcnet),
    case("pwcnet/ptlflow_pwcnet_nodc_a", "pwcnet-nodc", &[], A, ptlflow_nodc),
];

pub const TFOPTFLOW: &[Case] = &[
    case("pwcnet/tfoptflow_lg_a", "pwcnet-lg-6-2", &[], A, tfoptflow_residual),
    case("pwcnet/tfoptflow_lg_b", "pwcnet-lg-6-2", &[], B, tfoptflow_residual),
    case("pwcnet/tfoptflow_sm_a", "pwcnet-sm", &[], A, tfoptflow_plain),
    case("pwcnet/tfoptflow_sm_b", "pwcnet-sm", &[], B, tfoptflow_plain),
    case("pwcnet/tfoptflow_dense_b", "pwcnet-dense", &[], B, tfoptflow_plain),
    case("pwcnet/tfoptflow_res_b", "pwcnet-res", &[], B, tfoptflow_residual),
];

pub const UFLOW: &[Case] = &[
    case("uflow/google_model", "uflow", &[BATCH], U, uflow),
    case("uflow/mindspore_model", "uflow-mindspore", &[], U0, uflow),
    variant("shared_decoder/", &[BATCH, "shared-decoder=on"]),
    variant("original_sizes/", &[BATCH, "layer-sizes=original"]),
    variant("no_accumulate/", &[BATCH, "accumulate-flow=off"]),
    variant("no_warp/", &[BATCH, "feature-warp=off"]),
    variant("no_normalize/", &[BATCH, "normalize=off"]),
    variant("level1_1x1/", &[BATCH, "level1-1x1=1"]),
    variant("half_channels/", &[BATCH, "channel-multiplier=0.5"]),
];

pub const UFLOW_NO_COST_VOLUME: &[Case] = &[variant("no_cost_volume/", &[BATCH, "cost-volume=off"])];

pub const LIGHTFLOW: &[Case] = &[
    case("lightflow/eval_a", "lightflow", &[], A, lightflow),
    case("lightflow/eval_b", "lightflow", &[], B, lightflow),
];
