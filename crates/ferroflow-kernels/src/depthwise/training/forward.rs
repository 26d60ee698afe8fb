//! Forward: depthwise with its sums; per chunk norm, LeakyReLU, 1x1 with its sums; norm and LeakyReLU.

use std::{mem, ops::Range};

use super::{
    Chunks, SeparableTraining, SeparableWeights,
    norm::{Activate, Moments},
    pitch,
    product::{Finish, Product, pack},
    put, streams,
};
use crate::{
    Blocks, BlocksMut, LANES, Scratch,
    conv::{
        Activation,
        direct::{share, tile::register_tile},
    },
    depthwise::{Band, Depthwise, Filters},
    disjoint::Disjoint,
    rows::for_pieces,
    simd::{self, Kernel, Simd},
    team,
};

/// Points of a task of the depthwise convolution, about; and of the last pass.
const STRIP: usize = 2048;

impl SeparableTraining {
    /// Computes the block, and keeps what `backward` needs.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the block was made for.
    pub fn forward(
        &mut self,
        weights: &SeparableWeights<'_>,
        input: Blocks<'_>,
        output: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check(weights, input);
        assert_eq!(output.extent, self.output, "output extent");
        assert_eq!(output.planes.len(), self.output_blocks(), "output blocks");
        assert!(output.planes.iter().all(|p| p.len() >= self.output.len()), "output blocks");

        let SeparableWeights { scale1, shift1, scale2, shift2, statistics, .. } = *weights;
        let sums = self.depthwise(weights, input);
        let pieces = sums.len() / self.sides[0].blocks();
        match statistics[0] {
            Some(given) => self.norms[0].fix(scale1, shift1, given),
            None => self.norms[0].settle(scale1, shift1, |block| sums[block * pieces..][..pieces].iter()),
        }

        let sums = self.pointwise(weights, scratch);
        match statistics[1] {
            Some(given) => self.norms[1].fix(scale2, shift2, given),
            None => self.norms[1].settle(scale2, shift2, |block| sums.iter().map(move |chunk| &chunk[block])),
        }

        let (isa, len) = (self.isa, self.output.len());
        let (norm, saved) = (&self.norms[1], &self.saved[1]);
        let stream = streams(len * output.planes.len());
        let image = len / self.output.n.max(1);
        for_pieces(output, STRIP, |block, n, first, to| {
            let x = &saved.block(block)[n * image + first * LANES..][..to.len()];
            simd::run(isa, Activate { x, constants: norm.block(block), slope: norm.slope, to, stream });
        });
    }

    /// The depthwise convolution into `saved[0]`; moments of every strip, block by block.
    fn depthwise(&mut self, weights: &SeparableWeights<'_>, input: Blocks<'_>) -> Vec<Moments> {
        let layer = Depthwise {
            input: self.input,
            lanes: &self.sides[0].lanes,
            stride: self.stride,
            padding: [1; 4],
            weight: weights.depthwise,
            bias: None,
            activation: Activation::Linear,
            doubled: &[],
            pixel: self.pixel,
        };
        let filters = &Filters::new(&layer, self.isa);
        let (extent, saved) = (self.output, &mut self.saved[0]);
        let row = extent.w * LANES;
        let rows = STRIP.div_ceil(extent.w).min(extent.h);
        let len = saved.len;
        let mut strips = Vec::new();
        for (block, plane) in saved.buffer.chunks_mut(saved.pitch).take(saved.blocks).enumerate() {
            for (n, image) in plane[..len].chunks_mut(extent.h * row).enumerate() {
                let rows = image.chunks_mut(rows * row).zip((0..).step_by(rows));
                strips.extend(rows.map(|(to, first)| Strip { filters, input, n, block, first, to }));
            }
        }
        team::map(strips, |strip| simd::run(filters.isa, strip)).collect()
    }

    /// The 1x1 convolution of the activated `saved[0]` into `saved[1]`; moments of every chunk and block.
    fn pointwise(&mut self, weights: &SeparableWeights<'_>, scratch: &Scratch) -> Vec<Vec<Moments>> {
        let (_, panel) = register_tile(self.isa);
        let [input, output] = &self.sides;
        let (blocks, depth) = (output.blocks(), input.depth());
        let chunks = Chunks::new(self.points(), input.blocks() * 4 * LANES, usize::MAX);
        // Few chunks: share the output blocks too.
        let threads = rayon::current_num_threads();
        let panels = blocks.div_ceil(panel);
        let parts = if threads > 1 { (4 * threads).div_ceil(chunks.count).min(panels) } else { 1 };
        let pitch = pitch(chunks.longest * LANES);
        let mut saved = mem::take(&mut self.saved[1].buffer);
        let to = Disjoint::new(&mut saved);
        let this = &*self;
        let moments = scratch.with_shared(blocks * depth * LANES, |packed| {
            pack(this.isa, weights.pointwise, input, output, panel, packed);
            let packed = &*packed;
            let task = |task: usize| {
                let (chunk, part) = (task / parts, share(panels, task % parts, parts));
                scratch.with(pitch * input.blocks(), |buffer| {
                    let blocks = part.start * panel..blocks.min(part.end * panel);
                    let points = share(this.points(), chunk, chunks.count);
                    simd::run(this.isa, Chunk { block: this, points, blocks, weights: packed, pitch, buffer, to })
                })
            };
            let sums: Vec<_> = team::map(0..chunks.count * parts, task).collect();
            sums.chunks(parts).map(<[_]>::concat).collect()
        });
        self.saved[1].buffer = saved;
        moments
    }
}

