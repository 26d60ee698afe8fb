//! The numbers of NumPy's `RandomState`, by which Python programs split their data.

const N: usize = 624;
const M: usize = 397;

/// `numpy.random.RandomState(seed)`: the Mersenne Twister (Matsumoto and Nishimura 1998), seeded as in 2002.
pub(super) struct RandomState {
    state: [u32; N],
    next: usize,
}

impl RandomState {
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `uniform()`: 0 to below 1, with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (f64::from(self.word() >> 5), f64::from(self.word() >> 6));
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// A whole number from 0 to `most`.
    fn up_to(&mut self, most: u32) -> u32 {
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let value = self.word() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `permutation(n)`
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            // No data set has more pairs than a u32 counts.
            order.swap(i, self.up_to(i as u32) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by NumPy.
    #[test]
    fn numbers_are_numpys() {
        assert_eq!(RandomState::new(1).permutation(10), [2, 9, 6, 4, 0, 3, 1, 7, 8, 5]);
        assert_eq!(RandomState::new(1969).permutation(12), [7, 9, 2, 8, 10, 11, 5, 6, 0, 4, 3, 1]);
        let mut random = RandomState::new(1);
        let uniform: Vec<f64> = (0..4).map(|_| random.uniform()).collect();
        assert_eq!(uniform, [0.417022004702574, 0.7203244934421581, 0.00011437481734488664, 0.30233257263183977]);
        assert_eq!(RandomState::new(0).permutation(0), [0; 0]);
    }
}
