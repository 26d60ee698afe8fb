//! Pictures of one channel, as the statistics of a video are taken on.

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
        Self {
            width: frame.width(),
            height: frame.height(),
            values: frame.rgb().chunks_exact(3).map(grey).collect(),
        }
    }

    pub fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..][..self.width]
    }

    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
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
        let (w, h) = (self.width, self.height);
        let pass = |values: &[f32], step: &dyn Fn(usize, usize) -> [usize; 3]| -> Vec<f32> {
            let smooth = |i: usize| {
                let [a, b, c] = step(i % w, i / w);
                (values[a] + 2.0 * values[b] + values[c]) / 4.0
            };
            (0..w * h).map(smooth).collect()
        };
        let across = pass(&self.values, &|x, y| [x.saturating_sub(1), x, (x + 1).min(w - 1)].map(|x| y * w + x));
        let values = pass(&across, &|x, y| [y.saturating_sub(1), y, (y + 1).min(h - 1)].map(|y| y * w + x));
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
    }
}
