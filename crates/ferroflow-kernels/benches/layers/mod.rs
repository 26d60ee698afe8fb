//! The layers that decide the networks' time, at a network input of 448x1024.

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, LaneMap, Scratch,
    conv::{Activation, ConvKind, ConvPlan, ConvShape, Layer, Options},
    lane_map,
};

/// A layer with random input and weights.
pub struct Bench {
    pub name: &'static str,
    pub shape: ConvShape,
    pub input: Extent,
    lanes: LaneMap,
    weight: Vec<f32>,
    source: Vec<Buffer>,
}

/// Name, kind ('c' or 't'), channels in and out, kernel (one side, or rows times 10 and columns), stride, dilation, rows, columns.
type Row = (&'static str, char, usize, usize, usize, usize, usize, usize, usize);

const LAYERS: &[Row] = &[
    ("6->64 k7 s2 448x1024", 'c', 6, 64, 7, 2, 1, 448, 1024),
    ("64->128 k5 s2 224x512", 'c', 64, 128, 5, 2, 1, 224, 512),
    ("128->256 k5 s2 112x256", 'c', 128, 256, 5, 2, 1, 112, 256),
    ("256->256 k3 56x128", 'c', 256, 256, 3, 1, 1, 56, 128),
    ("512->512 k3 28x64", 'c', 512, 512, 3, 1, 1, 28, 64),
    ("512->512 k3 14x32", 'c', 512, 512, 3, 1, 1, 14, 32),
    ("1024->1024 k3 7x16", 'c', 1024, 1024, 3, 1, 1, 7, 16),
    ("256->512 k3 s2 56x128", 'c', 256, 512, 3, 2, 1, 56, 128),
    ("512->512 k3 s2 28x64", 'c', 512, 512, 3, 2, 1, 28, 64),
    ("512->1024 k3 s2 14x32", 'c', 512, 1024, 3, 2, 1, 14, 32),
    ("T 1024->512 k4 s2 7x16", 't', 1024, 512, 4, 2, 1, 7, 16),
    ("T 1026->256 k4 s2 14x32", 't', 1026, 256, 4, 2, 1, 14, 32),
    ("T 770->128 k4 s2 28x64", 't', 770, 128, 4, 2, 1, 28, 64),
    ("T 386->64 k4 s2 56x128", 't', 386, 64, 4, 2, 1, 56, 128),
    ("128->128 k3 112x256", 'c', 128, 128, 3, 1, 1, 112, 256),
    ("245->128 k3 112x256", 'c', 245, 128, 3, 1, 1, 112, 256),
    ("373->96 k3 112x256", 'c', 373, 96, 3, 1, 1, 112, 256),
    ("469->64 k3 112x256", 'c', 469, 64, 3, 1, 1, 112, 256),
    ("533->32 k3 112x256", 'c', 533, 32, 3, 1, 1, 112, 256),
    ("565->128 k3 112x256", 'c', 565, 128, 3, 1, 1, 112, 256),
    ("565->2 k3 112x256", 'c', 565, 2, 3, 1, 1, 112, 256),
    ("128->128 k3 d2 112x256", 'c', 128, 128, 3, 1, 2, 112, 256),
    ("128->128 k3 d4 112x256", 'c', 128, 128, 3, 1, 4, 112, 256),
    ("128->96 k3 d8 112x256", 'c', 128, 96, 3, 1, 8, 112, 256),
    ("96->64 k3 d16 112x256", 'c', 96, 64, 3, 1, 16, 112, 256),
    ("32->32 k3 112x256", 'c', 32, 32, 3, 1, 1, 112, 256),
    ("16->16 k3 224x512", 'c', 16, 16, 3, 1, 1, 224, 512),
    ("3->16 k3 s2 448x1024", 'c', 3, 16, 3, 2, 1, 448, 1024),
    ("12->64 k7 s2 448x1024", 'c', 12, 64, 7, 2, 1, 448, 1024),
    ("11->64 k3 448x1024", 'c', 11, 64, 3, 1, 1, 448, 1024),
    ("1024->2 k3 7x16", 'c', 1024, 2, 3, 1, 1, 7, 16),
    ("T 565->2 k4 s2 56x128", 't', 565, 2, 4, 2, 1, 56, 128),
    ("T 2->2 k4 s2 56x128", 't', 2, 2, 4, 2, 1, 56, 128),
    ("256->32 k1 56x128", 'c', 256, 32, 1, 1, 1, 56, 128),
    ("256->256 k1 28x64", 'c', 256, 256, 1, 1, 1, 28, 64),
    ("384->128 k1x5 56x128", 'c', 384, 128, 15, 1, 1, 56, 128),
    ("384->128 k5x1 56x128", 'c', 384, 128, 51, 1, 1, 56, 128),
    ("384->128 k3 56x128", 'c', 384, 128, 3, 1, 1, 56, 128),
    ("3->64 k7 s2 448x1024", 'c', 3, 64, 7, 2, 1, 448, 1024),
    ("2->128 k7 56x128", 'c', 2, 128, 7, 1, 1, 56, 128),
    ("1024->1024 k1 7x16", 'c', 1024, 1024, 1, 1, 1, 7, 16),
];

/// The layers whose name contains `filter`.
pub fn layers(filter: &str) -> impl Iterator<Item = Bench> {
    LAYERS.iter().filter(move |row| row.0.contains(filter)).map(
        |&(name, kind, cin, cout, kernel, stride, dilation, h, w)| {
            let transposed = kind == 't';
            let kernel = if kernel > 10 { [kernel / 10, kernel % 10] } else { [kernel; 2] };
            let same = kernel.map(|side| if transposed { 1 } else { dilation * (side - 1) / 2 });
            let shape = ConvShape {
                kind: if transposed { ConvKind::Transposed } else { ConvKind::Forward },
                in_channels: cin,
                out_channels: cout,
                kernel,
                stride,
                dilation,
                padding: [same[0], same[1], same[0], same[1]],
            };
            let input = Extent { n: 1, h, w };
            let mut state = 1u32;
            let mut random = move || {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            let weight = (0..cin * cout * kernel[0] * kernel[1]).map(|_| 0.05 * random()).collect();
            // Frames come without padding lanes.
            let pixel = cin.min(16);
            let lanes = if cin < 16 { (0..cin as u32).map(Some).collect() } else { lane_map(&[cin]) };
            let mut source = vec![Buffer::zeroed(input.len() / 16 * pixel); cin.div_ceil(16)];
            for (block, buffer) in source.iter_mut().enumerate() {
                for (i, value) in buffer.iter_mut().enumerate() {
                    *value = if block * 16 + i % pixel < cin { random() } else { 0.0 };
                }
            }
            Bench { name, shape, input, lanes, weight, source }
        },
    )
}

impl Bench {
    pub fn layer(&self) -> Layer<'_> {
        Layer {
            shape: self.shape,
            input: self.input,
            lanes: &self.lanes,
            weight: &self.weight,
            bias: None,
            activation: Activation::LeakyRelu(0.1),
        }
    }

    /// The input's blocks.
    #[allow(dead_code)] // Not every benchmark differentiates.
    pub fn source(&self) -> Vec<Buffer> {
        self.source.clone()
    }

    #[allow(dead_code)]
    pub fn plan(&self, options: Options) -> ConvPlan {
        ConvPlan::new(&self.layer(), options)
    }

    #[allow(dead_code)]
    /// Calls `with` with a function that computes the layer once.
    pub fn run<R>(&self, plan: &ConvPlan, with: impl FnOnce(&mut dyn FnMut()) -> R) -> R {
        let extent = plan.output();
        let mut result = vec![Buffer::zeroed(extent.len()); plan.output_blocks()];
        let planes: Vec<&[f32]> = self.source.iter().map(|b| &b[..]).collect();
        let mut out: Vec<&mut [f32]> = result.iter_mut().map(|b| &mut b[..]).collect();
        let scratch = Scratch::new();
        with(&mut || {
            let output = &mut BlocksMut { extent, planes: &mut out };
            plan.run(Blocks { extent: self.input, planes: &planes }, None, output, &scratch);
        })
    }
}
