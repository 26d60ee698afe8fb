//! Every engine against the definition, over random shapes and on every instruction set.

use random::Random;

use super::*;
use crate::{Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch, lane_map, layout::to_blocks};

/// A small generator of test values, so that the tests need no dependency.
pub(super) mod random {
    pub struct Random(pub u64);
    impl Random {
        pub fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        pub fn below(&mut self, n: usize) -> usize {
            (self.next() >> 16) as usize % n
        }
        pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
            of[self.below(of.len())]
        }
        /// Below one of these.
        pub fn below_any(&mut self, of: &[usize]) -> usize {
            let n = self.pick(of);
            self.below(n)
        }
        /// In -1..1.
        pub fn unit(&mut self) -> f32 {
            (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
        pub fn values(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| self.unit()).collect()
        }
    }
}

pub(super) struct Case {
    pub(super) shape: ConvShape,
    input: Extent,
    pub(super) parts: Vec<usize>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
    residual: bool,
    /// Weights and inputs are bf16 numbers.
    rounded: bool,
    seed: u64,
}

impl Case {
    pub(super) fn new(shape: ConvShape, input: Extent, parts: Vec<usize>, random: &mut Random) -> Self {
        let weight = random.values(shape.in_channels * shape.out_channels * shape.taps());
        let bias = (random.below(3) > 0).then(|| random.values(shape.out_channels));
        let activation = random.pick(&[Activation::Linear, Activation::LeakyRelu(0.1), Activation::LeakyRelu(0.0)]);
        let (residual, seed) = (random.below(3) == 0, random.next() | 1);
        let around = residual && random.below(2) == 0;
        let activation = if around { Activation::AroundSum { before: 0.3, after: 0.1 } } else { activation };
        Self { shape, input, parts, weight, bias, activation, residual, rounded: false, seed }
    }

    /// The same with weights and inputs rounded to bf16.
    fn rounded(mut self) -> Self {
        self.weight.iter_mut().for_each(|w| *w = nearest_bf16(*w));
        self.rounded = true;
        self
    }

    pub(super) fn run(&self, options: Options) -> (String, Vec<Buffer>) {
        let plan = ConvPlan::new(&self.layer(&lane_map(&self.parts)), options);
        (plan.algorithm(), self.run_plan(&plan))
    }

    /// The same without the padding lanes of its one part.
    fn run_narrow(&self, options: Options) -> (String, Vec<Buffer>) {
        let plan = ConvPlan::new(&self.layer(&lane_map(&self.parts)[..self.parts[0]]), options);
        (plan.algorithm(), self.run_plan(&plan))
    }

    /// What a plan for this computes, from an input without padding lanes if the plan is for that.
    pub(super) fn run_plan(&self, plan: &ConvPlan) -> Vec<Buffer> {
        let mut random = Random(self.seed);
        let mut inputs: Vec<Buffer> = self
            .parts
            .iter()
            .flat_map(|&c| to_blocks(&random.values(c * self.input.len() / LANES), c, self.input))
            .collect();
        if self.rounded {
            inputs.iter_mut().flat_map(|b| b.iter_mut()).for_each(|v| *v = nearest_bf16(*v));
        }
        if plan.input_blocks.1 < self.input.len() {
            let channels = self.parts[0];
            let mut narrow = Buffer::zeroed(channels * self.input.len() / LANES);
            for (to, from) in narrow.chunks_exact_mut(channels).zip(inputs[0].chunks(LANES)) {
                to.copy_from_slice(&from[..channels]);
            }
            inputs = vec![narrow];
        }
        let extent = plan.output();
        let channels = self.shape.out_channels;
        let residual = to_blocks(&random.values(channels * extent.len() / LANES), channels, extent);
        // Left-over values everywhere: the kernels must write every lane and not read old scratch.
        let mut outputs: Vec<Buffer> = vec![Buffer::zeroed(extent.len()); plan.output_blocks()];
        outputs.iter_mut().for_each(|o| o.fill(f32::NAN));
        let scratch = Scratch::new();
        scratch.with(plan.scratch_len(), |s| s.fill(f32::NAN));
        let planes: Vec<&[f32]> = inputs.iter().map(|b| &b[..]).collect();
        let residual: Vec<&[f32]> = residual.iter().map(|b| &b[..]).collect();
        let mut out: Vec<&mut [f32]> = outputs.iter_mut().map(|b| &mut b[..]).collect();
        plan.run(
            Blocks { extent: self.input, planes: &planes },
            self.residual.then_some(Blocks { extent, planes: &residual }),
            &mut BlocksMut { extent, planes: &mut out },
            &scratch,
        );
        outputs
    }

    pub(super) fn layer<'a>(&'a self, lanes: &'a [Option<u32>]) -> Layer<'a> {
        Layer {
            shape: self.shape,
            input: self.input,
            lanes,
            weight: &self.weight,
            bias: self.bias.as_deref(),
            activation: self.activation,
        }
    }

    /// Products per output, with bias and residual.
    pub(super) fn terms(&self) -> f32 {
        (self.shape.in_channels * self.shape.taps() + 4) as f32
    }

