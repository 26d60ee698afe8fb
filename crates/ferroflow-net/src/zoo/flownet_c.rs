//! FlowNetC, which compares the features of the two frames by correlation.
//!
//! Fischer et al., FlowNet, ICCV 2015, figure 2 bottom; code: NVIDIA/flownet2-pytorch `FlowNetC.py`. Its flows are in
//! units of 20 pixels. 39,175,298 parameters.

use super::flownet::{Encoder, FlowNet, Flows, Predict};
use crate::graph::{Correlation, NodeId, k};

/// Displacements of up to 20 pixels of the 1/8 map, every second one: 441 channels.
const CORRELATION: Correlation = Correlation { max_displacement: 20, stride: 2 };

/// Two `[N, 3, H, W]` -> flows at 1/64 .. 1/4.
pub(super) fn flownet_c(net: &mut FlowNet<'_>, x1: NodeId, x2: NodeId) -> Flows {
    // Both frames go through the first layers as one batch.
    let frames = net.net.stack("frames", &[x1, x2]);
    let conv1 = net.conv("conv1", frames, k(7).stride(2).out(64)); // 1/2
    let conv2 = net.conv("conv2", conv1, k(5).stride(2).out(128)); // 1/4
    let conv3 = net.conv("conv3", conv2, k(5).stride(2).out(256)); // 1/8
    let conv2a = net.net.part("conv2a", conv2, 0, 2);
    let conv3a = net.net.part("conv3a", conv3, 0, 2);
    let conv3b = net.net.part("conv3b", conv3, 1, 2);

    let conv_redir = net.conv("conv_redir", conv3a, k(1).out(32));
    let corr = net.net.correlation("corr", conv3a, conv3b, CORRELATION);
    let cost = net.net.leaky("cost", corr);
    let joined = net.net.concat("concat3_1", &[conv_redir, cost]); // 32 + 441
    let conv3_1 = net.conv("conv3_1", joined, k(3).out(256));

    let conv4 = net.conv("conv4", conv3_1, k(3).stride(2).out(512)); // 1/16
    let conv4_1 = net.conv("conv4_1", conv4, k(3).out(512));
    let conv5 = net.conv("conv5", conv4_1, k(3).stride(2).out(512)); // 1/32
    let conv5_1 = net.conv("conv5_1", conv5, k(3).out(512));
    let conv6 = net.conv("conv6", conv5_1, k(3).stride(2).out(1024)); // 1/64
    let conv6_1 = net.conv("conv6_1", conv6, k(3).out(1024));
    let encoder = Encoder { conv2: conv2a, conv3_1, conv4_1, conv5_1, conv6_1 };
    net.refinement(&encoder, Predict::FromConcat, true)
}
