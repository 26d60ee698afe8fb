//! Bands by the distance to the nearest occlusion boundary, as the tables of MPI Sintel have them.

use rayon::prelude::*;

use crate::{Mask, Size};

/// Where the bands end, px: `d0_10`, `d10_60` and `d60_140`. Pixels that are further away are in none.
const ENDS: [f64; 3] = [10.0, 60.0, 140.0];

/// What is far from everything, px squared.
const FAR: f64 = 1e18;

/// The band of every pixel of a frame.
///
/// The boundary is every pixel one of whose four neighbours is occluded where it is not, or the other way round. Distances are
/// Euclidean, from pixel to pixel. Sintel's server says no more than "the nearest occlusion boundary"; its code is not public, so
/// figures near the ends of a band may differ from its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Bands {
    size: Size,
    /// Index of the band, or the number of bands beyond the last.
    of: Vec<u8>,
}

impl Bands {
    /// The bands around the boundaries of a mask of occluded pixels. Without a boundary no pixel is in a band.
    pub fn around(occluded: &Mask) -> Self {
        let size = occluded.size();
        let squared = squared_distances(&boundary(occluded), size);
        let band = |d: f64| ENDS.iter().position(|end| d < end * end).unwrap_or(ENDS.len()) as u8;
        // The last band includes its end, as its name says; the others end where the next begins.
        let last = |d: f64| d <= ENDS[2] * ENDS[2];
        let of = squared.into_iter().map(|d| if last(d) { band(d).min(2) } else { ENDS.len() as u8 }).collect();
        Self { size, of }
    }

    /// Size of the frame.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Index of a pixel's band.
    pub(super) fn get(&self, x: usize, y: usize) -> Option<usize> {
        let band = usize::from(self.of[y * self.size.width + x]);
        (band < ENDS.len()).then_some(band)
    }
}

/// Whether each pixel has a neighbour of the other kind.
fn boundary(mask: &Mask) -> Vec<bool> {
    let Size { height, width } = mask.size();
    let differs = |x: usize, y: usize| {
        let here = mask.get(x, y);
        (x > 0 && mask.get(x - 1, y) != here)
            || (x + 1 < width && mask.get(x + 1, y) != here)
            || (y > 0 && mask.get(x, y - 1) != here)
            || (y + 1 < height && mask.get(x, y + 1) != here)
    };
    (0..height).into_par_iter().flat_map_iter(|y| (0..width).map(move |x| differs(x, y))).collect()
}

/// The squared distance of each pixel to the nearest of `points`, first along columns, then along rows (Felzenszwalb and
/// Huttenlocher, "Distance transforms of sampled functions", 2012).
fn squared_distances(points: &[bool], Size { height, width }: Size) -> Vec<f64> {
    let mut distances: Vec<f64> = points.iter().map(|&point| if point { 0.0 } else { FAR }).collect();
    let columns: Vec<Vec<f64>> = (0..width)
        .into_par_iter()
        .map(|x| transform(&(0..height).map(|y| distances[y * width + x]).collect::<Vec<f64>>()))
        .collect();
    distances.par_chunks_mut(width.max(1)).enumerate().for_each(|(y, row)| {
        let along: Vec<f64> = columns.iter().map(|column| column[y]).collect();
        row.copy_from_slice(&transform(&along));
    });
    distances
}

/// `min over q of (p - q)^2 + f[q]` at every `p`, as the lower envelope of parabolas.
fn transform(f: &[f64]) -> Vec<f64> {
    // The parabolas of the envelope, and where each begins to be the lowest.
    let (mut roots, mut starts): (Vec<usize>, Vec<f64>) = (Vec::new(), Vec::new());
    for q in (0..f.len()).filter(|&q| f[q] < FAR) {
        let at = |p: usize| p as f64;
        let mut start = f64::NEG_INFINITY;
        while let Some(&last) = roots.last() {
            let crossing = (f[q] + at(q) * at(q) - f[last] - at(last) * at(last)) / (2.0 * (at(q) - at(last)));
            if crossing > starts[starts.len() - 1] {
                start = crossing;
                break;
            }
            roots.pop();
            starts.pop();
        }
        roots.push(q);
        starts.push(start);
    }
    if roots.is_empty() {
        return vec![FAR; f.len()];
    }
    let mut lowest = 0;
    (0..f.len())
        .map(|p| {
            while starts.get(lowest + 1).is_some_and(|&start| start < p as f64) {
                lowest += 1;
            }
            (p as f64 - roots[lowest] as f64).powi(2) + f[roots[lowest]]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_a_search() {
        let size = Size::new(23, 31);
        let points: Vec<bool> = (0..size.pixels()).map(|i| (i * 7919) % 101 == 3).collect();
        let nearest = |i: usize| {
            let away = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
            let all = points.iter().enumerate().filter(|(_, point)| **point);
            all.map(|(j, _)| away(i % 31, j % 31) + away(i / 31, j / 31)).fold(f64::INFINITY, f64::min)
        };
        let found = squared_distances(&points, size);
        (0..size.pixels()).for_each(|i| assert_eq!(found[i], nearest(i), "{i}"));
    }

    #[test]
    fn bands_are_rings_around_the_edge_of_a_mask() {
        // Occluded up to column 99: the boundary is columns 99 and 100.
        let mask = Mask::from_fn(Size::new(2, 400), |x, _| x < 100);
        let bands = Bands::around(&mask);
        let of = |x| bands.get(x, 1);
        assert_eq!([100, 109, 110, 159, 160, 240].map(of), [0, 0, 1, 1, 2, 2].map(Some));
        assert_eq!((of(241), of(90), of(89)), (None, Some(0), Some(1)));
        let whole = Bands::around(&Mask::filled(Size::new(3, 3), true));
        assert!((0..3).all(|x| whole.get(x, 1).is_none()));
    }
}
