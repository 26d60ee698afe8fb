//! Large frames are cut into overlapping tiles whose flows are blended: in the overlap the weight of each tile falls linearly
//! towards its edge, so that no seam shows.

use crate::{FlowField, Frame, FrameView, Size};

/// A rectangle of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Left edge, pixels.
    pub x: usize,
    /// Top edge, pixels.
    pub y: usize,
    /// Height and width in pixels.
    pub size: Size,
}

impl Tile {
    /// The pixels of the tile.
    ///
    /// # Panics
    /// If the tile reaches beyond the frame.
    pub fn cut(&self, frame: &Frame) -> Frame {
        self.window(frame.into()).to_frame()
    }

    /// The same pixels where they are.
    ///
    /// # Panics
    /// If the tile reaches beyond the frame.
    pub fn window<'a>(&self, frame: FrameView<'a>) -> FrameView<'a> {
        frame.window(self.x, self.y, self.size)
    }
}

/// Tiles of one size, at most `tile`, that cover a frame of `size` with at least `overlap` pixels in
/// common, row by row. An overlap of more than half a tile is reduced to half.
pub fn tiles(size: Size, tile: Size, overlap: usize) -> Vec<Tile> {
    let (width, columns) = starts(size.width, tile.width, overlap);
    let (height, rows) = starts(size.height, tile.height, overlap);
    let size = Size { height, width };
    rows.iter().flat_map(|&y| columns.iter().map(move |&x| Tile { x, y, size })).collect()
}

/// The length of the tiles of one axis and where they start, evenly spread.
fn starts(size: usize, tile: usize, overlap: usize) -> (usize, Vec<usize>) {
    let tile = tile.max(1);
    if size <= tile {
        return (size, vec![0]);
    }
    let step = tile - overlap.min(tile / 2);
    let steps = (size - tile).div_ceil(step);
    (tile, (0..=steps).map(|i| i * (size - tile) / steps).collect())
}

/// Blends the flows of tiles into one flow.
#[derive(Clone, Debug)]
pub struct Blend {
    size: Size,
    overlap: usize,
    u: Vec<f32>,
    v: Vec<f32>,
    weight: Vec<f32>,
}

impl Blend {
    /// A blend for a frame of `size` whose tiles have `overlap` pixels in common.
    pub fn new(size: Size, overlap: usize) -> Self {
        let plane = vec![0.0; size.pixels()];
        Self { size, overlap, u: plane.clone(), v: plane.clone(), weight: plane }
    }

    /// Adds the flow of a tile, in pixels; where it is unknown, other tiles decide.
    ///
    /// # Panics
    /// If the flow is not of the tile's size, or the tile reaches beyond the frame.
    pub fn add(&mut self, tile: &Tile, flow: &FlowField) {
        assert_eq!(flow.size(), tile.size, "flow of the tile");
        let (Size { height, width }, whole) = (tile.size, self.size);
        assert!(tile.x + width <= whole.width && tile.y + height <= whole.height, "{tile:?} is not inside");
        // Towards the frame's own border there is nothing to blend with.
        let ramp = |i: usize, length: usize, start: usize, size: usize| {
            let rise = |distance: usize| ((distance as f32 + 0.5) / self.overlap.max(1) as f32).min(1.0);
            let first = if start == 0 { 1.0 } else { rise(i) };
            let last = if start + length == size { 1.0 } else { rise(length - 1 - i) };
            first * last
        };
        let across: Vec<f32> = (0..width).map(|x| ramp(x, width, tile.x, whole.width)).collect();
        let down: Vec<f32> = (0..height).map(|y| ramp(y, height, tile.y, whole.height)).collect();
        for (y, down) in down.iter().enumerate() {
            for (x, across) in across.iter().enumerate() {
                if let Some((u, v)) = flow.known(x, y) {
                    let (at, weight) = ((tile.y + y) * whole.width + tile.x + x, across * down);
                    self.u[at] += weight * u;
                    self.v[at] += weight * v;
                    self.weight[at] += weight;
                }
            }
        }
    }

    /// The whole flow; unknown where no tile knows it.
    pub fn finish(self) -> FlowField {
        FlowField::sparse_from_fn(self.size, |x, y| {
            let at = y * self.size.width + x;
            let weight = self.weight[at];
            (weight > 0.0).then(|| (self.u[at] / weight, self.v[at] / weight))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tiles_by_hand() {
        let size = Size::new(30, 40);
        let across = tiles(Size::new(30, 100), Size::new(40, 40), 10);
        assert_eq!(across, [0, 30, 60].map(|x| Tile { x, y: 0, size }));
        assert_eq!(tiles(Size::new(40, 40), Size::new(40, 40), 39).len(), 1);
    }

    #[test]
    fn weights_cross_in_the_middle_of_the_overlap() {
        let mut blend = Blend::new(Size::new(1, 12), 4);
        for (tile, u) in tiles(Size::new(1, 12), Size::new(1, 8), 4).iter().zip([0.0, 1.0]) {
            blend.add(tile, &FlowField::from_fn(Size::new(1, 8), |_, _| (u, 0.0)));
        }
        let u = blend.finish();
        let expected = [0.0, 0.0, 0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0, 1.0, 1.0];
        assert!(u.u().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", u.u());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn tiles_of_a_flow_blend_to_that_flow(
            width in 1usize..=90, height in 1usize..=90, tile in 1usize..=50, overlap in 0usize..=60,
        ) {
            let whole = FlowField::from_fn(Size { height, width }, |x, y| (x as f32 - 3.5, (x + 2 * y) as f32));
            let mut blend = Blend::new(whole.size(), overlap);
            for tile in tiles(whole.size(), Size::new(tile, tile), overlap) {
                blend.add(&tile, &FlowField::from_fn(tile.size, |x, y| whole.get(tile.x + x, tile.y + y)));
            }
            let blended = blend.finish();
            prop_assert!(blended.validity().is_none());
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
            prop_assert!(near(blended.u(), whole.u()) && near(blended.v(), whole.v()));
        }
    }
}