    /// Compares with the definition. Sums of `n` products in f32 differ from f64 by about `sqrt(n)` roundings of their
    /// size, which for weights and inputs in -1..1 is `sqrt(n) / 3`: `n * 2^-24` leaves ample room.
    pub(super) fn check(
        &self,
        expected: &[Buffer],
        isa: Isa,
        algorithm: Option<&'static str>,
        threads: usize,
        rounding: f32,
    ) {
        let options = Options { isa, exact: false, bf16: None, threads, algorithm };
        let (name, got) = self.run(options);
        self.compare(expected, &got, &format!("{name} on {isa:?}"), rounding);
    }

    /// See [`Case::check`].
    pub(super) fn compare(&self, expected: &[Buffer], got: &[Buffer], name: &str, rounding: f32) {
        let tolerance = rounding * self.terms() * f32::EPSILON;
        for (block, (expected, got)) in expected.iter().zip(got).enumerate() {
            for (i, (e, g)) in expected.iter().zip(got.iter()).enumerate() {
                assert!(
                    (e - g).abs() <= tolerance,
                    "{name}: block {block} pixel {} lane {}: {g}, not {e}; {:?} {:?} parts {:?}",
                    i / LANES,
                    i % LANES,
                    self.shape,
                    self.input,
                    self.parts,
                );
            }
        }
    }
}

fn nearest_bf16(x: f32) -> f32 {
    f32::from_bits(u32::from(crate::bf16::round(x)) << 16)
}

/// A shape that gives at least one output, with its input split into parts.
fn random_case(random: &mut Random, transposed: bool) -> Case {
    loop {
        let parts: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below_any(&[3, 16, 40])).collect();
        let side = |r: &mut Random| r.pick(&[1, 2, 3, 3, 3, 4, 5, 7]);
        let square = random.below(3) > 0;
        let rows = if transposed { 4 } else { side(random) };
        let kernel = [rows, if transposed || square { rows } else { side(random) }];
        let pad = |r: &mut Random, axis: usize| r.below(kernel[axis] + 2);
        let shape = ConvShape {
            kind: if transposed { ConvKind::Transposed } else { ConvKind::Forward },
            in_channels: parts.iter().sum(),
            out_channels: 1 + random.below_any(&[4, 40, 80]),
            kernel,
            stride: if transposed { 2 } else { random.pick(&[1, 1, 2, 3]) },
            dilation: if transposed { 1 } else { random.pick(&[1, 1, 1, 2, 4]) },
            padding: if transposed {
                [1; 4]
            } else if random.below(2) == 0 {
                [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2]
            } else {
                [pad(random, 0), pad(random, 1), pad(random, 0), pad(random, 1)]
            },
        };
        let input = Extent { n: 1 + random.below(3), h: 1 + random.below(14), w: 1 + random.below_any(&[4, 40]) };
        let reach = kernel.map(|kernel| shape.dilation * (kernel - 1) + 1);
        let [top, left, bottom, right] = shape.padding;
        let reached = transposed || (input.h + top + bottom >= reach[0] && input.w + left + right >= reach[1]);
        if reached && shape.flop(input) < 4e6 {
            return Case::new(shape, input, parts, random);
        }
    }
}

#[test]
fn direct_matches_the_definition() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for i in 0..150 {
        let case = random_case(&mut random, i % 5 == 0);
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        for isa in Isa::available() {
            case.check(&expected, isa, Some("direct"), 1 + i % 3, 1.0);
        }
    }
}

#[test]
fn few_outputs_match_the_definition() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut count = 0;
    while count < 60 {
        let mut case = random_case(&mut random, count % 2 == 0);
        case.shape.out_channels = 1 + random.below(4);
        if case.shape.kind == ConvKind::Forward {
            case.shape = ConvShape { kernel: [3; 2], stride: 1, dilation: 1, padding: [1; 4], ..case.shape };
        }
        let case = Case::new(case.shape, case.input, case.parts, &mut random);
        if case.shape.in_channels < 24 {
            continue;
        }
        count += 1;
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        for isa in Isa::available() {
            case.check(&expected, isa, Some("few outputs"), 1 + count % 3, 1.0);
        }
    }
}

#[test]
fn a_first_layer_reads_pixels_without_padding() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for i in 0..60 {
        let mut case = random_case(&mut random, i % 5 == 0);
        let channels = 1 + random.below(12);
        case.shape.in_channels = channels;
        let case = Case::new(case.shape, case.input, vec![channels], &mut random);
        let reference = Options { algorithm: Some("reference"), ..Options::default() };
        let (_, expected) = case.run(reference);
        let (_, narrow) = case.run_narrow(reference);
        for isa in Isa::available() {
            let options = Options { isa, exact: false, bf16: None, threads: 1 + i % 3, algorithm: Some("direct") };
            let (_, got) = case.run_narrow(options);
            for ((expected, narrow), got) in expected.iter().zip(&narrow).zip(&got) {
                assert_eq!(expected[..], narrow[..]);
                let tolerance = case.terms() * f32::EPSILON;
                assert!(expected.iter().zip(got.iter()).all(|(e, g)| (e - g).abs() <= tolerance), "{:?}", case.shape);
            }
        }
    }
}

