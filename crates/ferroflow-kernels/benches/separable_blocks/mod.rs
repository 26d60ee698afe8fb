//! The blocks of LightFlow in training, with all their values.

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, LaneMap, Scratch, Update,
    depthwise::training::{SeparableGradients, SeparableTraining, SeparableWeights},
    lane_map,
};

/// A block and the size of its input.
pub struct Block {
    pub name: &'static str,
    parts: &'static [usize],
    out: usize,
    stride: usize,
    h: usize,
    w: usize,
}

const fn block(name: &'static str, parts: &'static [usize], out: usize, stride: usize, h: usize, w: usize) -> Block {
    Block { name, parts, out, stride, h, w }
}

/// All of them, at frames of 320x448.
pub const BLOCKS: &[Block] = &[
    block("conv1 6->32 s2", &[6], 32, 2, 320, 448),
    block("conv2 32->64 s2", &[32], 64, 2, 160, 224),
    block("conv3 64->128 s2", &[64], 128, 2, 80, 112),
    block("conv4a 128->256 s2", &[128], 256, 2, 40, 56),
    block("conv4b 256->256", &[256], 256, 1, 20, 28),
    block("conv5a 256->512 s2", &[256], 512, 2, 20, 28),
    block("conv5b 512->512", &[512], 512, 1, 10, 14),
    block("conv6a 512->1024 s2", &[512], 1024, 2, 10, 14),
    block("conv6b 1024->1024", &[1024], 1024, 1, 5, 7),
    block("conv7 1024->256", &[1024], 256, 1, 5, 7),
    block("conv8 256+512->128", &[256, 512], 128, 1, 10, 14),
    block("conv9 128+256->64", &[128, 256], 64, 1, 20, 28),
    block("conv10 64+128->32", &[64, 128], 32, 1, 40, 56),
    block("conv11 32+64->16", &[32, 64], 16, 1, 80, 112),
    block("conv12 256->2", &[256], 2, 1, 5, 7),
    block("conv13 128->2", &[128], 2, 1, 10, 14),
    block("conv14 64->2", &[64], 2, 1, 20, 28),
    block("conv15 32->2", &[32], 2, 1, 40, 56),
    block("conv16 16->2", &[16], 2, 1, 80, 112),
];

/// A block with its values.
pub struct Run {
    training: SeparableTraining,
    input: Extent,
    x: Vec<Buffer>,
    y: Vec<Buffer>,
    d_y: Vec<Buffer>,
    /// Empty for the first layer.
    d_x: Vec<Buffer>,
    weights: [Vec<f32>; 6],
    gradients: [Vec<f32>; 6],
    scratch: Scratch,
}

/// Values between -1 and 1 that look random.
fn values(buffer: &mut [f32]) {
    for (i, x) in buffer.iter_mut().enumerate() {
        *x = ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
}

impl Run {
    pub fn new(block: &Block) -> Self {
        let channels: usize = block.parts.iter().sum();
        let narrow = channels < LANES;
        let lanes: LaneMap = if narrow { (0..channels as u32).map(Some).collect() } else { lane_map(block.parts) };
        let input = Extent { n: 8, h: block.h, w: block.w };
        let training =
            SeparableTraining::new(input, &lanes, block.out, block.stride, [1e-5; 2], [0.1; 2], Isa::detect());
        let buffers = |blocks: usize, len: usize| {
            let mut buffers = vec![Buffer::zeroed(len); blocks];
            buffers.iter_mut().for_each(|b| values(b));
            buffers
        };
        let blocks = lanes.len().div_ceil(LANES);
        let x_len = if narrow { input.len() / LANES * channels + LANES } else { input.len() };
        let output = training.output();
        let weights = [channels * 9, channels, channels, channels * block.out, block.out, block.out].map(|len| {
            let mut weights = vec![0.0; len];
            values(&mut weights);
            weights
        });
        Self {
            input,
            x: buffers(blocks, x_len),
            y: buffers(training.output_blocks(), output.len()),
            d_y: buffers(training.output_blocks(), output.len()),
            d_x: if narrow { vec![] } else { buffers(blocks, x_len) },
            gradients: weights.clone(),
            weights,
            training,
            scratch: Scratch::new(),
        }
    }

    pub fn forward(&mut self) {
        let planes: Vec<&[f32]> = self.x.iter().map(|b| &b[..]).collect();
        let mut y: Vec<&mut [f32]> = self.y.iter_mut().map(|b| &mut b[..]).collect();
        let mut y = BlocksMut { extent: self.training.output(), planes: &mut y };
        let [depthwise, scale1, shift1, pointwise, scale2, shift2] = &self.weights;
        let weights = SeparableWeights { depthwise, scale1, shift1, pointwise, scale2, shift2, statistics: [None; 2] };
        self.training.forward(&weights, Blocks { extent: self.input, planes: &planes }, &mut y, &self.scratch);
    }

    pub fn backward(&mut self) {
        let x: Vec<&[f32]> = self.x.iter().map(|b| &b[..]).collect();
        let d_y: Vec<&[f32]> = self.d_y.iter().map(|b| &b[..]).collect();
        let mut d_x: Vec<&mut [f32]> = self.d_x.iter_mut().map(|b| &mut b[..]).collect();
        let [depthwise, scale1, shift1, pointwise, scale2, shift2] = &self.weights;
        let weights = SeparableWeights { depthwise, scale1, shift1, pointwise, scale2, shift2, statistics: [None; 2] };
        let [depthwise, scale1, shift1, pointwise, scale2, shift2] = self.gradients.each_mut().map(|g| &mut g[..]);
        let gradients = SeparableGradients { depthwise, scale1, shift1, pointwise, scale2, shift2 };
        let wanted = !d_x.is_empty();
        let mut d_x = BlocksMut { extent: self.input, planes: &mut d_x };
        self.training.backward(
            &weights,
            Blocks { extent: self.input, planes: &x },
            Blocks { extent: self.training.output(), planes: &d_y },
            wanted.then_some((Update::Overwrite, &mut d_x)),
            gradients,
            &self.scratch,
        );
    }
}
