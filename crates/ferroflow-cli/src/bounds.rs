//! Numbers on the command line beyond which nothing sensible is meant: a slip of the finger must not start a hundred
//! thousand threads or ask for all memory.

use std::num::NonZeroUsize;

/// Most threads of a pool or of a loader.
pub const THREADS: usize = 1024;

/// Most pairs that go through a network, or into a file, at once.
pub const BATCH: usize = 1024;

/// Most iterations of a recurrent network, as the networks have it.
pub const ITERATIONS: usize = 32;

/// Most runs that are timed.
pub const RUNS: usize = 1_000_000;

/// Largest number that sides are padded to multiples of.
pub const STRIDE: usize = 4096;

/// Reads a whole number from 1 to `MOST`.
pub fn from_one<const MOST: usize>(text: &str) -> Result<usize, String> {
    nonzero::<MOST>(text).map(NonZeroUsize::get)
}

/// The same as a number that is not 0.
pub fn nonzero<const MOST: usize>(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.trim().parse().ok().filter(|number: &NonZeroUsize| number.get() <= MOST);
    number.ok_or_else(|| format!("a whole number from 1 to {MOST} is needed"))
}

/// Reads a whole number from 0 to `MOST`.
pub fn from_zero<const MOST: usize>(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|number| *number <= MOST);
    number.ok_or_else(|| format!("a whole number from 0 to {MOST} is needed"))
}

/// Reads a length in pixels, more than 0.
pub fn pixels(text: &str) -> Result<f32, String> {
    let number = text.trim().parse().ok().filter(|number: &f32| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a number of pixels above 0 is needed, such as 0.05".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_sense_are_refused_with_the_range() {
        assert_eq!((from_one::<8>("8"), from_zero::<8>("0")), (Ok(8), Ok(0)));
        for text in ["0", "9", "-1", "18446744073709551616", "1.5", ""] {
            assert!(from_one::<8>(text).unwrap_err().contains("1 to 8"), "{text}");
        }
        assert_eq!(pixels("0.05"), Ok(0.05));
        assert!(["0", "-1", "inf", "nan", "x"].iter().all(|text| pixels(text).is_err()));
    }
}
