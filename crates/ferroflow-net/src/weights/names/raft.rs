//! Other names of what RAFT and SEA-RAFT call by Princeton's: torchvision's, and second names of one layer.

/// Whether a name is of torchvision's RAFT.
pub(super) fn is_torchvision(name: &str) -> bool {
    ["feature_encoder.", "context_encoder."].iter().any(|head| name.starts_with(head))
}

/// Princeton's name of a parameter of torchvision's RAFT. `separable` says whether the file has two GRUs, one across and one down, as
/// that of RAFT does and that of RAFT-small does not.
pub(super) fn to_princeton(name: &str, separable: bool) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    Some(match parts[..] {
        ["feature_encoder", ref rest @ ..] => format!("fnet.{}", of_encoder(rest)?),
        ["context_encoder", ref rest @ ..] => format!("cnet.{}", of_encoder(rest)?),
        ["update_block", "motion_encoder", "conv", "0", end] => format!("update_block.encoder.conv.{end}"),
        ["update_block", "motion_encoder", layer, "0", end] => {
            let (of, number) = layer.strip_prefix("conv")?.split_at_checked(4)?;
            let of = ["corr", "flow"].contains(&of).then_some(&of[..1])?;
            format!("update_block.encoder.conv{of}{number}.{end}")
        }
        ["update_block", "recurrent_block", unit, gate, end] => {
            let number = if separable { unit.strip_prefix("convgru")? } else { "" };
            format!("update_block.gru.{gate}{number}.{end}")
        }
        ["mask_predictor", "convrelu", "0", end] => format!("update_block.mask.0.{end}"),
        ["mask_predictor", "conv", end] => format!("update_block.mask.2.{end}"),
        // The flow head has the same name in both.
        _ => return None,
    })
}

/// The name within an encoder.
fn of_encoder(parts: &[&str]) -> Option<String> {
    let norm_or_conv = |part: &str| match part {
        "0" => Some("conv"),
        "1" => Some("norm"),
        _ => None,
    };
    Some(match *parts {
        ["convnormrelu", part, end] => format!("{}1.{end}", norm_or_conv(part)?),
        ["conv", end] => format!("conv2.{end}"),
        [layer, block, "downsample", part, end] => format!("{layer}.{block}.downsample.{part}.{end}"),
        [layer, block, unit, part, end] => {
            format!("{layer}.{block}.{}{}.{end}", norm_or_conv(part)?, unit.strip_prefix("convnormrelu")?)
        }
        _ => return None,
    })
}

/// The name in `downsample` of a norm that Princeton's code registers a second time, beside it. A safetensors file holds one of
/// the two.
pub(super) fn first_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [net @ ("fnet" | "cnet"), layer, block, "norm3" | "bn3", end] if layer.starts_with("layer") => {
            Some(format!("{net}.{layer}.{block}.downsample.1.{end}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_torchvision_are_princetons() {
        for (theirs, separable, ours) in [
            ("feature_encoder.convnormrelu.0.weight", true, "fnet.conv1.weight"),
            ("context_encoder.convnormrelu.1.running_var", true, "cnet.norm1.running_var"),
            ("context_encoder.layer2.0.convnormrelu2.1.bias", true, "cnet.layer2.0.norm2.bias"),
            ("feature_encoder.layer3.0.downsample.0.bias", true, "fnet.layer3.0.downsample.0.bias"),
            ("feature_encoder.layer1.1.convnormrelu3.0.weight", false, "fnet.layer1.1.conv3.weight"),
            ("context_encoder.conv.weight", true, "cnet.conv2.weight"),
            ("update_block.motion_encoder.convcorr2.0.weight", true, "update_block.encoder.convc2.weight"),
            ("update_block.motion_encoder.convflow1.0.bias", false, "update_block.encoder.convf1.bias"),
            ("update_block.motion_encoder.conv.0.bias", true, "update_block.encoder.conv.bias"),
            ("update_block.recurrent_block.convgru2.convz.weight", true, "update_block.gru.convz2.weight"),
            ("update_block.recurrent_block.convgru1.convq.bias", false, "update_block.gru.convq.bias"),
            ("mask_predictor.convrelu.0.weight", true, "update_block.mask.0.weight"),
            ("mask_predictor.conv.bias", true, "update_block.mask.2.bias"),
        ] {
            assert_eq!(to_princeton(theirs, separable).as_deref(), Some(ours));
        }
        assert_eq!(to_princeton("update_block.flow_head.conv1.weight", true), None);
        assert_eq!(to_princeton("update_block.motion_encoder.convä", true), None);
    }
}
