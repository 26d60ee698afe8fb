//! The block against the plain form in [`super::reference`], and that against finite differences.

use super::{
    reference::{Block, Parameters, Planar},
    *,
};
use crate::{
    BlocksMut, Scratch, Update,
    testing::{Random, Value},
};

fn planar(value: &Value) -> Planar {
    let Extent { n, h, w } = value.extent;
    let mut planar = Planar::zeros(n, value.channels, h, w);
    for (n, c) in (0..n).flat_map(|n| (0..value.channels).map(move |c| (n, c))) {
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let i = planar.index(n, c, y, x);
            planar.data[i] = f64::from(value.at(c, n, y, x));
        }
    }
    planar
}

struct Case {
    input: Extent,
    /// Channels of each part of the input, each padded to whole blocks.
    parts: Vec<usize>,
    block: Block,
    x: Vec<Value>,
    d_y: Value,
    weights: [Vec<f32>; 6],
    /// As [`SeparableWeights::statistics`].
    given: [Option<[Vec<f32>; 2]>; 2],
    /// Which parameters' gradients are wanted, and whether the input's is.
    wanted: ([bool; 6], bool),
}

impl Case {
    fn new(random: &mut Random, input: Extent, parts: &[usize], out: usize, stride: usize) -> Self {
        let channels: usize = parts.iter().sum();
        let block = Block { channels, out, stride, epsilons: [1e-3, 2e-3], slopes: [0.1, 0.3], given: [None, None] };
        let output = Extent { n: input.n, h: input.h.div_ceil(stride), w: input.w.div_ceil(stride) };
        let x = parts.iter().map(|&channels| random.value(channels, input)).collect();
        let mut around_one = |len: usize| -> Vec<f32> { random.floats(len).iter().map(|x| 1.0 + 0.5 * x).collect() };
        let (scale1, scale2) = (around_one(channels), around_one(out));
        let weights = [
            random.floats(channels * 9),
            scale1,
            random.floats(channels),
            random.floats(out * channels),
            scale2,
            random.floats(out),
        ];
        let d_y = random.value(out, output);
        Self { input, parts: parts.to_vec(), block, x, d_y, weights, given: [None, None], wanted: ([true; 6], true) }
    }

