//! The fusion network: two flows and how well each explains the first frame, refined to full resolution.
//!
//! Ilg et al., FlowNet 2.0, CVPR 2017, figure 2 right; code: NVIDIA/flownet2-pytorch `FlowNetFusion.py`. Its flows are in
//! pixels. 581,226 parameters.

use super::flownet::FlowNet;
use crate::graph::{NodeId, k};

/// `[N, 11, H, W]` -> `flow2`, `flow1`, `flow0` at 1/4, 1/2 and full size.
pub(super) fn fusion(net: &mut FlowNet<'_>, x: NodeId) -> [NodeId; 3] {
    let conv0 = net.conv("conv0", x, k(3).out(64));
    let conv1 = net.conv("conv1", conv0, k(3).stride(2).out(64)); // 1/2
    let conv1_1 = net.conv("conv1_1", conv1, k(3).out(128));
    let conv2 = net.conv("conv2", conv1_1, k(3).stride(2).out(128)); // 1/4
    let conv2_1 = net.conv("conv2_1", conv2, k(3).out(128));
    let flow2 = net.predict_flow(2, conv2_1);

    let deconv1 = net.deconv("deconv1", conv2_1, 32); // 1/2
    let up = net.upsampled_flow(2, flow2, true);
    let concat1 = net.net.concat("concat1", &[conv1_1, deconv1, up]); // 162
    let inter_conv1 = net.inter_conv("inter_conv1", concat1, 32);
    let flow1 = net.predict_flow(1, inter_conv1);

    let deconv0 = net.deconv("deconv0", concat1, 16); // full size
    let up = net.upsampled_flow(1, flow1, true);
    let concat0 = net.net.concat("concat0", &[conv0, deconv0, up]); // 82
    let inter_conv0 = net.inter_conv("inter_conv0", concat0, 16);
    let flow0 = net.predict_flow(0, inter_conv0);
    [flow2, flow1, flow0]
}