#[test]
fn sums_longer_than_a_chunk_of_weights_are_carried_on() {
    let mut random = Random(0x853c_49e6_748f_ea9b);
    for kind in [ConvKind::Forward, ConvKind::Transposed] {
        let (kernel, in_channels) = if kind == ConvKind::Forward { (3, 500) } else { (4, 1100) };
        let shape = ConvShape {
            kind,
            in_channels,
            out_channels: 40,
            kernel: [kernel; 2],
            stride: kernel / 2,
            dilation: 1,
            padding: [1; 4],
        };
        let case = Case::new(shape, Extent { n: 1, h: 3, w: 17 }, vec![in_channels - 2, 2], &mut random);
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        for isa in Isa::available() {
            case.check(&expected, isa, Some("direct"), 2, 1.0);
        }
    }
}

/// Compares bf16 with the definition on rounded numbers, in which only the order of the sums differs: within 1e-5 of the
/// largest output.
fn check_bf16(case: &Case, expected: &[Buffer], got: &(String, Vec<Buffer>)) {
    let largest = expected.iter().flat_map(|b| b.iter()).fold(1.0f32, |m, v| m.max(v.abs()));
    for (expected, got_block) in expected.iter().zip(&got.1) {
        for (i, (e, g)) in expected.iter().zip(got_block.iter()).enumerate() {
            let close = (e - g).abs() <= 1e-5 * largest;
            assert!(close, "{} at {i}: {g}, not {e}; {:?} {:?} parts {:?}", got.0, case.shape, case.input, case.parts);
        }
    }
}

/// What this machine can multiply with.
fn bf16_options(threads: usize) -> impl Iterator<Item = Options> {
    let detected = crate::Bf16::detect().ok().filter(|&b| b != crate::Bf16::portable());
    let units = std::iter::once(crate::Bf16::portable()).chain(detected);
    units.flat_map(move |bf16| {
        let algorithm = ["portable bf16", "avx512 bf16", "amx bf16"].into_iter().find(|a| a.starts_with(bf16.name()));
        Isa::available().into_iter().map(move |isa| Options { isa, exact: false, bf16: Some(bf16), threads, algorithm })
    })
}

#[test]
fn bf16_matches_the_definition_on_rounded_numbers() {
    let mut random = Random(0x6c62_272e_07bb_0142);
    let mut count = 0;
    while count < 120 {
        let case = random_case(&mut random, count % 5 == 0).rounded();
        if case.shape.out_channels < 5 {
            continue;
        }
        count += 1;
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        bf16_options(1 + count % 3).for_each(|options| check_bf16(&case, &expected, &case.run(options)));
    }
}

#[test]
fn bf16_in_many_strips_matches_the_definition() {
    let mut random = Random(0x27d4_eb2f_1656_67c5);
    let base = ConvShape {
        kind: ConvKind::Forward,
        in_channels: 6,
        out_channels: 5,
        kernel: [3; 2],
        stride: 1,
        dilation: 1,
        padding: [1; 4],
    };
    let transposed = ConvShape { kind: ConvKind::Transposed, kernel: [4; 2], stride: 2, ..base };
    for (shape, h, w) in [
        (base, 61, 83),
        (ConvShape { stride: 2, kernel: [7; 2], padding: [3; 4], ..base }, 97, 131),
        (ConvShape { dilation: 4, padding: [4; 4], ..base }, 50, 170),
        (ConvShape { kernel: [1; 2], padding: [0; 4], in_channels: 70, out_channels: 40, ..base }, 41, 53),
        (ConvShape { in_channels: 330, ..base }, 9, 67),
        (transposed, 45, 67),
    ] {
        let case = Case::new(shape, Extent { n: 1, h, w }, vec![shape.in_channels], &mut random).rounded();
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        let narrow = shape.in_channels < LANES;
        for options in [1, 2].into_iter().flat_map(bf16_options).filter(|o| o.isa == Isa::detect()) {
            check_bf16(&case, &expected, &case.run(options));
            if narrow {
                check_bf16(&case, &expected, &case.run_narrow(options));
            }
        }
    }
}

#[test]
fn bf16_is_chosen_only_where_it_is_asked_for_and_never_for_flows() {
    let mut random = Random(0x9216_d5d9_8979_fb1b);
    let layer = |out_channels| ConvShape {
        kind: ConvKind::Forward,
        in_channels: 64,
        out_channels,
        kernel: [3; 2],
        stride: 1,
        dilation: 1,
        padding: [1; 4],
    };
    let wanted = Options { bf16: Some(crate::Bf16::portable()), threads: 1, ..Options::default() };
    for (outputs, options, want) in [
        (64, wanted, true),
        (64, Options { exact: true, ..wanted }, false),
        (64, Options { bf16: None, ..wanted }, false),
        (2, wanted, false),
    ] {
        let case = Case::new(layer(outputs), Extent { n: 1, h: 24, w: 48 }, vec![64], &mut random);
        let name = case.run(options).0;
        assert_eq!(name.ends_with("bf16"), want, "{name} for {outputs} outputs, {options:?}");
    }
}