    fn random(random: &mut Random) -> Self {
        let input = Extent { n: 1 + random.below(3), h: 1 + random.below(24), w: 1 + random.below(50) };
        let parts: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below(40)).collect();
        let (out, stride) = (1 + random.below(70), 1 + random.below(2));
        Self::new(random, input, &parts, out, stride)
    }

    /// Gives a norm its statistics.
    fn give(&mut self, random: &mut Random, which: usize) {
        let channels = [self.block.channels, self.block.out][which];
        let variance = random.floats(channels).iter().map(|x| 1.0 + 0.9 * x).collect();
        let given = [random.floats(channels), variance];
        self.block.given[which] = Some(given.each_ref().map(|s| s.iter().map(|&x| f64::from(x)).collect()));
        self.given[which] = Some(given);
    }

    fn weights(&self) -> SeparableWeights<'_> {
        let [depthwise, scale1, shift1, pointwise, scale2, shift2] = &self.weights;
        let statistics =
            self.given.each_ref().map(|given| given.as_ref().map(|given| given.each_ref().map(|s| &s[..])));
        SeparableWeights { depthwise, scale1, shift1, pointwise, scale2, shift2, statistics }
    }

    fn parameters(&self) -> Parameters {
        self.weights.each_ref().map(|w| w.iter().map(|&x| f64::from(x)).collect())
    }

    /// All parts as one planar value.
    fn planar(&self) -> Planar {
        let channels = self.block.channels;
        let mut all = Planar::zeros(self.input.n, channels, self.input.h, self.input.w);
        let plane = self.input.h * self.input.w;
        for n in 0..self.input.n {
            let mut first = 0;
            for part in &self.x {
                let (from, len) = (planar(part), part.channels * plane);
                all.data[(n * channels + first) * plane..][..len].copy_from_slice(&from.data[n * len..][..len]);
                first += part.channels;
            }
        }
        all
    }

    fn run(&self, isa: Isa, narrow: bool, update: Update) -> Outcome {
        let lanes = if narrow { (0..self.parts[0] as u32).map(Some).collect() } else { lane_map(&self.parts) };
        let pixels: Vec<f32> = self.x[0].buffers[0]
            .chunks(LANES)
            .flat_map(|pixel| pixel[..self.parts[0].min(LANES)].iter().copied())
            .chain([f32::NAN; LANES])
            .collect();
        let planes: Vec<&[f32]> = if narrow {
            vec![&pixels]
        } else {
            self.x.iter().flat_map(|part| part.buffers.iter().map(|b| &b[..])).collect()
        };
        let input = Blocks { extent: self.input, planes: &planes };
        let Block { out, stride, epsilons, slopes, .. } = self.block;
        let mut training = SeparableTraining::new(
            self.input,
            &lanes,
            out,
            stride,
            epsilons.map(|x| x as f32),
            slopes.map(|x| x as f32),
            isa,
        );
        let scratch = Scratch::new();
        let mut y = Value::zeroed(out, training.output());
        let mut d_x: Vec<Value> = self.parts.iter().map(|&channels| Value::zeroed(channels, self.input)).collect();
        if update == Update::Add {
            d_x.iter_mut().for_each(|part| part.buffers.iter_mut().for_each(|b| b.fill(0.0)));
        }
        let mut d_weights: [Vec<f32>; 6] =
            std::array::from_fn(|i| if self.wanted.0[i] { vec![0.25; self.weights[i].len()] } else { vec![] });
        if self.given.iter().any(Option::is_some) {
            // What the batch's statistics leave behind must not show.
            let weights = SeparableWeights { statistics: [None, None], ..self.weights() };
            y.write(|out| training.forward(&weights, input, out, &scratch));
            training.backward(&weights, input, self.d_y.blocks(), None, SeparableGradients::default(), &scratch);
        }
        // Twice, the second with what the first left behind.
        for round in 0..2 {
            y.write(|out| training.forward(&self.weights(), input, out, &scratch));
            let [depthwise, scale1, shift1, pointwise, scale2, shift2] = d_weights.each_mut().map(|w| &mut w[..]);
            let gradients = SeparableGradients { depthwise, scale1, shift1, pointwise, scale2, shift2 };
            let mut planes: Vec<&mut [f32]> =
                d_x.iter_mut().flat_map(|part| part.buffers.iter_mut().map(|b| &mut b[..])).collect();
            let mut d_input = BlocksMut { extent: self.input, planes: &mut planes };
            let update = if round == 0 { Update::Overwrite } else { update };
            let d_input = (!narrow && self.wanted.1).then_some((update, &mut d_input));
            training.backward(&self.weights(), input, self.d_y.blocks(), d_input, gradients, &scratch);
        }
        d_weights.iter_mut().flatten().for_each(|x| *x = (*x - 0.25) / 2.0);
        let statistics = training.statistics().map(|s| s.map(|s| s.map(<[f32]>::to_vec)));
        Outcome { y, statistics, d_x, d_weights }
    }
}

struct Outcome {
    y: Value,
    statistics: [Option<[Vec<f32>; 2]>; 2],
    d_x: Vec<Value>,
    d_weights: [Vec<f32>; 6],
}

/// The largest difference is a small part of the largest value.
fn assert_close(what: &str, case: &Case, isa: Isa, got: impl IntoIterator<Item = f32>, want: &[f64], tolerance: f64) {
    // What cancels to 0 over many points leaves their rounding behind.
    let points = (case.d_y.extent.len() / LANES) as f64;
    let largest = want.iter().fold((1e-5 * points).max(1e-2), |a, b| a.max(b.abs()));
    let got: Vec<f32> = got.into_iter().collect();
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs() / largest;
        assert!(
            error <= tolerance,
            "{what} {i}: {got} for {want} (largest {largest}); {isa:?} {:?} {:?} -> {} stride {}",
            case.input,
            case.parts,
            case.block.out,
            case.block.stride,
        );
    }
}

