//! The blocks that FlowNetS, FlowNetC, FlowNetSD and the fusion network share.

use crate::graph::{Builder, ConvSpec, NodeId, k};

/// A builder that knows whether its convolutions carry batch norm.
pub(super) struct FlowNet<'a> {
    pub net: &'a mut Builder,
    pub batch_norm: bool,
}

/// `flow6`, `flow5`, .. `flow2` at 1/64 .. 1/4 of the input.
pub(super) type Flows = [NodeId; 5];

/// What the refinement reads: the deepest features of each resolution.
pub(super) struct Encoder {
    /// 1/4
    pub conv2: NodeId,
    /// 1/8
    pub conv3_1: NodeId,
    /// 1/16
    pub conv4_1: NodeId,
    /// 1/32
    pub conv5_1: NodeId,
    /// 1/64
    pub conv6_1: NodeId,
}

/// Where the refinement predicts the flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Predict {
    /// From the concatenation itself (S, C).
    FromConcat,
    /// After another convolution, `inter_conv` (SD).
    FromInterConv,
}

impl FlowNet<'_> {
    /// Convolution, batch norm where asked for (then no bias), leaky ReLU.
    pub fn conv(&mut self, name: &str, x: NodeId, spec: ConvSpec) -> NodeId {
        let layer = format!("{name}.0");
        if !self.batch_norm {
            return self.net.conv_leaky((name, layer), x, spec);
        }
        let linear = self.net.conv((format!("{name}.conv"), layer), x, spec.no_bias());
        let normed = self.net.batch_norm((format!("{name}.norm"), format!("{name}.1")), linear);
        self.net.leaky(name, normed)
    }

    /// Convolution with bias, batch norm where asked for, no activation.
    pub fn inter_conv(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let layer = format!("{name}.0");
        if !self.batch_norm {
            return self.net.conv((name.to_string(), layer), x, k(3).out(out));
        }
        let linear = self.net.conv((format!("{name}.conv"), layer), x, k(3).out(out));
        self.net.batch_norm((name.to_string(), format!("{name}.1")), linear)
    }

    /// Transposed convolution and leaky ReLU; never batch norm.
    pub fn deconv(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let linear = self.net.deconv((format!("{name}.deconv"), format!("{name}.0")), x, out, true);
        self.net.leaky(name, linear)
    }

    /// `flowL`
    pub fn predict_flow(&mut self, level: usize, x: NodeId) -> NodeId {
        self.net.conv((format!("flow{level}"), format!("predict_flow{level}")), x, k(3).out(2))
    }

    /// `flowL` at twice the resolution, by a learned transposed convolution.
    pub fn upsampled_flow(&mut self, level: usize, flow: NodeId, bias: bool) -> NodeId {
        self.net.deconv(format!("upsampled_flow{level}_to_{}", level - 1), flow, 2, bias)
    }

    /// The expanding part of figure 3 of Fischer et al. 2015: at each resolution the features of the contracting part,
    /// the features from below and the flow from below, together.
    pub fn refinement(&mut self, encoder: &Encoder, predict: Predict, upsampled_bias: bool) -> Flows {
        let mut features = encoder.conv6_1;
        let mut flows = [self.predict_flow(6, features); 5];
        let skips =
            [(5, encoder.conv5_1, 512), (4, encoder.conv4_1, 256), (3, encoder.conv3_1, 128), (2, encoder.conv2, 64)];
        for (i, (level, skip, out)) in skips.into_iter().enumerate() {
            let deconv = self.deconv(&format!("deconv{level}"), features, out);
            let flow = self.upsampled_flow(level + 1, flows[i], upsampled_bias);
            features = self.net.concat(&format!("concat{level}"), &[skip, deconv, flow]);
            let read = match predict {
                Predict::FromConcat => features,
                Predict::FromInterConv => self.inter_conv(&format!("inter_conv{level}"), features, out),
            };
            flows[i + 1] = self.predict_flow(level, read);
        }
        flows
    }

    /// Builds a network under a prefix, its parameters in the order in which the PyTorch classes declare them:
    /// by kind, not by use.
    pub fn network<T>(&mut self, prefix: &str, build: impl FnOnce(&mut FlowNet<'_>) -> T) -> T {
        let batch_norm = self.batch_norm;
        self.net.scope(prefix, |net| {
            let first = net.param_count();
            let built = build(&mut FlowNet { net, batch_norm });
            net.sort_params(first, |name| {
                ["conv", "deconv", "inter_conv", "predict_flow", "upsampled_flow"]
                    .iter()
                    .position(|k| name.starts_with(k))
            });
            built
        })
    }
}
