//! Parameter tables: every name, shape, order and spread of the reference checkpoints.

use ferroflow_net::graph::{Param, ParamRole};
use ferroflow_net::weights::formula::spread;
use ferroflow_net::{CheckpointLayout, Model};

use super::shared::golden;

/// A parameter as its reference checkpoint stores it: kind and shape.
fn stored(param: &Param, layout: CheckpointLayout) -> (&'static str, Vec<usize>) {
    let s = &param.shape;
    match (param.role, layout) {
        (ParamRole::ConvWeight, CheckpointLayout::Oihw) => ("conv_oihw", s.clone()),
        (ParamRole::ConvWeight, CheckpointLayout::Hwio) => ("conv_hwio", vec![s[2], s[3], s[1], s[0]]),
        (ParamRole::DeconvWeight, CheckpointLayout::Oihw) => ("deconv_iohw", s.clone()),
        (ParamRole::DeconvWeight, CheckpointLayout::Hwio) => ("deconv_hwoi", vec![s[2], s[3], s[1], s[0]]),
        (ParamRole::Bias, _) => ("bias", s.clone()),
        (ParamRole::NormScale, _) => ("bn_weight", s.clone()),
        (ParamRole::NormShift, _) => ("bn_bias", s.clone()),
        (ParamRole::NormMean, _) => ("bn_mean", s.clone()),
        (ParamRole::NormVariance, _) => ("bn_var", s.clone()),
    }
}

#[test]
fn parameter_tables_are_the_references() {
    let Some(golden) = golden() else { return };
    let tables: [(&str, &str, &[&str]); 26] = [
        ("FlowNet2", "flownet2", &[]),
        ("FlowNet2C", "flownet2-c", &[]),
        ("FlowNet2CS", "flownet2-cs", &[]),
        ("FlowNet2CSS", "flownet2-css", &[]),
        ("FlowNet2C_bn", "flownet2-c-bn", &[]),
        ("FlowNet2S", "flownet2-s", &[]),
        ("FlowNet2SD", "flownet2-sd", &[]),
        ("FlowNet2S_bn", "flownet2-s-bn", &[]),
        ("lightflow", "lightflow", &[]),
        ("pwcdcnet", "pwcnet", &[]),
        ("pwcdcnet_old", "pwcnet-old", &[]),
        ("pwcnet_nodc", "pwcnet-nodc", &[]),
        ("tfoptflow_dense", "pwcnet-dense", &[]),
        ("tfoptflow_lg", "pwcnet-lg-6-2", &[]),
        ("tfoptflow_res", "pwcnet-res", &[]),
        ("tfoptflow_sm", "pwcnet-sm", &[]),
        ("uflow_default", "uflow", &[]),
        ("uflow_half_channels", "uflow", &["channel-multiplier=0.5"]),
        ("uflow_level1_1x1", "uflow", &["level1-1x1=1"]),
        ("uflow_mindspore", "uflow-mindspore", &[]),
        ("uflow_no_accumulate", "uflow", &["accumulate-flow=off"]),
        ("uflow_no_cost_volume", "uflow", &["cost-volume=off"]),
        ("uflow_no_normalize", "uflow", &["normalize=off"]),
        ("uflow_no_warp", "uflow", &["feature-warp=off"]),
        ("uflow_original_sizes", "uflow", &["layer-sizes=original"]),
        ("uflow_shared_decoder", "uflow", &["shared-decoder=on"]),
    ];
    assert_eq!(std::fs::read_dir(golden.join("tables")).unwrap().count(), tables.len());
    for (table, name, options) in tables {
        let text = std::fs::read_to_string(golden.join(format!("tables/{table}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let model = Model::parse(name, options).unwrap();
        // How many batches were seen: a counter, not a parameter of ours.
        let rows = json["tensors"].as_array().unwrap().iter().filter(|row| row["kind"] != "count");
        let theirs: Vec<&serde_json::Value> = rows.collect();
        assert_eq!(model.graph.params.len(), theirs.len(), "{table}");
        for (param, row) in model.graph.params.iter().zip(theirs) {
            let (kind, shape) = stored(param, model.layout);
            assert_eq!(param.name, row["name"].as_str().unwrap(), "{table}: names, in order");
            assert_eq!(kind, row["kind"].as_str().unwrap(), "{table} {}", param.name);
            assert_eq!(serde_json::json!(shape), row["shape"], "{table} {}", param.name);
            let (scale, offset) = spread(&model, param);
            assert_eq!(offset, row["offset"].as_f64().unwrap(), "{table} {}", param.name);
            // The table's scale is a product of the same factors, in another order.
            let theirs = row["scale"].as_f64().unwrap();
            assert!((scale / theirs - 1.0).abs() < 1e-15, "{table} {}: {scale} {theirs}", param.name);
        }
    }
}
