//! FlowNetS, which takes the frames (and, in a stack, the results of the network before) as one image.
//!
//! Fischer et al., FlowNet, ICCV 2015, figure 2 top; code: NVIDIA/flownet2-pytorch `FlowNetS.py`. It reads 6 channels alone
//! and 12 in a stack; its flows are in units of 20 pixels. It has 38,676,506 parameters with 6 channels.

use super::flownet::{Encoder, FlowNet, Flows, Predict};
use crate::graph::{NodeId, k};

/// `[N, 6 or 12, H, W]` -> flows at 1/64 .. 1/4.
pub(super) fn flownet_s(net: &mut FlowNet<'_>, x: NodeId) -> Flows {
    let conv1 = net.conv("conv1", x, k(7).stride(2).out(64)); // 1/2
    let conv2 = net.conv("conv2", conv1, k(5).stride(2).out(128)); // 1/4
    let conv3 = net.conv("conv3", conv2, k(5).stride(2).out(256)); // 1/8
    let conv3_1 = net.conv("conv3_1", conv3, k(3).out(256));
    let conv4 = net.conv("conv4", conv3_1, k(3).stride(2).out(512)); // 1/16
    let conv4_1 = net.conv("conv4_1", conv4, k(3).out(512));
    let conv5 = net.conv("conv5", conv4_1, k(3).stride(2).out(512)); // 1/32
    let conv5_1 = net.conv("conv5_1", conv5, k(3).out(512));
    let conv6 = net.conv("conv6", conv5_1, k(3).stride(2).out(1024)); // 1/64
    let conv6_1 = net.conv("conv6_1", conv6, k(3).out(1024));
    let encoder = Encoder { conv2, conv3_1, conv4_1, conv5_1, conv6_1 };
    net.refinement(&encoder, Predict::FromConcat, false)
}
