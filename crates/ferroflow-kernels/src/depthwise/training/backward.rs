//! Backward: sums of the second norm; per chunk its gradient, the activation again, input and weight gradients of the
//! 1x1, and the sums of the first norm; then the depthwise convolution's gradients ([`super::filters`]).

use std::ops::Range;

use super::{
    Chunks, SeparableGradients, SeparableTraining, SeparableWeights,
    norm::{AHEAD, Activate, Constants, GradientSums, Moments, derivative},
    pitch,
    product::{Finish, Product, WeightGradient, add_weight_gradient, pack_transposed},
};
use crate::{
    Blocks, BlocksMut, LANES, Scratch, Update,
    conv::direct::{share, tile::register_tile},
    disjoint::Disjoint,
    simd::{self, Kernel, Simd},
    team,
};

/// Points of a task of the second norm's sums.
const RUN: usize = 4096;
/// Floats that the groups' weight gradients may take together.
const GROUPED: usize = 1 << 18;
/// Groups of chunks at most: enough for the threads of one machine.
const MOST_GROUPS: usize = 32;

impl SeparableTraining {
    /// Carries the output's gradient back through the block, after `forward` with the same weights and input.
    ///
    /// `d_input` takes the input's gradient. The parameters' gradients are added to `gradients`; what only those that are
    /// not wanted need is left out.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the block was made for, if a gradient is neither
    /// empty nor as long as its parameter, or if the gradient of a narrow input is asked for.
    pub fn backward(
        &mut self,
        weights: &SeparableWeights<'_>,
        input: Blocks<'_>,
        d_output: Blocks<'_>,
        d_input: Option<(Update, &mut BlocksMut<'_, '_>)>,
        gradients: SeparableGradients<'_>,
        scratch: &Scratch,
    ) {
        self.check(weights, input);
        assert_eq!(d_output.extent, self.output, "extent of the output's gradient");
        assert_eq!(d_output.planes.len(), self.output_blocks(), "blocks of the output's gradient");
        assert!(d_output.planes.iter().all(|p| p.len() >= self.output.len()), "blocks of the output's gradient");

        let SeparableGradients { depthwise, scale1, shift1, pointwise, scale2, shift2 } = gradients;
        let SeparableWeights { depthwise: filters, pointwise: matrix, .. } = *weights;
        let channels = self.sides.each_ref().map(|side| side.channels);
        let fits = |gradient: &[f32], len: usize| gradient.is_empty() || gradient.len() == len;
        assert!(fits(depthwise, filters.len()) && fits(pointwise, matrix.len()), "gradients of the filters");
        assert!([&scale1, &shift1].iter().all(|d| fits(d, channels[0])), "gradients of the first norm");
        assert!([&scale2, &shift2].iter().all(|d| fits(d, channels[1])), "gradients of the second norm");

        let sums = self.output_sums(d_output);
        let pieces = sums.len() / self.output_blocks();
        let of_block = |block: usize| sums[block * pieces..][..pieces].iter();
        self.norms[1].differentiate(scale2, shift2, of_block);

        let before = d_input.is_some() || !depthwise.is_empty();
        if !before && [&scale1, &shift1, &pointwise].iter().all(|d| d.is_empty()) {
            return;
        }
        let pitch = self.saved[0].pitch;
        scratch.with_shared(pitch * self.sides[0].blocks(), |dz| {
            let sums = self.d_pointwise(weights, d_output, dz, pointwise, scratch);
            let of_block = |block: usize| sums.iter().map(move |chunk| &chunk[block]);
            self.norms[0].differentiate(scale1, shift1, of_block);
            if before {
                self.d_depthwise(weights, input, dz, d_input, depthwise, scratch);
            }
        });
    }

    /// Sums for the second norm's gradient, block by block.
    fn output_sums(&self, d_output: Blocks<'_>) -> Vec<Moments> {
        let (norm, len) = (&self.norms[1], self.output.len());
        let pieces = len.div_ceil(RUN * LANES);
        team::map(0..d_output.planes.len() * pieces, |task| {
            let (block, piece) = (task / pieces, task % pieces);
            let range = piece * RUN * LANES..len.min((piece + 1) * RUN * LANES);
            let (x, gradient) = (&self.saved[1].block(block)[range.clone()], &d_output.planes[block][range]);
            simd::run(self.isa, GradientSums { x, gradient, constants: norm.block(block), slope: norm.slope })
        })
        .collect()
    }

