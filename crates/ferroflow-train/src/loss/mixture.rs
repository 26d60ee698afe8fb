//! SEA-RAFT's likelihood: of each pixel the network says how far off its flow may be.

use super::{Sums, penalty::sign};

/// Channels of a prediction: the flow, two logits, two logarithms of scales.
pub(super) const CHANNELS: usize = 6;

/// The negative log-likelihood under a mixture of two Laplace distributions, for each component of the flow (Wang et al. 2024,
/// section 3.2).
///
/// Of a pixel `[u, v, w0, w1, b0, b1]` the weights are the softmax of `w`; the logarithms of the scales are `b0` within
/// `0..=largest`, and `b1` within `smallest..=0`: with SEA-RAFT's 0 the second distribution is the plain L1 norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// Least logarithm of the second scale.
    pub smallest: f32,
    /// Largest logarithm of the first scale.
    pub largest: f32,
}

impl Mixture {
    /// The limits of SEA-RAFT's training.
    pub const SEA_RAFT: Self = Self { smallest: 0.0, largest: 10.0 };

    /// Sums over an image `[6, h, w]` whose truth is `[2, h, w]`; writes the derivatives of the sum.
    pub(super) fn image(&self, output: &[f32], target: &[f32], known: &[bool], gradient: &mut [f32]) -> Sums {
        let pixels = known.len();
        let limits = [(0.0, self.largest), (self.smallest, 0.0)];
        let mut sums = Sums { penalty: 0.0, error: 0.0, known: 0 };
        gradient.fill(0.0);
        for i in (0..pixels).filter(|&i| known[i]) {
            let at = |c: usize| output[c * pixels + i];
            let logits = [at(2), at(3)];
            let scales = [0, 1].map(|m| at(4 + m).clamp(limits[m].0, limits[m].1));
            let inverse = scales.map(|scale| (-scale).exp());
            let (of_weights, weights) = log_sum_exp(logits);
            let mut slopes = [0.0f32; CHANNELS];
            let mut square = 0.0;
            for c in 0..2 {
                let difference = at(c) - target[c * pixels + i];
                square += difference * difference;
                let likelihoods =
                    [0, 1].map(|m| logits[m] - std::f32::consts::LN_2 - scales[m] - difference.abs() * inverse[m]);
                let (likelihood, shares) = log_sum_exp(likelihoods);
                sums.penalty += f64::from(of_weights - likelihood);
                for m in 0..2 {
                    slopes[c] += shares[m] * inverse[m] * sign(difference);
                    slopes[2 + m] += weights[m] - shares[m];
                    if (limits[m].0..=limits[m].1).contains(&at(4 + m)) {
                        slopes[4 + m] += shares[m] * (1.0 - difference.abs() * inverse[m]);
                    }
                }
            }
            slopes.into_iter().enumerate().for_each(|(c, slope)| gradient[c * pixels + i] = slope);
            sums.error += f64::from(square.sqrt());
            sums.known += 1;
        }
        sums
    }
}

/// The logarithm of the sum of the exponentials, and what share of the sum each has.
fn log_sum_exp(values: [f32; 2]) -> (f32, [f32; 2]) {
    let largest = values[0].max(values[1]);
    let exponentials = values.map(|v| (v - largest).exp());
    let sum = exponentials[0] + exponentials[1];
    (largest + sum.ln(), exponentials.map(|e| e / sum))
}