/// Lanes past the last channel are 0.
fn assert_no_padding(value: &Value) {
    let Some(last) = value.buffers.last() else { return };
    let used = value.channels - (value.buffers.len() - 1) * LANES;
    assert!(last.chunks(LANES).all(|pixel| pixel[used..].iter().all(|&x| x == 0.0)), "padding lanes");
}

fn check(case: &Case, narrow: bool, update: Update) {
    let (x, weights) = (case.planar(), case.parameters());
    let (y, statistics) = case.block.forward(&weights, &x);
    let (d_x, d_weights) = case.block.backward(&weights, &x, &planar(&case.d_y));
    for isa in Isa::available() {
        let got = case.run(isa, narrow, update);
        // Two norms over few values amplify rounding by the inverse of their deviation, at most 1 / sqrt(1e-3) each.
        assert_close("output", case, isa, planar(&got.y).data.iter().map(|&x| x as f32), &y.data, 2e-4);
        assert_no_padding(&got.y);
        let count = (y.n * y.h * y.w) as f64;
        for i in 0..2 {
            let [mean, variance] = &statistics[i];
            assert_eq!(got.statistics[i].is_none(), case.given[i].is_some());
            let Some([got_mean, got_variance]) = &got.statistics[i] else { continue };
            assert_close("mean", case, isa, got_mean.iter().copied(), mean, 1e-5);
            let unbiased: Vec<f64> = variance.iter().map(|v| v * count / (count - 1.0).max(1.0)).collect();
            assert_close("variance", case, isa, got_variance.iter().copied(), &unbiased, 2e-5);
        }
        for (i, (got, want)) in got.d_weights.iter().zip(&d_weights).enumerate() {
            if !case.wanted.0[i] {
                assert!(got.is_empty());
                continue;
            }
            assert_close(&format!("gradient of parameter {i}"), case, isa, got.iter().copied(), want, 1e-3);
        }
        if narrow || !case.wanted.1 {
            continue;
        }
        let times = if update == Update::Add { 2.0 } else { 1.0 };
        let plane = case.input.h * case.input.w;
        let mut first = 0;
        for part in &got.d_x {
            let want: Vec<f64> = (0..case.input.n)
                .flat_map(|n| &d_x.data[(n * case.block.channels + first) * plane..][..part.channels * plane])
                .map(|x| x * times)
                .collect();
            let values = planar(part).data;
            assert_close("gradient of the input", case, isa, values.iter().map(|&x| x as f32), &want, 1e-3);
            assert_no_padding(part);
            first += part.channels;
        }
    }
}

#[test]
fn the_reference_has_the_gradient_of_its_differences() {
    let mut random = Random::new(21);
    for i in 0..8 {
        let mut case = Case::new(&mut random, Extent { n: 2, h: 5, w: 6 }, &[3], 4, 1 + i % 2);
        (0..2).filter(|which| i >> (1 + which) & 1 == 1).for_each(|which| case.give(&mut random, which));
        let (x, weights, d_y) = (case.planar(), case.parameters(), planar(&case.d_y));
        let loss = |weights: &Parameters, x: &Planar| -> f64 {
            case.block.forward(weights, x).0.data.iter().zip(&d_y.data).map(|(y, g)| y * g).sum()
        };
        let (d_x, d_weights) = case.block.backward(&weights, &x, &d_y);
        // Too small a step to cross LeakyReLU's kink often, large enough for f64.
        const STEP: f64 = 1e-6;
        let close = |up: f64, down: f64, want: f64| {
            let got = (up - down) / (2.0 * STEP);
            assert!((got - want).abs() < 1e-6 * want.abs().max(1.0), "{got} for {want}");
        };
        for i in 0..x.data.len() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x.data[i] += by;
                loss(&weights, &x)
            };
            close(moved(STEP), moved(-STEP), d_x.data[i]);
        }
        for (which, gradient) in d_weights.iter().enumerate() {
            for (i, &want) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut weights = weights.clone();
                    weights[which][i] += by;
                    loss(&weights, &x)
                };
                close(moved(STEP), moved(-STEP), want);
            }
        }
    }
}

