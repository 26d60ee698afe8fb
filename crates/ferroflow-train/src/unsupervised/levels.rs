//! The finest flow of a network at the sizes that losses read, and their gradients back to it.

use ferroflow_core::{
    Size,
    geometry::Grid,
    sampling::{Window, resize, resize_adjoint},
};
use ferroflow_net::{PyramidUnit, training::Values};
use rayon::prelude::*;

use super::UnsupervisedError;

/// Losses read levels 0 (the size of the frames), 1 and 2 (a quarter of it).
pub(super) const LEVELS: usize = 3;

/// The size of a level, for frames of `size`.
pub(super) fn level_size(size: Size, level: usize) -> Size {
    let halved = |side: usize| (side >> level).max(1);
    Size { height: halved(size.height), width: halved(size.width) }
}

/// A flow at every level, (u, v) in pixels of the level.
pub(super) struct Levels {
    /// Flows in the batch.
    pub items: usize,
    levels: Vec<Level>,
    /// The level that the network gives.
    finest: usize,
    /// From the network's unit to pixels of that level.
    scale: f32,
    /// Whether the network's first component is v.
    row_first: bool,
    grid: Grid,
}

pub(super) struct Level {
    pub size: Size,
    /// `[N, 2, h, w]`
    pub flow: Vec<f32>,
    /// Of the loss with respect to it, to add to.
    pub gradient: Vec<f32>,
}

impl Level {
    fn new(items: usize, size: Size) -> Self {
        let values = items * 2 * size.height * size.width;
        Self { size, flow: vec![0.0; values], gradient: vec![0.0; values] }
    }

    /// A flow of the batch.
    pub fn item(&self, n: usize) -> &[f32] {
        let values = 2 * self.size.height * self.size.width;
        &self.flow[n * values..][..values]
    }
}

impl Levels {
    /// Of the network's finest flow `[N, 2, H/k, W/k]`, k a power of two, for frames of `size`. Coarser and finer levels are resized
    /// from their neighbour, by two.
    pub fn new(finest: &Values, unit: PyramidUnit, size: Size, grid: Grid) -> Result<Self, UnsupervisedError> {
        let [items, channels, h, w] = finest.shape;
        let stride = size.height.checked_div(h).unwrap_or(0);
        let fits = [h * stride, w * stride] == [size.height, size.width] && stride.is_power_of_two();
        if channels != 2 || !fits || finest.data.len() != items * 2 * h * w {
            return Err(UnsupervisedError::Flow { flow: finest.shape, frames: size });
        }
        let (scale, row_first) = match unit {
            PyramidUnit::Pixels(pixels) => (pixels / stride as f32, false),
            PyramidUnit::LevelPixels { row_first } => (1.0, row_first),
        };
        let at = stride.ilog2() as usize;
        let levels = (0..LEVELS.max(at + 1)).map(|level| Level::new(items, level_size(size, level))).collect();
        let mut this = Self { items, levels, finest: at, scale, row_first, grid };
        let pixels = h * w;
        let planes = this.planes(&finest.data, pixels);
        for (to, from) in this.levels[at].flow.chunks_exact_mut(pixels).zip(planes) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = scale * from);
        }
        for level in (1..=at).rev() {
            this.resized(level, level - 1);
        }
        for level in at..LEVELS - 1 {
            this.resized(level, level + 1);
        }
        Ok(this)
    }

    /// The planes of the network's output, u before v.
    fn planes<'a>(&self, data: &'a [f32], pixels: usize) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let swap = usize::from(self.row_first);
        (0..2 * self.items).map(move |plane| &data[(plane ^ swap) * pixels..][..pixels])
    }

    /// What a component of the flow is multiplied by between two levels.
    fn ratio(from: Size, to: Size, plane: usize) -> f32 {
        if plane.is_multiple_of(2) {
            to.width as f32 / from.width as f32
        } else {
            to.height as f32 / from.height as f32
        }
    }

    fn resized(&mut self, from: usize, to: usize) {
        let grid = self.grid;
        let Ok([from, to]) = self.levels.get_disjoint_mut([from, to]) else { unreachable!("two levels") };
        let (a, b) = (from.size, to.size);
        let planes =
            to.flow.par_chunks_exact_mut(b.height * b.width).zip(from.flow.par_chunks_exact(a.height * a.width));
        planes.enumerate().for_each(|(plane, (out, flow))| {
            resize(flow, a, Window::whole(a), b, grid, Self::ratio(a, b, plane), out);
        });
    }

    fn resized_back(&mut self, from: usize, to: usize) {
        let grid = self.grid;
        let Ok([from, to]) = self.levels.get_disjoint_mut([from, to]) else { unreachable!("two levels") };
        let (a, b) = (from.size, to.size);
        let planes = from
            .gradient
            .par_chunks_exact_mut(a.height * a.width)
            .zip(to.gradient.par_chunks_exact(b.height * b.width));
        planes.enumerate().for_each(|(plane, (d_flow, d_out))| {
            resize_adjoint(d_out, a, Window::whole(a), b, grid, Self::ratio(a, b, plane), d_flow);
        });
    }

    pub fn level(&self, level: usize) -> &Level {
        &self.levels[level]
    }

    pub fn level_mut(&mut self, level: usize) -> &mut Level {
        &mut self.levels[level]
    }

    /// The gradient of the loss with respect to the network's finest flow.
    pub fn gradient(mut self) -> Values {
        for level in (self.finest..LEVELS - 1).rev() {
            self.resized_back(level, level + 1);
        }
        for level in 1..=self.finest {
            self.resized_back(level, level - 1);
        }
        let Level { size: Size { height, width }, gradient, .. } = &self.levels[self.finest];
        let mut values = Values::zeros([self.items, 2, *height, *width]);
        let pixels = height * width;
        for (to, from) in values.data.chunks_exact_mut(pixels).zip(self.planes(gradient, pixels)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = self.scale * from);
        }
        values
    }
}