    /// Adds the 1x1 convolution's weight gradient, unless `gradient` is empty, and writes the gradient at the first norm's
    /// output into `dz`, blocks as those of `saved[0]`; sums for that norm's gradient, of every chunk and block.
    fn d_pointwise(
        &self,
        weights: &SeparableWeights<'_>,
        d_output: Blocks<'_>,
        dz: &mut [f32],
        gradient: &mut [f32],
        scratch: &Scratch,
    ) -> Vec<Vec<Moments>> {
        let (_, panel) = register_tile(self.isa);
        let [input, output] = &self.sides;
        let blocks = [input.blocks(), output.blocks()];
        let square = blocks[0] * blocks[1] * LANES * LANES;
        let most_groups = (GROUPED / square).clamp(1, MOST_GROUPS);
        let chunks = Chunks::new(self.points(), (blocks[0] + blocks[1]) * 4 * LANES, most_groups);
        // Few groups: share the input blocks too.
        let threads = rayon::current_num_threads();
        let panels = blocks[0].div_ceil(panel);
        let parts = if threads > 1 { (2 * threads).div_ceil(chunks.groups).min(panels) } else { 1 };
        let packed = blocks[0] * output.depth() * LANES;
        let dz = Disjoint::new(dz);
        let wanted = !gradient.is_empty();
        scratch.with_shared(packed + chunks.groups * square, |shared| {
            let (packed, grouped) = shared.split_at_mut(packed);
            let grouped = &mut grouped[..chunks.groups * square];
            pack_transposed(self.isa, weights.pointwise, input, output, panel, packed);
            let packed = &*packed;
            let sums = Disjoint::new(&mut *grouped);
            let task = |task: usize| {
                let (group, part) = (task / parts, share(panels, task % parts, parts));
                let part = part.start * panel..blocks[0].min(part.end * panel);
                let pitch = pitch(chunks.longest * LANES);
                scratch.with(pitch * (part.len() + blocks[1]), |buffer| {
                    let group = Group {
                        block: self,
                        d_output,
                        chunks,
                        group,
                        part,
                        weights: packed,
                        pitch,
                        buffer,
                        dz,
                        sums: wanted.then_some((sums, group * square)),
                    };
                    simd::run(self.isa, group)
                })
            };
            let moments: Vec<Vec<Vec<Moments>>> = team::map(0..chunks.groups * parts, task).collect();
            if wanted {
                let grouped: Vec<&[f32]> = grouped.chunks(square).collect();
                add_weight_gradient(self.isa, &grouped, input, output, gradient);
            }
            // Parts of the same chunk side by side.
            let of_group = moments.chunks(parts);
            of_group
                .flat_map(|of_parts| {
                    (0..chunks.count / chunks.groups)
                        .map(|chunk| of_parts.iter().flat_map(|part| part[chunk].iter().cloned()).collect())
                })
                .collect()
        })
    }
}

/// One task: the chunks of a group, some blocks of the 1x1 convolution's input.
struct Group<'a> {
    block: &'a SeparableTraining,
    d_output: Blocks<'a>,
    chunks: Chunks,
    group: usize,
    part: Range<usize>,
    weights: &'a [f32],
    /// Floats from block to block of the buffer, which holds the activated part of the input, then the gradient of the
    /// 1x1 convolution's output.
    pitch: usize,
    buffer: &'a mut [f32],
    dz: Disjoint<'a>,
    /// The weight gradients of all groups and where the group's begins, if it is wanted.
    sums: Option<(Disjoint<'a>, usize)>,
}

