//! Where an output reads, and with which weights.

use crate::LANES;

/// Interpolation and position of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// `source = floor(destination * in / out)`
    Nearest,
    /// Bilinear, `source = (destination + 0.5) * in / out - 0.5`, clamped to the image.
    HalfPixel,
    /// Bilinear, `source = destination * (in - 1) / (out - 1)`.
    AlignCorners,
    /// Bilinear, `source = destination * in / out`, clamped to the image.
    Asymmetric,
}

/// Where one output coordinate reads: `(1 - weight) * from[low] + weight * from[high]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    pub low: usize,
    pub high: usize,
    pub weight: f32,
}

impl Sampling {
    pub(super) fn tap(self, destination: usize, from: usize, to: usize) -> Tap {
        let (at, ratio) = (destination as f64, from as f64 / to as f64);
        let source = match self {
            Sampling::Nearest => {
                let low = destination * from / to;
                return Tap { low, high: low, weight: 0.0 };
            }
            Sampling::HalfPixel => (at + 0.5) * ratio - 0.5,
            Sampling::AlignCorners if to > 1 => at * (from - 1) as f64 / (to - 1) as f64,
            Sampling::AlignCorners => 0.0,
            Sampling::Asymmetric => at * ratio,
        };
        let source = source.clamp(0.0, (from - 1) as f64);
        let low = source as usize;
        Tap { low, high: (low + 1).min(from - 1), weight: (source - low as f64) as f32 }
    }
}

/// Rows four times as wide: what 16 neighbouring pixels take of the column before theirs, of theirs, and of the one
/// behind.
#[derive(Clone, Debug)]
pub(super) struct Fourfold(pub [[f32; LANES]; 3]);

impl Fourfold {
    /// `None` where the share of the neighbours differs along the row.
    pub fn new(sampling: Sampling) -> Option<Self> {
        let shift = |i: usize| {
            let i = (i % 4) as f32;
            match sampling {
                Sampling::Nearest => Some(0.0),
                Sampling::HalfPixel => Some((i + 0.5) / 4.0 - 0.5),
                Sampling::Asymmetric => Some(i / 4.0),
                Sampling::AlignCorners => None,
            }
        };
        shift(0)?;
        let shifts = std::array::from_fn::<f32, LANES, _>(|i| shift(i).unwrap_or(0.0));
        Some(Self([shifts.map(|s| (-s).max(0.0)), shifts.map(|s| 1.0 - s.abs()), shifts.map(|s| s.max(0.0))]))
    }
}
