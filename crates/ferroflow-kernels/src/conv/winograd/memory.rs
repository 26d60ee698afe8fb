//! Where things are: transformed input V, transformed weights U, products M.
//!
//! * `V[point][input phase][channel block][tile][16]`: the product broadcasts from it, tiles being one line apart. Only
//!   the phases that have a point are there. One line of padding per point keeps points off the same cache sets.
//! * `U[chunk][panel][point]` or `U[chunk][point][panel]`, each `[input phase][channel][vector][16]`: read once, in order.
//!   Filled with all points side by side, so a line of padding after each keeps them, too, off the same cache sets.
//! * `M[vector][tile][point][16]`: what the inverse transform of a tile reads is consecutive; an odd number of lines.

use super::scheme::Scheme;
use crate::LANES;

/// How a layer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// Tiles at a time.
    pub tiles: usize,
    /// Channel blocks at a time; M accumulates over the chunks.
    pub blocks: usize,
    /// Threads share the tiles' V and M and split points, panels and blocks, with a barrier between the stages. Else
    /// each thread has its own tiles.
    pub staged: bool,
}

#[derive(Debug)]
pub struct Memory {
    pub blocking: Blocking,
    /// Points of the domain.
    pub points: usize,
    /// Used input blocks: index of the plane, channels to the last used lane.
    pub channels: Vec<(usize, usize)>,
    /// First vector and number of vectors of each panel.
    pub panels: Vec<(usize, usize)>,
    /// Output vectors: output phases x blocks.
    pub vectors: usize,
    /// Input phases at each point, and their sum over the points before.
    phases: Vec<(usize, usize)>,
    total: usize,
    /// Per input phase and point of it: floats from V's beginning to channel block 0.
    pub inputs: Vec<Vec<usize>>,
    /// First float of each chunk's U, and its channels.
    chunks: Vec<(usize, usize)>,
    /// Floats of U.
    pub u_len: usize,
}

impl Memory {
    pub fn new(
        scheme: &Scheme,
        channels: Vec<(usize, usize)>,
        vectors: usize,
        panel: usize,
        blocking: Blocking,
    ) -> Self {
        let (points, side) = (scheme.count(), scheme.points[1].len());
        let mut at_point = vec![Vec::new(); points];
        for (i, phase) in scheme.inputs.iter().enumerate() {
            let [rows, columns] = phase.points;
            let (y0, x0) = (rows.first_in(scheme.points[0]), columns.first_in(scheme.points[1]));
            for y in 0..rows.len() {
                for x in 0..columns.len() {
                    at_point[(y0 + y) * side + x0 + x].push(i);
                }
            }
        }
        let mut total = 0;
        let mut phases = Vec::new();
        let mut inputs = vec![Vec::new(); scheme.inputs.len()];
        for (point, list) in at_point.iter().enumerate() {
            phases.push((list.len(), total));
            for (rank, &phase) in list.iter().enumerate() {
                inputs[phase].push(((total + rank) * blocking.blocks * blocking.tiles + point) * LANES);
            }
            total += list.len();
        }
        let panels: Vec<_> = (0..vectors).step_by(panel).map(|first| (first, panel.min(vectors - first))).collect();
        let mut u_len = 0;
        let chunks = channels
            .chunks(blocking.blocks)
            .map(|chunk| {
                let (start, lanes) = (u_len, chunk.iter().map(|c| c.1).sum::<usize>());
                u_len += (lanes * vectors * total + points * panels.len()) * LANES;
                (start, lanes)
            })
            .collect();
        Self { blocking, points, channels, panels, vectors, phases, total, inputs, chunks, u_len }
    }

    /// Floats of V.
    pub fn v_len(&self) -> usize {
        (self.total * self.blocking.blocks * self.blocking.tiles + self.points) * LANES
    }

    /// Floats from V's beginning to a point.
    pub fn v_point(&self, point: usize) -> usize {
        (self.phases[point].1 * self.blocking.blocks * self.blocking.tiles + point) * LANES
    }

    /// Floats between the blocks of V at one point.
    pub fn v_block(&self) -> usize {
        self.blocking.tiles * LANES
    }

    /// Input phases at a point.
    pub fn phases(&self, point: usize) -> usize {
        self.phases[point].0
    }

    /// How many channel chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The channel blocks of a chunk.
    pub fn chunk(&self, chunk: usize) -> &[(usize, usize)] {
        let first = chunk * self.blocking.blocks;
        &self.channels[first..(first + self.blocking.blocks).min(self.channels.len())]
    }

    /// Floats from U's beginning to the weights of a panel at a point.
    pub fn u(&self, chunk: usize, panel: usize, point: usize) -> usize {
        let ((start, lanes), (first, vectors), (phases, before)) =
            (self.chunks[chunk], self.panels[panel], self.phases[point]);
        let (slots, padding) = if self.blocking.staged {
            (before * self.vectors + phases * first, point * self.panels.len() + panel)
        } else {
            (first * self.total + before * vectors, panel * self.points + point)
        };
        start + (lanes * slots + padding) * LANES
    }

    /// Floats from a tile of M to the next.
    pub fn m_tile(&self) -> usize {
        (self.points | 1) * LANES
    }

    /// Floats from a vector of M to the next.
    pub fn m_vector(&self) -> usize {
        self.m_tile() * self.blocking.tiles
    }

    /// Whether M holds all vectors, or one panel.
    pub fn m_whole(&self) -> bool {
        self.blocking.staged || self.chunks() > 1
    }

    /// Floats of M.
    pub fn m_len(&self) -> usize {
        self.m_vector() * if self.m_whole() { self.vectors } else { self.panels[0].1 }
    }
}
