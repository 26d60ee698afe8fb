//! Exact area coverage of polygons: what share of each pixel lies inside.
//!
//! Signed areas of the edges are accumulated in one pass and integrated along each row (the method of the `font-rs`
//! rasteriser), so the cost follows the outline's length, and edges are anti-aliased for free.

use ferroflow_core::Size;

/// A point in pixels; pixel `(i, j)` is the unit square about `(i, j)`.
pub type Point = (f32, f32);

/// Coverage of one shape inside its clipped bounding box.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Left and top pixel of the box.
    pub origin: (usize, usize),
    /// Size of the box in pixels.
    pub size: Size,
    stride: usize,
    sums: Vec<f32>,
}

impl Coverage {
    /// Prepares the box of `contours` grown over `offsets`, clipped to a frame; false when nothing is inside.
    pub fn begin(&mut self, low: Point, high: Point, frame: Size) -> bool {
        let clip = |v: f32, side: usize| v.clamp(0.0, side as f32) as usize;
        let (x0, y0) = (clip(low.0 - 1.0, frame.width), clip(low.1 - 1.0, frame.height));
        let (x1, y1) = (clip(high.0 + 3.0, frame.width), clip(high.1 + 3.0, frame.height));
        if x1 <= x0 || y1 <= y0 {
            return false;
        }
        self.origin = (x0, y0);
        self.size = Size { height: y1 - y0, width: x1 - x0 };
        self.stride = self.size.width + 2;
        self.sums.clear();
        self.sums.resize(self.stride * self.size.height, 0.0);
        true
    }

    /// Adds a closed contour with a weight (1 for a still shape, 1/n for each of n moments of a moving one).
    pub fn add(&mut self, contour: &[Point], weight: f32) {
        let (ox, oy) = (self.origin.0 as f32 - 0.5, self.origin.1 as f32 - 0.5);
        let Some(&last) = contour.last() else { return };
        let mut previous = (last.0 - ox, last.1 - oy);
        for p in contour {
            let next = (p.0 - ox, p.1 - oy);
            self.edge(previous, next, weight);
            previous = next;
        }
    }

    fn edge(&mut self, a: Point, b: Point, weight: f32) {
        if a.1 == b.1 {
            return;
        }
        let (sign, top, bottom) = if a.1 < b.1 { (weight, a, b) } else { (-weight, b, a) };
        let slope = (bottom.0 - top.0) / (bottom.1 - top.1);
        let width = self.size.width as f32;
        let first = top.1.max(0.0);
        let mut x = top.0 + (first - top.1) * slope;
        let end = bottom.1.min(self.size.height as f32);
        let mut y = first as usize;
        while (y as f32) < end {
            let dy = ((y + 1) as f32).min(end) - (y as f32).max(first);
            let next = x + slope * dy;
            // Left of the box everything to the right is covered; right of it nothing is.
            let (from, to) = (x.clamp(0.0, width), next.clamp(0.0, width));
            self.row_edge(y * self.stride, from.min(to), from.max(to), dy * sign);
            x = next;
            y += 1;
        }
    }

    /// An edge crossing one row from `x0` to `x1 >= x0`, `d` rows high.
    #[inline]
    fn row_edge(&mut self, row: usize, x0: f32, x1: f32, d: f32) {
        let left = x0 as usize;
        let right = (x1 as usize) + usize::from(x1 > (x1 as usize) as f32);
        let sums = &mut self.sums[row..row + self.stride];
        let x0f = x0 - left as f32;
        if right <= left + 1 {
            let mean = 0.5 * (x0 + x1) - left as f32;
            sums[left] += d - d * mean;
            sums[left + 1] += d * mean;
            return;
        }
        let s = 1.0 / (x1 - x0);
        let head = 0.5 * s * (1.0 - x0f) * (1.0 - x0f);
        let x1f = x1 - right as f32 + 1.0;
        let tail = 0.5 * s * x1f * x1f;
        sums[left] += d * head;
        if right == left + 2 {
            sums[left + 1] += d * (1.0 - head - tail);
        } else {
            let second = s * (1.5 - x0f);
            sums[left + 1] += d * (second - head);
            for sum in &mut sums[left + 2..right - 1] {
                *sum += d * s;
            }
            let before = second + (right - left - 3) as f32 * s;
            sums[right - 1] += d * (1.0 - before - tail);
        }
        sums[right] += d * tail;
    }

    /// Integrates row `y` of the box into `alpha` (length at least the box's width); returns the covered columns.
    pub fn row(&self, y: usize, alpha: &mut [f32]) -> Option<(usize, usize)> {
        let (mut sum, mut first, mut last) = (0.0f32, usize::MAX, 0);
        let sums = &self.sums[y * self.stride..y * self.stride + self.size.width];
        for (x, (a, d)) in alpha.iter_mut().zip(sums).enumerate() {
            sum += d;
            // Below 1/500 is rounding dust of the running sum, not a covered pixel.
            let covered = sum.abs();
            *a = if covered < 0.002 { 0.0 } else { covered.min(1.0) };
            if covered >= 0.002 {
                first = first.min(x);
                last = x + 1;
            }
        }
        (first < last).then_some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(contour: &[Point]) -> f32 {
        let mut coverage = Coverage::default();
        assert!(coverage.begin((0.0, 0.0), (40.0, 40.0), Size::new(40, 40)));
        coverage.add(contour, 1.0);
        let mut alpha = [0.0; 40];
        (0..40).map(|y| if coverage.row(y, &mut alpha).is_some() { alpha.iter().sum() } else { 0.0 }).sum()
    }

    #[test]
    fn coverage_sums_to_the_area() {
        let square = [(3.25, 4.5), (10.75, 4.5), (10.75, 20.0), (3.25, 20.0)];
        assert!((area(&square) - 7.5 * 15.5).abs() < 0.05);
        let triangle = [(2.0, 3.0), (33.0, 9.3), (11.7, 30.0)];
        let twice = (31.0 * 27.0 - 9.7 * 6.3f32).abs();
        assert!((area(&triangle) - twice / 2.0).abs() < 0.3);
    }

    #[test]
    fn shapes_beyond_the_frame_are_clipped() {
        let huge = [(-1e4, -1e4), (1e4, -1e4), (1e4, 1e4), (-1e4, 1e4)];
        assert!((area(&huge) - 1600.0).abs() < 0.1);
        assert!(!Coverage::default().begin((-9.0, -9.0), (-5.0, -5.0), Size::new(40, 40)));
    }
}
