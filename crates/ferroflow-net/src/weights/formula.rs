//! Weights and images made by a formula, for tests. An implementation in any language gives the same numbers, so networks can be
//! compared with their references without anyone's trained weights.
//!
//! A seed and a name select a stream of numbers: splitmix64 from the FNV-1a hash of `SEED/NAME`, with the upper 24 bits as a
//! fraction. The stream of a weight has its name in the reference checkpoint and fills it in that checkpoint's order.

use std::f64::consts::PI;

use super::Weights;
use crate::graph::{Param, ParamRole};
use crate::model::Model;

/// The numbers of `SEED/NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of a seed and a name.
    pub fn new(seed: &str, name: &str) -> Self {
        Self { state: fnv1a64(format!("{seed}/{name}").as_bytes()) }
    }

    /// Number `i`, in 0..1, a multiple of 2^-24.
    pub fn number(self, i: usize) -> f64 {
        let mut z = self.state.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 * 2f64.powi(-24)
    }

    /// The first `len` numbers, spread over `offset - scale .. offset + scale`; rounded to f32 once.
    pub fn tensor(self, len: usize, scale: f64, offset: f64) -> Vec<f32> {
        (0..len).map(|i| (offset + scale * (2.0 * self.number(i) - 1.0)) as f32).collect()
    }
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// Half the width of the uniform distribution that keeps the variance through leaky ReLUs of slope 0.1; `shape` in
/// PyTorch's order.
pub(super) fn he_bound(role: ParamRole, shape: &[usize]) -> f64 {
    let fan_in = match role {
        // Stride 2: each output sees a quarter of the taps.
        ParamRole::DeconvWeight => (shape[0] * shape[2] * shape[3]) as f64 / 4.0,
        _ => (shape[1] * shape[2] * shape[3]) as f64,
    };
    (6.0 / (1.01 * fan_in)).sqrt()
}

impl Weights {
    /// The formula's weights for a network.
    pub fn formula(model: &Model, seed: &str) -> Self {
        let values = model.graph.params.iter().map(|param| {
            let (scale, offset) = spread(model, param);
            let stored = Stream::new(seed, &param.name).tensor(param.len(), scale, offset);
            model.layout.read_stored(&param.shape, stored)
        });
        Self { values: values.collect() }
    }
}

/// The largest deviation of a parameter's values, and the value about which they lie.
pub fn spread(model: &Model, param: &Param) -> (f64, f64) {
    let (scale, offset) = match param.role {
        ParamRole::ConvWeight | ParamRole::DeconvWeight => (he_bound(param.role, &param.shape), 0.0),
        ParamRole::Bias => (0.05, 0.0),
        ParamRole::NormScale | ParamRole::NormVariance => (0.5, 1.0),
        ParamRole::NormShift | ParamRole::NormMean => (0.1, 0.0),
    };
    let gain = model.test_gains.iter().find(|(name, _)| *name == param.name).map_or(1.0, |&(_, gain)| gain);
    (gain * scale, offset)
}

/// Two frames `[3, H, W]`, RGB 0..=255, and the exact flow `[2, H, W]` from the first to the second.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePair {
    /// The frame whose pixels the flow describes.
    pub first: Vec<u8>,
    /// The frame they moved to.
    pub second: Vec<u8>,
    /// u then v, in pixels.
    pub flow: Vec<f32>,
}

/// A pattern of sinusoids seen through a smooth flow, with a little noise.
pub fn image_pair(seed: &str, name: &str, height: usize, width: usize) -> ImagePair {
    let name = format!("image/{name}");
    let flow = flow_field(seed, &name, height, width);
    let pixels = height * width;
    let frame = |number: usize, moves: bool| {
        let noise = Stream::new(seed, &format!("{name}/noise{number}"));
        let mut out = vec![0; 3 * pixels];
        for c in 0..3 {
            let pattern = pattern(seed, &name, c);
            for i in 0..pixels {
                let (mut x, mut y) = ((i % width) as f64, (i / width) as f64);
                if moves {
                    x += f64::from(flow[i]);
                    y += f64::from(flow[pixels + i]);
                }
                let value = pattern(x, y) + 6.0 * (2.0 * noise.number(3 * i + c) - 1.0);
                out[c * pixels + i] = (value + 0.5).floor().clamp(0.0, 255.0) as u8;
            }
        }
        out
    };
    ImagePair { first: frame(1, true), second: frame(2, false), flow }
}

fn pattern(seed: &str, name: &str, channel: usize) -> impl Fn(f64, f64) -> f64 {
    let p = Stream::new(seed, &format!("{name}/waves"));
    let waves: Vec<[f64; 4]> = (0..7)
        .map(|k| {
            let u = |i: usize| p.number(5 * k + i);
            let period = 7.0 + 50.0 * u(0) * u(0);
            let angle = 2.0 * PI * u(1);
            let phase = 2.0 * PI * (u(2) + 0.6 * channel as f64 * (u(3) - 0.5));
            [angle.cos() / period, angle.sin() / period, phase, 8.0 + 10.0 * u(4)]
        })
        .collect();
    move |x, y| {
        waves
            .iter()
            .fold(127.5, |v, &[fx, fy, phase, height]| v + height * (2.0 * PI * (fx * x + fy * y) + phase).sin())
    }
}

fn flow_field(seed: &str, name: &str, height: usize, width: usize) -> Vec<f32> {
    let stream = Stream::new(seed, &format!("{name}/flow"));
    let p: Vec<f64> = (0..8).map(|i| 2.0 * stream.number(i) - 1.0).collect();
    let at = |i: usize| {
        let (x, y) = ((i % width) as f64, (i / width) as f64);
        (2.0 * PI * x / width as f64, 2.0 * PI * y / height as f64)
    };
    let u = |(sx, sy): (f64, f64)| 6.0 * p[0] + 2.5 * (sy + PI * p[1]).sin() + 1.5 * (sx + PI * p[2]).cos();
    let v = |(sx, sy): (f64, f64)| 4.0 * p[3] + 2.0 * (sx + PI * p[4]).sin() + 1.0 * (2.0 * sy + PI * p[5]).cos();
    let pixels = height * width;
    (0..pixels).map(|i| u(at(i)) as f32).chain((0..pixels).map(|i| v(at(i)) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_has_its_check_values() {
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_F739_67E8);
        let s = Stream::new("s", "n");
        for (i, u) in [0.33198601, 0.45681846, 0.74126583, 0.30849987].into_iter().enumerate() {
            assert!((s.number(i) - u).abs() < 5e-9);
        }
    }

    #[test]
    fn the_pair_moves_by_its_flow() {
        let pair = image_pair("s", "x", 16, 24);
        assert_eq!(pair.first.len(), 3 * 16 * 24);
        assert_ne!(pair.first, pair.second);
        assert!(pair.flow.iter().all(|v| v.abs() < 11.0));
    }
}