/// Some rows of one block of one image of the depthwise convolution.
struct Strip<'a> {
    filters: &'a Filters,
    input: Blocks<'a>,
    n: usize,
    block: usize,
    first: usize,
    to: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self) -> Moments {
        let width = self.filters.output.w;
        let mut moments = Moments::new();
        for (i, to) in self.to.chunks_mut(width * LANES).enumerate() {
            let y = self.first + i;
            Band {
                filters: self.filters,
                plane: self.filters.image(self.input, self.block, self.n),
                begin: 0,
                block: self.block,
                rows: y..y + 1,
                columns: 0..width,
                to: &mut *to,
            }
            .run::<S>();
            // SAFETY: inside a kernel.
            unsafe { moments.add::<S>(to) };
        }
        moments
    }
}

/// One task of the 1x1 convolution: some points, some output blocks.
struct Chunk<'a> {
    block: &'a SeparableTraining,
    points: Range<usize>,
    blocks: Range<usize>,
    weights: &'a [f32],
    /// Floats from block to block of the activated chunk.
    pitch: usize,
    buffer: &'a mut [f32],
    /// The buffer of `saved[1]`.
    to: Disjoint<'a>,
}

impl Kernel for Chunk<'_> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<Moments> {
        let Self { block: this, points, blocks, weights, pitch, buffer, to } = self;
        let norm = &this.norms[0];
        let floats = points.start * LANES..points.end * LANES;
        for block in 0..this.sides[0].blocks() {
            let x = &this.saved[0].block(block)[floats.clone()];
            let to = &mut buffer[block * pitch..][..floats.len()];
            Activate { x, constants: norm.block(block), slope: norm.slope, to, stream: false }.run::<S>();
        }
        let product = Product {
            chunk: buffer.as_ptr(),
            pitch,
            depths: &this.sides[0].depths,
            points: points.len(),
            weights,
            depth: this.sides[0].depth(),
            blocks: blocks.clone(),
        };
        let mut store = Store {
            to: to.at(floats.start),
            pitch: this.saved[1].pitch,
            stream: streams(to.len()),
            first: blocks.start,
            origins: vec![[0.0; LANES]; blocks.len()],
            sums: vec![[[0.0; LANES]; 2]; blocks.len()],
        };
        // SAFETY: inside a kernel; the buffer holds the points; `saved[1]` has them too, in `blocks`, which no other task
        // of these points writes.
        unsafe {
            product.run::<S, _>(&mut store);
            S::fence();
        }
        let moments = store.origins.iter().zip(&store.sums).map(|(origin, sums)| {
            let mut moments = Moments { origin: *origin, ..Moments::new() };
            moments.add_sums(points.len(), sums);
            moments
        });
        moments.collect()
    }
}

/// Writes a tile, and sums it while it is in registers.
struct Store {
    to: *mut f32,
    /// Floats from block to block.
    pitch: usize,
    /// Write past the caches.
    stream: bool,
    /// Block of the first origin and sums.
    first: usize,
    origins: Vec<[f32; LANES]>,
    sums: Vec<[[f32; LANES]; 2]>,
}

impl<S: Simd> Finish<S> for Store {
    #[inline(always)]
    unsafe fn finish<const T: usize, const N: usize>(&mut self, block: usize, point: usize, tile: &[[S::V; N]; T]) {
        for n in 0..N {
            let i = block + n - self.first;
            // SAFETY: in a kernel; the task's points and blocks are there.
            unsafe {
                if point == 0 {
                    S::store(self.origins[i].as_mut_ptr(), tile[0][n]);
                }
                let origin = S::load(self.origins[i].as_ptr());
                let [sum, squares] = &mut self.sums[i];
                let (mut s, mut q) = (S::load(sum.as_ptr()), S::load(squares.as_ptr()));
                let to = self.to.add((block + n) * self.pitch + point * LANES);
                for t in 0..T {
                    put::<S>(to.add(t * LANES), tile[t][n], self.stream);
                    let x = S::sub(tile[t][n], origin);
                    s = S::add(s, x);
                    q = S::fma(x, x, q);
                }
                S::store(sum.as_mut_ptr(), s);
                S::store(squares.as_mut_ptr(), q);
            }
        }
    }
}
