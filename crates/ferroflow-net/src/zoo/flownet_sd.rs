//! FlowNetSD: FlowNetS with small kernels, for small displacements.
//!
//! Ilg et al., FlowNet 2.0, CVPR 2017, section 4.2; code: NVIDIA/flownet2-pytorch `FlowNetSD.py`. Inside FlowNet2 its
//! flows are pixels times 20, in the stand-alone class pixels over 20. 45,371,666 parameters.

use super::flownet::{Encoder, FlowNet, Flows, Predict};
use crate::graph::{NodeId, k};

/// `[N, 6, H, W]` -> flows at 1/64 .. 1/4.
pub(super) fn flownet_sd(net: &mut FlowNet<'_>, x: NodeId) -> Flows {
    let conv0 = net.conv("conv0", x, k(3).out(64));
    let conv1 = net.conv("conv1", conv0, k(3).stride(2).out(64)); // 1/2
    let conv1_1 = net.conv("conv1_1", conv1, k(3).out(128));
    let conv2 = net.conv("conv2", conv1_1, k(3).stride(2).out(128)); // 1/4
    let conv2_1 = net.conv("conv2_1", conv2, k(3).out(128));
    let conv3 = net.conv("conv3", conv2_1, k(3).stride(2).out(256)); // 1/8
    let conv3_1 = net.conv("conv3_1", conv3, k(3).out(256));
    let conv4 = net.conv("conv4", conv3_1, k(3).stride(2).out(512)); // 1/16
    let conv4_1 = net.conv("conv4_1", conv4, k(3).out(512));
    let conv5 = net.conv("conv5", conv4_1, k(3).stride(2).out(512)); // 1/32
    let conv5_1 = net.conv("conv5_1", conv5, k(3).out(512));
    let conv6 = net.conv("conv6", conv5_1, k(3).stride(2).out(1024)); // 1/64
    let conv6_1 = net.conv("conv6_1", conv6, k(3).out(1024));
    let encoder = Encoder { conv2: conv2_1, conv3_1, conv4_1, conv5_1, conv6_1 };
    net.refinement(&encoder, Predict::FromInterConv, true)
}
