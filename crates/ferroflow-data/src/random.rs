//! Reproducible random numbers: each is a function of a key and does not depend on threads or the platform.

use crate::math;

/// The splitmix64 output function: a bijection of 64 bits that looks random.
#[inline(always)]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of draws (splitmix64). The same key gives the same stream everywhere.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed and any number of indices (sample, layer, ...).
    pub fn new(seed: u64, path: &[u64]) -> Self {
        let state = path.iter().fold(mix(seed ^ 0x5EED_F10E), |key, &part| mix(key ^ mix(part.wrapping_add(1))));
        Self { state }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, exact in `f32`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `[-spread, spread)`.
    pub fn spread(&mut self, spread: f32) -> f32 {
        self.range(-spread, spread)
    }

    /// Log-uniform in `[low, high)`, both positive.
    pub fn log_range(&mut self, low: f32, high: f32) -> f32 {
        math::exp2(self.range(math::log2(low), math::log2(high)))
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * std::f32::consts::LN_2 * math::log2(1.0 - self.unit())).sqrt();
        radius * math::cos_turns(self.unit())
    }

    /// Uniform integer in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Uniform integer in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
}

/// The order in which an epoch visits `n` items (Fisher and Yates), from its own stream.
pub fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut random = Random::new(seed, &[0x0E90C4, epoch]);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_stated_moments() {
        let mut random = Random::new(1, &[2, 3]);
        let n = 20_000;
        let (mut mean, mut square, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = f64::from(random.normal());
            mean += x;
            square += x * x;
            uniform += f64::from(random.range(2.0, 4.0));
        }
        // Standard error of the mean is 0.007; four of them.
        assert!((mean / n as f64).abs() < 0.03 && (square / n as f64 - 1.0).abs() < 0.05);
        assert!((uniform / n as f64 - 3.0).abs() < 0.02);
    }

    #[test]
    fn a_permutation_visits_everything_once() {
        let mut order = permutation(1000, 7, 3);
        assert_ne!(order, permutation(1000, 7, 4));
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &p)| i == p as usize));
    }
}
