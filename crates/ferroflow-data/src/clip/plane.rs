//! Pictures of one channel, as the statistics of a video are taken on.

use std::ops::Range;

use ferroflow_core::Frame;

/// Values row by row.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Plane {
    /// The grey levels of a frame, 0 to 255.
    pub fn grey(frame: &Frame) -> Self {
        let grey = |p: &[u8]| f32::from(u16::from(p[0]) + 2 * u16::from(p[1]) + u16::from(p[2])) / 4.0;
        Self { width: frame.width(), height: frame.height(), values: frame.rgb().chunks_exact(3).map(grey).collect() }
    }

    pub fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..][..self.width]
    }

    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    /// Some rows and columns of it.
    pub fn part(&self, [rows, columns]: [Range<usize>; 2]) -> Self {
        Self {
            width: columns.len(),
            height: rows.len(),
            values: rows.flat_map(|y| self.row(y)[columns.clone()].iter().copied()).collect(),
        }
    }

    /// How many pixels a side of a cell takes that brings the width down to `widest`.
    pub fn cell(&self, widest: usize) -> usize {
        self.width.div_ceil(widest).max(1)
    }

    /// The means of square cells, at most `widest` in a row; the last ones may be cut by the border.
    pub fn reduced(&self, widest: usize) -> Self {
        let cell = self.cell(widest);
        let (width, height) = (self.width.div_ceil(cell), self.height.div_ceil(cell));
        let mut values = vec![0.0; width * height];
        for y in 0..self.height {
            let sums = &mut values[y / cell * width..][..width];
            for (sum, pixels) in sums.iter_mut().zip(self.row(y).chunks(cell)) {
                *sum += pixels.iter().sum::<f32>();
            }
        }
        for (index, value) in values.iter_mut().enumerate() {
            let across = cell.min(self.width - index % width * cell);
            let down = cell.min(self.height - index / width * cell);
            *value /= (across * down) as f32;
        }
        Self { width, height, values }
    }

    /// Smoothed by 1, 2, 1 in both directions, so that motion by part of a pixel changes little.
    pub fn smoothed(&self) -> Self {
        self.filtered(&[0.25, 0.5, 0.25])
    }

    /// What differs from the mean of 11x11 pixels around.
    pub fn details(&self) -> Self {
        let mut details = self.filtered(&[1.0 / 11.0; 11]);
        details.values.iter_mut().zip(&self.values).for_each(|(mean, value)| *mean = value - *mean);
        details
    }

    /// Filtered by weights, an odd number, in both directions; the border goes on beyond itself.
    fn filtered(&self, weights: &[f32]) -> Self {
        let (w, h) = (self.width, self.height);
        let at = |i: usize, k: usize, size: usize| (i + k).saturating_sub(weights.len() / 2).min(size - 1);
        let sum = |value: &dyn Fn(usize) -> f32| weights.iter().enumerate().map(|(k, v)| v * value(k)).sum();
        let across: Vec<f32> = (0..w * h).map(|i| sum(&|k| self.at(at(i % w, k, w), i / w))).collect();
        let values = (0..w * h).map(|i| sum(&|k| across[at(i / w, k, h) * w + i % w])).collect();
        Self { width: w, height: h, values }
    }

    /// Standard deviation over the picture.
    pub fn deviation(&self) -> f32 {
        let count = self.values.len() as f32;
        let mean = self.values.iter().sum::<f32>() / count;
        (self.values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt()
    }
}

/// The lowest and the highest of some values.
pub(super) fn range(values: impl IntoIterator<Item = f32>) -> (f32, f32) {
    values.into_iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_means_and_those_cut_by_the_border_too() {
        let plane = Plane { width: 5, height: 3, values: (0..15u8).map(f32::from).collect() };
        let reduced = plane.reduced(3);
        assert_eq!((reduced.width, reduced.height, plane.cell(3)), (3, 2, 2));
        assert_eq!(reduced.values, [3.0, 5.0, 6.5, 10.5, 12.5, 14.0]);
        assert_eq!(plane.reduced(128).values, plane.values);
        assert_eq!(plane.smoothed().at(2, 1), 7.0);
        assert_eq!(plane.smoothed().at(0, 0), 0.25 + 5.0 * 0.25);
        let flat = Plane { width: 9, height: 7, values: vec![40.0; 63] };
        assert!(flat.details().values.iter().all(|v| v.abs() < 1e-4));
    }
}