impl Kernel for Group<'_> {
    type Output = Vec<Vec<Moments>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let Self { block: this, chunks, part, pitch, .. } = self;
        let (input, activated) = (&this.saved[0], &this.norms[0]);
        let output_blocks = this.output_blocks();
        let (activations, d_outputs) = self.buffer.split_at_mut(part.len() * pitch);
        let row = output_blocks * LANES;
        // SAFETY: these rows of the group's sums belong to this task.
        let mut sums = self
            .sums
            .map(|(sums, group)| unsafe { sums.piece(group + part.start * LANES * row, part.len() * LANES * row) });
        if let Some(sums) = &mut sums {
            sums.fill(0.0);
        }
        let per_group = chunks.count / chunks.groups;
        let mut moments = Vec::with_capacity(per_group);
        for chunk in self.group * per_group..(self.group + 1) * per_group {
            let points = share(this.points(), chunk, chunks.count);
            let floats = points.start * LANES..points.end * LANES;
            let depths = &this.sides[0].depths[part.clone()];
            for block in 0..output_blocks {
                let norm = Differentiate {
                    x: &this.saved[1].block(block)[floats.clone()],
                    gradient: &self.d_output.planes[block][floats.clone()],
                    constants: this.norms[1].block(block),
                    slope: this.norms[1].slope,
                    to: &mut d_outputs[block * pitch..][..floats.len()],
                };
                norm.run::<S>();
            }
            for (i, block) in part.clone().enumerate() {
                let x = &input.block(block)[floats.clone()];
                let to = &mut activations[i * pitch..][..floats.len()];
                Activate { x, constants: activated.block(block), slope: activated.slope, to, stream: false }.run::<S>();
            }
            if let Some(sums) = &mut sums {
                let weight_gradient = WeightGradient {
                    input: activations.as_ptr(),
                    depths,
                    d_output: d_outputs.as_ptr(),
                    output_blocks,
                    pitches: [pitch; 2],
                    points: points.len(),
                    sums: sums.as_mut_ptr(),
                };
                // SAFETY: inside a kernel; the buffer holds the points of all blocks; the sums as above.
                unsafe { weight_gradient.run::<S>() };
            }
            let product = Product {
                chunk: d_outputs.as_ptr(),
                pitch,
                depths: &this.sides[1].depths,
                points: points.len(),
                weights: self.weights,
                depth: this.sides[1].depth(),
                blocks: part.clone(),
            };
            let mut store = DifferentiateActivation {
                activations: activations.as_ptr(),
                pitch,
                block: this,
                dz: self.dz.at(0),
                start: points.start,
                first: part.start,
                sums: vec![[[0.0; LANES]; 2]; part.len()],
            };
            // SAFETY: inside a kernel; the buffer holds the points; no other task has these points and blocks of `dz`.
            unsafe { product.run::<S, _>(&mut store) };
            let of_blocks = store.sums.iter().map(|sums| {
                let mut moments = Moments::new();
                moments.add_sums(points.len(), sums);
                moments
            });
            moments.push(of_blocks.collect());
        }
        moments
    }
}

/// `to` = gradient at the norm's input, from that at the activation's output.
struct Differentiate<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    constants: &'a [f32],
    slope: f32,
    to: &'a mut [f32],
}

impl Kernel for Differentiate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let values = self.x.chunks_exact(LANES).zip(self.gradient.chunks_exact(LANES));
        // SAFETY: inside a kernel; every chunk has 16 floats.
        unsafe {
            let norm = Constants::<S>::load(self.constants, self.slope);
            for ((x, gradient), to) in values.zip(self.to.chunks_exact_mut(LANES)) {
                S::prefetch_near(x.as_ptr().wrapping_add(AHEAD));
                S::prefetch_near(gradient.as_ptr().wrapping_add(AHEAD));
                let centred = norm.centre(S::load(x.as_ptr()));
                let dz = norm.d_activation(centred, S::load(gradient.as_ptr()));
                S::store(to.as_mut_ptr(), norm.d_norm(centred, dz));
            }
        }
    }
}

/// Turns a tile of activations' gradients into those before LeakyReLU, and sums them for the norm.
struct DifferentiateActivation<'a> {
    /// The chunk, from the task's first block.
    activations: *const f32,
    pitch: usize,
    block: &'a SeparableTraining,
    dz: *mut f32,
    /// First point of the chunk, first block of the task.
    start: usize,
    first: usize,
    sums: Vec<[[f32; LANES]; 2]>,
}

impl<S: Simd> Finish<S> for DifferentiateActivation<'_> {
    #[inline(always)]
    unsafe fn finish<const T: usize, const N: usize>(&mut self, block: usize, point: usize, tile: &[[S::V; N]; T]) {
        let norm = &self.block.norms[0];
        let saved = &self.block.saved[0];
        for n in 0..N {
            let i = block + n - self.first;
            let at = (block + n) * saved.pitch + (self.start + point) * LANES;
            // SAFETY: in a kernel; the task's points and blocks are there.
            unsafe {
                let slope = S::splat(norm.slope);
                let mean = S::load(norm.block(block + n).as_ptr());
                let [sum, products] = &mut self.sums[i];
                let (mut s, mut q) = (S::load(sum.as_ptr()), S::load(products.as_ptr()));
                let activation = self.activations.add(i * self.pitch + point * LANES);
                let x = saved.buffer.as_ptr().add(at);
                let to = self.dz.add(at);
                for t in 0..T {
                    let dz = S::mul(tile[t][n], derivative::<S>(S::load(activation.add(t * LANES)), slope));
                    S::store(to.add(t * LANES), dz);
                    s = S::add(s, dz);
                    q = S::fma(dz, S::sub(S::load(x.add(t * LANES)), mean), q);
                }
                S::store(sum.as_mut_ptr(), s);
                S::store(products.as_mut_ptr(), q);
            }
        }
    }
}
