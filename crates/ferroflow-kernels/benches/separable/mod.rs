//! The blocks of LightFlow at a network input of 448x1024.

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch,
    conv::Activation,
    depthwise::{Depthwise, Pointwise, SeparablePlan},
    lane_map,
};

/// A depthwise separable layer; its first part may be read doubled.
pub struct Block {
    pub name: &'static str,
    parts: &'static [usize],
    doubled: bool,
    out: usize,
    stride: usize,
    h: usize,
    w: usize,
}

const fn block(name: &'static str, parts: &'static [usize], out: usize, stride: usize, h: usize, w: usize) -> Block {
    Block { name, parts, doubled: parts.len() > 1, out, stride, h, w }
}

/// All but four of the predictors.
pub const BLOCKS: &[Block] = &[
    block("conv1 6->32 s2", &[6], 32, 2, 448, 1024),
    block("conv2 32->64 s2", &[32], 64, 2, 224, 512),
    block("conv3 64->128 s2", &[64], 128, 2, 112, 256),
    block("conv4a 128->256 s2", &[128], 256, 2, 56, 128),
    block("conv4b 256->256", &[256], 256, 1, 28, 64),
    block("conv5a 256->512 s2", &[256], 512, 2, 28, 64),
    block("conv5b 512->512", &[512], 512, 1, 14, 32),
    block("conv6a 512->1024 s2", &[512], 1024, 2, 14, 32),
    block("conv6b 1024->1024", &[1024], 1024, 1, 7, 16),
    block("conv7 1024->256", &[1024], 256, 1, 7, 16),
    block("conv8 256+512->128", &[256, 512], 128, 1, 14, 32),
    block("conv9 128+256->64", &[128, 256], 64, 1, 28, 64),
    block("conv10 64+128->32", &[64, 128], 32, 1, 56, 128),
    block("conv11 32+64->16", &[32, 64], 16, 1, 112, 256),
    block("conv16 16->2", &[16], 2, 1, 112, 256),
];

impl Block {
    fn channels(&self) -> usize {
        self.parts.iter().sum()
    }

    /// Multiply-adds times two.
    pub fn flop(&self) -> u64 {
        let pixels = self.h.div_ceil(self.stride) * self.w.div_ceil(self.stride);
        (2 * pixels * self.channels() * (9 + self.out)) as u64
    }

    /// Calls `with` with a function that computes the block once.
    pub fn run<R>(&self, with: impl FnOnce(&mut dyn FnMut()) -> R) -> R {
        let channels = self.channels();
        let lanes = lane_map(self.parts);
        let blocks = lanes.len() / LANES;
        let doubled: Vec<bool> = (0..blocks).map(|i| self.doubled && i < self.parts[0] / LANES).collect();
        let input = Extent { n: 1, h: self.h, w: self.w };
        let depthwise = Depthwise {
            input,
            lanes: &lanes,
            stride: self.stride,
            padding: [1; 4],
            weight: &vec![0.1; channels * 9],
            bias: None,
            activation: Activation::LeakyRelu(0.1),
            doubled: &doubled,
            pixel: channels.min(LANES),
        };
        let pointwise = Pointwise {
            out_channels: self.out,
            weight: &vec![0.01; channels * self.out],
            bias: None,
            activation: Activation::LeakyRelu(0.1),
        };
        let plan = SeparablePlan::new(&depthwise, &pointwise, Isa::detect(), None, rayon::current_num_threads());
        let mut source = vec![Buffer::zeroed(input.len() + LANES); blocks];
        source.iter_mut().for_each(|b| b.fill(0.5));
        let planes: Vec<&[f32]> = source.iter().map(|b| &b[..]).collect();
        let extent = plan.output();
        let mut result = vec![Buffer::zeroed(extent.len()); plan.output_blocks()];
        let mut out: Vec<&mut [f32]> = result.iter_mut().map(|b| &mut b[..]).collect();
        let scratch = Scratch::new();
        with(&mut || {
            let output = &mut BlocksMut { extent, planes: &mut out };
            plan.run(Blocks { extent: input, planes: &planes }, output, &scratch);
        })
    }
}
