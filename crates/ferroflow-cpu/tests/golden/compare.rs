//! How near is near enough (the golden README, section 6).

/// What may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Largest and mean difference.
    Absolute(f32, f32),
    /// Largest difference as a fraction of the largest value: roundings of single precision through up to 30 layers.
    OfLargest(f32),
}

/// 1e-4 of the largest value.
pub const INTERMEDIATE: Tolerance = Tolerance::OfLargest(1e-4);

/// Compares, prints one line, and returns what is wrong.
pub fn compare(what: &str, ours: &[f32], theirs: &[f32], tolerance: Tolerance) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{what}: {} values, not {}", ours.len(), theirs.len()));
    }
    let (mut largest, mut sum, mut size) = (0f32, 0f64, 0f32);
    for (a, b) in ours.iter().zip(theirs) {
        let difference = (a - b).abs();
        if !difference.is_finite() {
            return Err(format!("{what}: {a} and {b}"));
        }
        largest = largest.max(difference);
        sum += f64::from(difference);
        size = size.max(b.abs());
    }
    let mean = (sum / ours.len() as f64) as f32;
    let line = format!("{what}: largest difference {largest:.2e}, mean {mean:.2e}, of values up to {size:.3}");
    println!("{line}");
    let fine = match tolerance {
        Tolerance::Absolute(max, average) => largest <= max && mean <= average,
        Tolerance::OfLargest(fraction) => largest <= fraction * size.max(f32::MIN_POSITIVE),
    };
    if fine { Ok(()) } else { Err(format!("{line}; allowed {tolerance:?}")) }
}
