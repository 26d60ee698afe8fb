//! Bilinear resizing of frames, planes and flows. Both sides may grow or shrink; nothing is smoothed when shrinking
//! (as OpenCV's `INTER_LINEAR` and PyTorch's `interpolate`), and samples beyond the border repeat it.

use rayon::prelude::*;

use crate::{FlowField, Frame, FrameView, Mask, Size};

/// Where the samples of two grids of different size lie with respect to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grid {
    /// Pixels are squares whose outer edges coincide: `x' = (x + 1/2) n/m - 1/2`. OpenCV and PyTorch do so by default.
    #[default]
    HalfPixel,
    /// The centres of the corner pixels coincide: `x' = x (n - 1)/(m - 1)`, as with PyTorch's `align_corners`.
    AlignCorners,
    /// The first centres coincide: `x' = x n/m`. TensorFlow 1 and MindSpore do so by default.
    Asymmetric,
}

impl Grid {
    /// Where sample `i` of `to` lies along an axis of `from` samples, not clamped to them.
    pub fn source(self, i: usize, from: usize, to: usize) -> f64 {
        let ratio = from as f64 / to as f64;
        match self {
            Self::HalfPixel => (i as f64 + 0.5) * ratio - 0.5,
            Self::AlignCorners if to == 1 => 0.0,
            Self::AlignCorners => i as f64 * (from - 1) as f64 / (to - 1) as f64,
            Self::Asymmetric => i as f64 * ratio,
        }
    }
}

/// The two neighbours of an output sample, and the weight of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tap {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) weight: f32,
}

/// The neighbours of each of `to` samples among `from`.
pub(crate) fn taps(grid: Grid, from: usize, to: usize) -> Vec<Tap> {
    let last = from - 1;
    (0..to)
        .map(|i| {
            let p = grid.source(i, from, to).clamp(0.0, last as f64);
            let low = p as usize;
            Tap { low, high: (low + 1).min(last), weight: (p - low as f64) as f32 }
        })
        .collect()
}

/// Resizes an interleaved image `[height, width, channels]` to `to`.
///
/// # Panics
/// If `data` is not of the size given, or a side is 0.
pub fn resize(data: &[f32], from: Size, channels: usize, to: Size, grid: Grid) -> Vec<f32> {
    assert_eq!(data.len(), from.pixels() * channels, "values of the image");
    assert!(from.pixels() * to.pixels() > 0, "resizing from {from} to {to}");
    let (columns, rows) = (taps(grid, from.width, to.width), taps(grid, from.height, to.height));
    let mut out = vec![0.0; to.pixels() * channels];
    out.par_chunks_exact_mut(to.width * channels).zip(rows).for_each(|(out, row)| {
        let line = |y: usize| &data[y * from.width * channels..][..from.width * channels];
        let (top, bottom) = (line(row.low), line(row.high));
        for (out, tap) in out.chunks_exact_mut(channels).zip(&columns) {
            for (c, out) in out.iter_mut().enumerate() {
                let (left, right) = (tap.low * channels + c, tap.high * channels + c);
                let across = |line: &[f32]| line[left] + (line[right] - line[left]) * tap.weight;
                let (above, below) = (across(top), across(bottom));
                *out = above + (below - above) * row.weight;
            }
        }
    });
    out
}

/// Resizes a frame to `to`, rounding to the nearest 8-bit value.
///
/// # Panics
/// If a side is 0.
pub fn resize_frame<'a>(frame: impl Into<FrameView<'a>>, to: Size, grid: Grid) -> Frame {
    let frame = frame.into();
    if frame.size() == to {
        return frame.to_frame();
    }
    let from = frame.width();
    let (columns, rows) = (taps(grid, from, to.width), taps(grid, frame.height(), to.height));
    let nearest = |value: f32| (value + 0.5) as u8;
    let mut resized = Frame::black(to);
    let lines = resized.rgb_mut().par_chunks_exact_mut(3 * to.width).zip(rows);
    // First down, along whole lines, then across.
    lines.for_each_init(
        || vec![0.0; 3 * from],
        |mixed, (out, row)| {
            let line = |y: usize| frame.row(y).iter().map(|&v| f32::from(v));
            for ((to, above), below) in mixed.iter_mut().zip(line(row.low)).zip(line(row.high)) {
                *to = above + (below - above) * row.weight;
            }
            if from == to.width {
                out.iter_mut().zip(mixed).for_each(|(to, value)| *to = nearest(*value));
                return;
            }
            let (pixels, _) = mixed.as_chunks::<3>();
            for (to, tap) in out.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
                let (left, right) = (pixels[tap.low], pixels[tap.high]);
                *to = std::array::from_fn(|c| nearest(left[c] + (right[c] - left[c]) * tap.weight));
            }
        },
    );
    resized
}

