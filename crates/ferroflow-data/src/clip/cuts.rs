//! Whether two frames of a video follow each other: duplicates that show nothing new, and cuts to another scene.

use std::{collections::VecDeque, ops::Range};

use super::plane::{Plane, range};

/// Whether nothing moved between two small pictures: what differs is what compression leaves, on the whole and in every block,
/// so that a thing that moves alone is seen.
pub(super) fn same(a: &Plane, b: &Plane) -> bool {
    /// Grey levels, mean over the picture.
    const EVERYWHERE: f32 = 0.3;
    /// Grey levels, mean over a block of 4x4.
    const ANYWHERE: f32 = 1.0;
    let difference = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).collect();
    let difference = Plane { width: a.width, height: a.height, values: difference };
    let mean = difference.values.iter().sum::<f32>() / difference.values.len() as f32;
    let blocks = difference.reduced(a.width.div_ceil(4));
    mean < EVERYWHERE && range(blocks.values).1 < ANYWHERE
}

/// Widest grid on which scenes are compared.
pub(super) const COARSE: usize = 64;

/// How little two coarse pictures have in common: 1 less their correlation where one is laid over the other at its best. About 0 for
/// the same scene, whatever the exposure; towards 1 for unrelated ones; 0 where there is nothing to see. Borders that are flat and
/// alike in both, such as bars, are left out.
///
/// It is the mean of what the wholes and what their details say. A whole bears with things that move in it, and unrelated ones are
/// often alike (a bright sky over a dark ground); details are the other way round.
pub(super) fn unlikeness(a: &Plane, b: &Plane) -> f32 {
    let inner = without_common_borders(a, b);
    let wholes = [a, b].map(|plane| plane.part(inner.clone()).smoothed());
    let details = [&wholes[0], &wholes[1]].map(Plane::details);
    let best = [wholes, details].into_iter().filter_map(|[a, b]| best_correlation(&a, &b));
    let (count, sum) = best.fold((0.0, 0.0), |(count, sum), best| (count + 1.0, sum + 1.0 - best));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The highest correlation over shifts of up to a quarter of the picture; `None` if one is flat.
fn best_correlation(a: &Plane, b: &Plane) -> Option<f32> {
    let (reach_x, reach_y) = (a.width as isize / 4, a.height as isize / 4);
    let mut best = (correlation(a, b, 0, 0)?, (0, 0));
    let mut look = |dx: isize, dy: isize| {
        let within = dx.abs() <= reach_x && dy.abs() <= reach_y;
        let found = within.then(|| correlation(a, b, dx, dy)).flatten();
        if let Some(found) = found.filter(|&found| found > best.0) {
            best = (found, (dx, dy));
        }
        best
    };
    // Both are smooth: every other shift is enough to find the best one's neighbour.
    for dy in (-reach_y..=reach_y).step_by(2) {
        for dx in (-reach_x..=reach_x).step_by(2) {
            look(dx, dy);
        }
    }
    let (_, (x, y)) = look(0, 0);
    for dy in -1..=1 {
        for dx in -1..=1 {
            look(x + dx, y + dy);
        }
    }
    Some(look(0, 0).0)
}

/// Correlation of `a(x, y)` with `b(x + dx, y + dy)` where both are; `None` where one of them is flat.
fn correlation(a: &Plane, b: &Plane, dx: isize, dy: isize) -> Option<f32> {
    let span = |d: isize, size: usize| (-d).max(0) as usize..(size as isize - d.max(0)) as usize;
    let mut sums = [0f32; 5];
    let mut count = 0;
    let columns = span(dx, a.width);
    for y in span(dy, a.height) {
        let from_a = &a.row(y)[columns.clone()];
        let from_b = &b.row((y as isize + dy) as usize)[(columns.start as isize + dx) as usize..];
        for (&p, &q) in from_a.iter().zip(from_b) {
            for (sum, term) in sums.iter_mut().zip([p, q, p * p, q * q, p * q]) {
                *sum += term;
            }
        }
        count += from_a.len();
    }
    let [p, q, pp, qq, pq] = sums.map(|sum| sum / count as f32);
    let (of_a, of_b) = (pp - p * p, qq - q * q);
    // Less than one grey level of contrast is noise.
    (of_a >= 1.0 && of_b >= 1.0).then(|| (pq - p * q) / (of_a * of_b).sqrt())
}

/// Rows and columns without those at the borders that are flat and alike in both pictures, unless hardly anything is left.
fn without_common_borders(a: &Plane, b: &Plane) -> [Range<usize>; 2] {
    let alike = |line: &dyn Fn(&Plane) -> (f32, f32)| {
        let (low, high) = line(a);
        let (low_b, high_b) = line(b);
        high.max(high_b) - low.min(low_b) < 6.0
    };
    let row = |y: usize| alike(&|plane: &Plane| range(plane.row(y).iter().copied()));
    let column = |x: usize| alike(&|plane: &Plane| range((0..plane.height).map(|y| plane.at(x, y))));
    let inner = |size: usize, flat: &dyn Fn(usize) -> bool| {
        let before = (0..size).take_while(|&i| flat(i)).count();
        let after = (before..size).rev().take_while(|&i| flat(i)).count();
        // The cell at a bar's edge may be half of it.
        let [before, after] = [before, after].map(|lines| if lines > 0 { lines + 1 } else { 0 });
        if 4 * (before + after) <= 3 * size { before..size - after } else { 0..size }
    };
    [inner(a.height, &row), inner(a.width, &column)]
}

/// Which frames begin another scene, by their [`unlikeness`] to the frame before. A cut stands out from what is usual around it:
/// fast motion makes many frames unlike the one before, a cut one. Beyond doubt, it is one in any company.
pub(super) fn cuts(unlikeness: &[f32]) -> Vec<bool> {
    let mut finder = CutFinder::default();
    let mut found: Vec<bool> = unlikeness.iter().filter_map(|&unlike| finder.push(unlike)).collect();
    found.extend(finder.finish());
    found
}

/// Finds the cuts of a stream, a few frames late, because a cut is told by what comes before and after it.
#[derive(Clone, Debug, Default)]
pub struct CutFinder {
    /// Unlikeness of the frames around the next one to decide on.
    around: VecDeque<f32>,
    /// Which of them that is.
    next: usize,
}

impl CutFinder {
    /// Frames that count on each side.
    const AROUND: usize = 8;

    /// Takes the unlikeness of a frame to the one before. Says of an earlier frame, each in turn, whether it begins another scene.
    pub fn push(&mut self, unlikeness: f32) -> Option<bool> {
        self.around.push_back(unlikeness);
        (self.around.len() > self.next + Self::AROUND).then(|| self.decide())
    }

    /// Says so of the frames that are left, in turn.
    pub fn finish(mut self) -> impl Iterator<Item = bool> {
        std::iter::from_fn(move || (self.next < self.around.len()).then(|| self.decide()))
    }

    fn decide(&mut self) -> bool {
        /// Below, never a cut; above, always. (Unrelated pictures of two films, 185 pairs, are at 0.53 and more. Within a scene,
        /// frames reach 0.39, where a bus passes close before the camera.)
        const DOUBT: (f32, f32) = (0.47, 0.75);
        let end = self.next + Self::AROUND + 1;
        let others = self.around.iter().take(end).enumerate().filter(|&(i, _)| i != self.next);
        let mut usual: Vec<f32> = others.map(|(_, &unlike)| unlike).collect();
        usual.sort_by(f32::total_cmp);
        let median = usual.get(usual.len() / 2).copied().unwrap_or(0.0);
        let found = self.around[self.next] > (0.3 + 1.5 * median).clamp(DOUBT.0, DOUBT.1);
        if self.next == Self::AROUND {
            self.around.pop_front();
        } else {
            self.next += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_stands_out_and_fast_motion_does_not() {
        let mut quiet = vec![0.02; 20];
        quiet[7] = 0.5;
        let found = |values: &[f32]| cuts(values).iter().filter(|&&cut| cut).count();
        assert_eq!((found(&quiet), cuts(&quiet)[7]), (1, true));
        assert_eq!(found(&[0.1, 0.3, 0.4, 0.35, 0.5, 0.4, 0.3, 0.45]), 0);
        assert_eq!(found(&[0.9, 0.8, 0.95, 0.8]), 4);
        assert_eq!(found(&[]), 0);
    }
}
