//! How often vectors of each length occur, in a size that does not grow with their number.

/// Counts of lengths in classes that are 1/128 of an octave to 1/64 wide: less than 0.8 % of the length.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    counts: Vec<u64>,
    total: u64,
}

/// The upper bits of a number: its exponent and 7 bits of its mantissa.
const SHIFT: u32 = 16;
/// Shorter vectors are all alike, px.
const SHORTEST: f32 = 1.0 / 1024.0;
/// Longer ones too.
const LONGEST: f32 = 65536.0;

fn class(length: f32) -> usize {
    ((length.clamp(SHORTEST, LONGEST).to_bits() - SHORTEST.to_bits()) >> SHIFT) as usize
}

impl Default for Lengths {
    fn default() -> Self {
        Self { counts: vec![0; class(LONGEST) + 1], total: 0 }
    }
}

impl Lengths {
    /// Counts so many vectors of a length in pixels.
    pub fn add(&mut self, length: f32, times: u64) {
        self.counts[class(length)] += times;
        self.total += times;
    }

    /// Counts those of another as well.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
        self.total += other.total;
    }

    /// The length that so many percent do not exceed, to 0.4 %; 0 of nothing.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = ((percent / 100.0 * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        match self.counts.iter().position(reaches) {
            None | Some(0) => 0.0,
            Some(class) => {
                let edge = |class: usize| f32::from_bits(SHORTEST.to_bits() + ((class as u32) << SHIFT));
                f64::from(edge(class) + edge(class + 1)) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_lengths() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths.percentile(50.0), 0.0);
        let values: Vec<f32> = (1..=1000).map(|i| (i as f32).powi(2) * 3e-4).collect();
        let (low, high) = values.split_at(300);
        low.iter().for_each(|&v| lengths.add(v, 1));
        let mut more = Lengths::default();
        high.iter().for_each(|&v| more.add(v, 1));
        lengths.merge(&more);
        for percent in [10.0, 50.0, 90.0, 99.0, 100.0] {
            let exact = f64::from(values[(10.0 * percent) as usize - 1]);
            assert!((lengths.percentile(percent) / exact - 1.0).abs() < 0.004, "{percent}");
        }
        lengths.add(0.0, 5000);
        assert_eq!(lengths.percentile(50.0), 0.0);
        for wild in [f32::INFINITY, 1e30, 0.0] {
            lengths.add(wild, 1);
        }
    }
}