/// Resizes a flow to `to` and scales its vectors by `scale` (of u, of v).
///
/// An unknown pixel takes no part: each sample is the weighted mean of its known neighbours, and known if these hold at
/// least half of the weight.
pub fn resize_flow(flow: &FlowField, to: Size, scale: (f32, f32), grid: Grid) -> FlowField {
    let from = flow.size();
    let known = flow.validity().map(|m| m.data().iter().map(|&k| f32::from(u8::from(k))).collect::<Vec<_>>());
    let plane = |values: &[f32], scale: f32| {
        let mut out = if from == to { values.to_vec() } else { resize(values, from, 1, to, grid) };
        out.iter_mut().for_each(|c| *c *= scale);
        out
    };
    let (u, v) = (plane(flow.u(), scale.0), plane(flow.v(), scale.1));
    let weight = known.map(|k| if from == to { k } else { resize(&k, from, 1, to, grid) });
    FlowField::sparse_from_fn(to, |x, y| {
        let i = y * to.width + x;
        match &weight {
            None => Some((u[i], v[i])),
            // Unknown pixels hold zero motion, so the sums above are over the known ones.
            Some(w) => (w[i] >= 0.5).then(|| (u[i] / w[i], v[i] / w[i])),
        }
    })
}

/// Resizes a mask by its nearest pixels.
pub fn resize_mask(mask: &Mask, to: Size) -> Mask {
    let nearest = |i: usize, from: usize, to: usize| (2 * i + 1) * from / (2 * to);
    Mask::from_fn(to, |x, y| mask.get(nearest(x, mask.width(), to.width), nearest(y, mask.height(), to.height)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grids_by_hand() {
        let line = [0.0, 10.0, 20.0, 30.0];
        let to = |grid, n| resize(&line, Size::new(1, 4), 1, Size::new(1, n), grid);
        assert_eq!(to(Grid::HalfPixel, 2), [5.0, 25.0]);
        assert_eq!(to(Grid::HalfPixel, 8), [0.0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30.0]);
        assert_eq!(to(Grid::AlignCorners, 7), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        assert_eq!(to(Grid::AlignCorners, 1), [0.0]);
        assert_eq!(to(Grid::Asymmetric, 8), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 30.0]);
        assert_eq!(to(Grid::Asymmetric, 2), [0.0, 20.0]);
        assert_eq!(resize(&[3.0], Size::new(1, 1), 1, Size::new(2, 2), Grid::AlignCorners), [3.0; 4]);
    }

    #[test]
    fn frames_round_and_keep_channels_apart() {
        let frame = Frame::new(Size::new(1, 2), vec![0, 100, 255, 1, 200, 255]).unwrap();
        assert_eq!(resize_frame(&frame, Size::new(1, 1), Grid::HalfPixel).rgb(), [1, 150, 255]);
        assert_eq!(resize_frame(&frame, Size::new(1, 2), Grid::HalfPixel), frame);
    }

    #[test]
    fn flow_scales_by_axis_and_unknown_pixels_take_no_part() {
        let flow = FlowField::from_fn(Size::new(2, 4), |_, _| (1.0, 2.0));
        let doubled = resize_flow(&flow, Size::new(6, 8), (2.0, 3.0), Grid::HalfPixel);
        assert!(doubled.u().iter().all(|&u| u == 2.0) && doubled.v().iter().all(|&v| v == 6.0));
        let sparse = FlowField::sparse_from_fn(Size::new(1, 2), |x, _| (x == 0).then_some((4.0, 0.0)));
        let wide = resize_flow(&sparse, Size::new(1, 4), (1.0, 1.0), Grid::HalfPixel);
        assert_eq!(wide.validity().unwrap().data(), [true, true, false, false]);
        assert_eq!(wide.u(), [4.0, 4.0, 0.0, 0.0]);
    }
}