#[test]
fn the_block_is_the_reference() {
    let mut random = Random::new(22);
    for i in 0..24 {
        check(&Case::random(&mut random), false, [Update::Overwrite, Update::Add][i % 2]);
    }
}

/// Every mixture of given statistics, of parameters whose gradient is wanted and of inputs whose gradient is.
#[test]
fn parts_of_the_block_stay_as_they_are() {
    let mut random = Random::new(29);
    for i in 0..24 {
        let mut case = Case::random(&mut random);
        (0..2).filter(|which| i >> which & 1 == 1).for_each(|which| case.give(&mut random, which));
        case.wanted = (std::array::from_fn(|_| random.below(2) == 1), random.below(2) == 1);
        check(&case, false, [Update::Overwrite, Update::Add][i / 4 % 2]);
    }
    let mut first = Case::new(&mut random, Extent { n: 2, h: 21, w: 31 }, &[6], 32, 2);
    first.give(&mut random, 0);
    first.wanted.0 = [true, false, true, false, true, false];
    check(&first, true, Update::Overwrite);
}

#[test]
fn a_first_layer_reads_pixels_without_padding() {
    let mut random = Random::new(23);
    for channels in [6, 3, 15] {
        let input = Extent { n: 2, h: 20 + channels, w: 31 };
        check(&Case::new(&mut random, input, &[channels], 32, 1 + channels % 2), true, Update::Overwrite);
    }
}

#[test]
fn many_chunks_of_many_channels() {
    let mut random = Random::new(24);
    check(&Case::new(&mut random, Extent { n: 2, h: 13, w: 21 }, &[150, 40], 130, 1), false, Update::Overwrite);
    check(&Case::new(&mut random, Extent { n: 3, h: 61, w: 83 }, &[20], 18, 2), false, Update::Add);
}

#[test]
fn values_larger_than_the_caches() {
    let mut random = Random::new(28);
    for stride in [1, 2] {
        let mut case = Case::new(&mut random, Extent { n: 1, h: 389, w: 377 }, &[12], 10, stride);
        // Among millions of values some lie so near to a kink that f32 falls on its other side.
        case.block.slopes = [1.0; 2];
        check(&case, false, Update::Overwrite);
    }
}

#[test]
fn single_pixels_have_no_variance() {
    let mut random = Random::new(25);
    for (h, w, stride) in [(1, 1, 1), (1, 1, 2), (2, 2, 2), (1, 2, 2)] {
        let case = Case::new(&mut random, Extent { n: 1, h, w }, &[18], 5, stride);
        check(&case, false, Update::Overwrite);
        let got = case.run(Isa::detect(), false, Update::Overwrite);
        assert!(got.statistics.iter().flatten().all(|s| s[1].iter().all(|&variance| variance == 0.0)));
    }
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    let mut random = Random::new(26);
    let mut case = Case::new(&mut random, Extent { n: 2, h: 17, w: 19 }, &[16], 16, 1);
    // Filters that see the middle pixel only, so that the border does not vary.
    case.weights[0].iter_mut().enumerate().for_each(|(i, w)| *w = if i % 9 == 4 { 1.0 } else { 0.0 });
    case.x[0].buffers.iter_mut().for_each(|b| b.iter_mut().for_each(|x| *x += 1000.0));
    check(&case, false, Update::Overwrite);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::new(27);
    let cases = [
        Case::new(&mut random, Extent { n: 2, h: 47, w: 61 }, &[24], 40, 2),
        Case::new(&mut random, Extent { n: 2, h: 7, w: 10 }, &[256, 160], 400, 1),
    ];
    for case in &cases {
        let [one, two, three] = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.run(Isa::detect(), false, Update::Add))
        });
        for other in [two, three] {
            assert_eq!(one.d_weights, other.d_weights);
            assert_eq!(one.statistics, other.statistics);
            assert!(one.y.buffers.iter().zip(&other.y.buffers).all(|(a, b)| a[..] == b[..]));
            let parts = one.d_x.iter().zip(&other.d_x);
            assert!(parts.flat_map(|(a, b)| a.buffers.iter().zip(&b.buffers)).all(|(a, b)| a[..] == b[..]));
        }
    }
}
