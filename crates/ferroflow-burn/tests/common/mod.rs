//! Weights and frames for the tests.
#![allow(dead_code, reason = "each test file uses some")]

use burn::tensor::{Device, Tensor, TensorData};
use ferroflow_net::graph::{Graph, ParamRole};
use ferroflow_net::{ParamId, Weights};

/// Uniform in -1..1 (SplitMix64).
pub fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Random weights, batch norm's too: those of a fresh network would hide what it does.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::random(graph, 1);
    let mut state = 1;
    for (i, param) in graph.params.iter().enumerate() {
        let values = weights.get_mut(ParamId(i as u32));
        match param.role {
            ParamRole::ConvWeight | ParamRole::DeconvWeight => {}
            ParamRole::NormScale | ParamRole::NormVariance => {
                values.iter_mut().for_each(|v| *v = 1.0 + 0.3 * random(&mut state));
            }
            _ => values.iter_mut().for_each(|v| *v = 0.1 * random(&mut state)),
        }
    }
    weights
}

/// `[batch, 3, height, width]`, 0..=255.
pub fn frames(batch: usize, height: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..batch * 3 * height * width).map(|_| (127.5 * (1.0 + random(&mut state))).round()).collect()
}

pub fn upload(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// The largest difference, relative to the largest value but at least to 1.
pub fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}
