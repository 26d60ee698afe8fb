//! The three products against their definition in f64, over random shapes, on every instruction set.

use super::*;
use crate::{
    Buffer, Isa,
    conv::tests::random::Random,
    layout::{from_blocks, to_blocks},
};

/// A layer with values for everything it reads.
struct Case {
    shape: ConvShape,
    input: Extent,
    lanes: LaneMap,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// `[n][lane][h][w]`, lanes without a channel 0.
    x: Vec<f32>,
    /// `[n][out][h][w]`
    dy: Vec<f32>,
}

/// Results, in the order of the reference: output, input gradient (in lanes), weight gradient, bias gradient.
struct Products {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Case {
    fn new(shape: ConvShape, input: Extent, lanes: LaneMap, random: &mut Random) -> Self {
        let output = shape.output(input);
        let pixels = input.h * input.w;
        let mut x = random.values(input.n * lanes.len() * pixels);
        for (i, plane) in x.chunks_mut(pixels).enumerate() {
            if lanes[i % lanes.len()].is_none() {
                plane.fill(0.0);
            }
        }
        Self {
            shape,
            input,
            weight: random.values(shape.in_channels * shape.out_channels * shape.taps()),
            bias: random.values(shape.out_channels),
            x,
            dy: random.values(output.n * shape.out_channels * output.h * output.w),
            lanes,
        }
    }

    /// Calls `f(lane, out, weight index, input index, output index)` for every product.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (s, from, to) = (&self.shape, self.input, self.shape.output(self.input));
        let [rows, columns] = s.kernel;
        // The convolution goes from the image to the points.
        let (image, points) = if s.kind == ConvKind::Forward { (from, to) } else { (to, from) };
        for n in 0..from.n {
            for (py, px, ky, kx) in (0..points.h * points.w * rows * columns)
                .map(|i| (i / (rows * columns), i % (rows * columns)))
                .map(|(point, tap)| (point / points.w, point % points.w, tap / columns, tap % columns))
            {
                let y = (py * s.stride + ky * s.dilation).wrapping_sub(s.padding[0]);
                let x = (px * s.stride + kx * s.dilation).wrapping_sub(s.padding[1]);
                if y >= image.h || x >= image.w {
                    continue;
                }
                let (iy, ix, oy, ox) = if s.kind == ConvKind::Forward { (y, x, py, px) } else { (py, px, y, x) };
                for (lane, channel) in self.lanes.iter().enumerate() {
                    let Some(c) = channel.map(|c| c as usize) else { continue };
                    for o in 0..s.out_channels {
                        let w = match s.kind {
                            ConvKind::Forward => o * s.in_channels + c,
                            ConvKind::Transposed => c * s.out_channels + o,
                        };
                        f(
                            (w * rows + ky) * columns + kx,
                            ((n * self.lanes.len() + lane) * from.h + iy) * from.w + ix,
                            ((n * s.out_channels + o) * to.h + oy) * to.w + ox,
                        );
                    }
                }
            }
        }
    }

    /// The definition; `start` is what the gradients are added to.
    fn reference(&self, start: f32) -> Products {
        let mut y = vec![0.0f64; self.dy.len()];
        let mut dx = vec![f64::from(start); self.x.len()];
        let mut dw = vec![f64::from(start); self.weight.len()];
        self.each(|w, i, o| {
            y[o] += f64::from(self.weight[w]) * f64::from(self.x[i]);
            dx[i] += f64::from(self.weight[w]) * f64::from(self.dy[o]);
            dw[w] += f64::from(self.x[i]) * f64::from(self.dy[o]);
        });
        let output = self.shape.output(self.input);
        let pixels = output.h * output.w;
        let mut db = vec![f64::from(start); self.shape.out_channels];
        for (i, (plane, y)) in self.dy.chunks(pixels).zip(y.chunks_mut(pixels)).enumerate() {
            let o = i % self.shape.out_channels;
            db[o] += plane.iter().map(|&v| f64::from(v)).sum::<f64>();
            y.iter_mut().for_each(|y| {
                *y += f64::from(self.bias[o]);
                *y = y.max(0.1 * *y);
            });
        }
        let single = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
        Products { y: single(y), dx: single(dx), dw: single(dw), db: single(db) }
    }

    fn blocks(&self, planar: &[f32]) -> Vec<Buffer> {
        let mut blocks = to_blocks(planar, self.lanes.len(), self.input);
        if self.lanes.len() < LANES {
            let mut narrow = Buffer::zeroed(self.lanes.len() * self.input.len() / LANES);
            for (to, from) in narrow.chunks_exact_mut(self.lanes.len()).zip(blocks[0].chunks(LANES)) {
                to.copy_from_slice(&from[..self.lanes.len()]);
            }
            blocks = vec![narrow];
        }
        blocks
    }

    /// What the kernels compute; gradients are added to `start`, if there is one.
    fn run(&self, options: Options, start: Option<f32>) -> ([String; 3], Products) {
        let mut layer = ConvTraining::new(self.shape, self.input, &self.lanes, true, options);
        let scratch = Scratch::new();
        scratch.with(1 << 16, |s| s.fill(f32::NAN));
        scratch.with_shared(1 << 16, |s| s.fill(f32::NAN));
        // Weights of an earlier step must leave nothing behind.
        layer.set_weights(&vec![3.0; self.weight.len()], Some(&vec![5.0; self.bias.len()]));
        layer.set_weights(&self.weight, Some(&self.bias));
        let extent = layer.output();
        let x = self.blocks(&self.x);
        let x: Vec<&[f32]> = x.iter().map(|b| &b[..]).collect();
        let x = Blocks { extent: self.input, planes: &x };
        let dy = to_blocks(&self.dy, self.shape.out_channels, extent);
        let dy: Vec<&[f32]> = dy.iter().map(|b| &b[..]).collect();
        let dy = Blocks { extent, planes: &dy };

        let mut y = vec![Buffer::zeroed(extent.len()); dy.planes.len()];
        y.iter_mut().for_each(|b| b.fill(f32::NAN));
        let mut planes: Vec<&mut [f32]> = y.iter_mut().map(|b| &mut b[..]).collect();
        layer.forward(x, Activation::LeakyRelu(0.1), &mut BlocksMut { extent, planes: &mut planes }, &scratch);

        let mut dx = self.blocks(&vec![start.unwrap_or(f32::NAN); self.x.len()]);
        let mut planes: Vec<&mut [f32]> = dx.iter_mut().map(|b| &mut b[..]).collect();
        let update = if start.is_some() { Update::Add } else { Update::Overwrite };
        layer.input_gradient(dy, update, &mut BlocksMut { extent: self.input, planes: &mut planes }, &scratch);
        let (mut dw, mut db) =
            (vec![start.unwrap_or(0.0); self.weight.len()], vec![start.unwrap_or(0.0); self.bias.len()]);
        layer.weight_gradient(x, dy, &mut dw, &scratch);
        bias_gradient(options.isa, dy, &mut db, &scratch);

        let y: Vec<&[f32]> = y.iter().map(|b| &b[..]).collect();
        for (block, plane) in y.iter().enumerate() {
            let used = (self.shape.out_channels - block * LANES).min(LANES);
            assert!(plane.chunks(LANES).all(|p| p[used..].iter().all(|&v| v == 0.0)), "padding lanes of the output");
        }
        let y = from_blocks(Blocks { extent, planes: &y }, self.shape.out_channels);
        let wide: Vec<Buffer> = if self.lanes.len() < LANES {
            let mut wide = Buffer::zeroed(self.input.len());
            for (to, from) in wide.chunks_mut(LANES).zip(dx[0].chunks_exact(self.lanes.len())) {
                to[..from.len()].copy_from_slice(from);
            }
            vec![wide]
        } else {
            dx
        };
        let planes: Vec<&[f32]> = wide.iter().map(|b| &b[..]).collect();
        let dx = from_blocks(Blocks { extent: self.input, planes: &planes }, self.lanes.len());
        (layer.algorithms(), Products { y, dx, dw, db })
    }

    /// Compares with the definition. `rounding` 1 allows for sums in f32: `n` products of numbers in -1..1 have a size of
    /// `sqrt(n) / 3`, and their sum `sqrt(n)` roundings of it at most; Winograd's transforms enlarge what is rounded.
    fn check(&self, expected: &Products, options: Options, start: Option<f32>, rounding: f32) {
        let (names, got) = self.run(options, start);
        let (s, points) = (&self.shape, self.shape.output(self.input));
        let taps = s.taps();
        let pixels = if s.kind == ConvKind::Forward { points } else { self.input };
        let products = [
            ("output", &expected.y, &got.y, s.in_channels * taps),
            ("input gradient", &expected.dx, &got.dx, s.out_channels * taps),
            ("weight gradient", &expected.dw, &got.dw, pixels.n * pixels.h * pixels.w),
            ("bias gradient", &expected.db, &got.db, points.n * points.h * points.w),
        ];
        for (what, expected, got, terms) in products {
            let tolerance = rounding * (terms as f32 + 16.0) * f32::EPSILON;
            for (i, (e, g)) in expected.iter().zip(got).enumerate() {
                assert!(
                    (e - g).abs() <= tolerance,
                    "{what}, {i}: {g}, not {e}; {names:?} on {:?}: {s:?} {:?} {:?}",
                    options.isa,
                    self.input,
                    self.lanes.iter().map(|l| l.map_or(-1, |l| l as i32)).collect::<Vec<_>>(),
                );
            }
        }
    }
}

/// A shape with at least one output.
fn random_case(random: &mut Random, round: usize) -> Case {
    loop {
        let transposed = round % 4 == 3;
        let parts: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below_any(&[3, 16, 30])).collect();
        let side = |r: &mut Random| r.pick(&[1, 2, 3, 3, 3, 4, 5, 7]);
        let rows = if transposed { 4 } else { side(random) };
        let square = transposed || !round.is_multiple_of(3);
        let kernel = [rows, if square { rows } else { side(random) }];
        let stride = if transposed { 2 } else { random.pick(&[1, 1, 2, 2, 3]) };
        let shape = ConvShape {
            kind: if transposed { ConvKind::Transposed } else { ConvKind::Forward },
            in_channels: parts.iter().sum(),
            out_channels: 1 + random.below_any(&[4, 40]),
            kernel,
            stride,
            dilation: if transposed { 1 } else { random.pick(&[1, 1, 1, 2, 4]) },
            padding: match (transposed, random.below(3)) {
                (true, _) => [1; 4],
                (_, 0) => [0, 1, 0, 1].map(|axis| kernel[axis] / 2),
                // TensorFlow's.
                (_, 1) => std::array::from_fn(|i| i / 2 + (kernel[i % 2] - 1) / 2),
                _ => std::array::from_fn(|i| random.below(kernel[i % 2] + 2)),
            },
        };
        let input =
            Extent { n: 1 + random.below(3), h: 1 + random.below_any(&[1, 12]), w: 1 + random.below_any(&[1, 5, 30]) };
        let reach = kernel.map(|kernel| shape.dilation * (kernel - 1) + 1);
        let [top, left, bottom, right] = shape.padding;
        let reached = transposed || (input.h + top + bottom >= reach[0] && input.w + left + right >= reach[1]);
        if !reached || shape.flop(input) > 3e6 {
            continue;
        }
        let mut lanes = lane_map(&parts);
        match round % 5 {
            // A part that fills lanes between those of another.
            0 => lanes.rotate_right(1),
            1 if shape.in_channels < LANES => lanes = (0..shape.in_channels as u32).map(Some).collect(),
            _ => {}
        }
        return Case::new(shape, input, lanes, random);
    }
}

#[test]
fn direct_products_match_the_definition() {
    let mut random = Random(0x1357_9bdf_0246_8ace);
    for round in 0..120 {
        let case = random_case(&mut random, round);
        let start = (round % 2 == 0).then_some(0.5);
        let expected = case.reference(start.unwrap_or(0.0));
        for isa in Isa::available() {
            let options = Options { isa, exact: true, bf16: None, threads: 1 + round % 3, algorithm: None };
            case.check(&expected, options, start, 1.0);
        }
    }
}

#[test]
fn chosen_products_match_the_definition() {
    let mut random = Random(0x0fed_cba9_8765_4321);
    for round in 0..120 {
        let case = random_case(&mut random, round);
        let start = (round % 2 == 0).then_some(0.5);
        let expected = case.reference(start.unwrap_or(0.0));
        for isa in Isa::available() {
            let options = Options { isa, exact: false, bf16: None, threads: 1 + round % 3, algorithm: None };
            case.check(&expected, options, start, 100.0);
        }
    }
}

/// Every algorithm for a weight gradient, by the name the estimate might choose it under.
#[test]
fn every_weight_gradient_matches_the_definition() {
    let mut random = Random(0x7777_5555_3333_1111);
    let mut names = std::collections::BTreeMap::new();
    for round in 0..80 {
        let case = random_case(&mut random, round);
        let expected = case.reference(0.5);
        let extent = case.shape.output(case.input);
        let (x, dy) = (case.blocks(&case.x), to_blocks(&case.dy, case.shape.out_channels, extent));
        let x: Vec<&[f32]> = x.iter().map(|b| &b[..]).collect();
        let dy: Vec<&[f32]> = dy.iter().map(|b| &b[..]).collect();
        let (x, dy) = (Blocks { extent: case.input, planes: &x }, Blocks { extent, planes: &dy });
        let correlation = Correlation::new(case.shape, case.input, &case.lanes);
        let (image, points) = if case.shape.kind == ConvKind::Forward { (x, dy) } else { (dy, x) };
        let scratch = Scratch::new();
        scratch.with_shared(1 << 18, |s| s.fill(f32::NAN));
        let terms = correlation.points.len() / LANES + 16;
        for isa in Isa::available() {
            let options = Options { isa, exact: false, bf16: None, threads: 1 + round % 2, algorithm: None };
            for candidate in gradient::candidates(&correlation, options) {
                let gradient = candidate.gradient;
                *names.entry(gradient.name()).or_insert(0) += 1;
                let mut dw = vec![0.5; case.weight.len()];
                gradient.run(image, points, &mut dw, &scratch);
                // See `Case::check`.
                let tolerance = if candidate.exact { 1.0 } else { 100.0 } * terms as f32 * f32::EPSILON;
                let check = |dw: &[f32], times: f32| {
                    for (i, (e, g)) in expected.dw.iter().zip(dw).enumerate() {
                        let e = 0.5 + times * (e - 0.5);
                        assert!(
                            (e - g).abs() <= times * tolerance,
                            "{}, {i}: {g}, not {e}; {isa:?}: {:?} {:?}",
                            gradient.name(),
                            case.shape,
                            case.input,
                        );
                    }
                };
                check(&dw, 1.0);
                // Of the same values twice, taken to the weights at once.
                if let Some(parts) = gradient.in_two_parts() {
                    let mut sum = vec![f32::NAN; parts.len()];
                    parts.sum(image, points, &mut sum, Update::Overwrite, &scratch);
                    parts.sum(image, points, &mut sum, Update::Add, &scratch);
                    dw.fill(0.5);
                    parts.finish(&sum, &mut dw);
                    check(&dw, 2.0);
                }
            }
        }
    }
    // Every family came up.
    for name in ["direct", "few outputs", "winograd F(2x2)", "winograd F(4x4)", "winograd F(5x5)"] {
        assert!(names.contains_key(name), "{name} is not in {names:?}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random(0x2222_1111_4444_3333);
    for round in 0..24 {
        let case = random_case(&mut random, round);
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let options = Options { threads, ..Options::default() };
            let (_, products) = pool.install(|| case.run(options, Some(0.25)));
            [products.y, products.dx, products.dw, products.db]
                .concat()
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        let one = of(1);
        for threads in [2, 3, 8] {
            assert!(one == of(threads), "{threads} threads: {:?} {:?}", case.shape, case.input);
        }
    }
}

#[test]
fn layers_that_would_reach_outside_their_slices_are_refused() {
    let shape = ConvShape {
        kind: ConvKind::Forward,
        in_channels: 16,
        out_channels: 16,
        kernel: [3; 2],
        stride: 1,
        dilation: 1,
        padding: [1; 4],
    };
    let input = Extent { n: 1, h: 16, w: 16 };
    let lanes = |first: u32| (first..first + 16).map(Some).collect::<Vec<_>>();
    let make = |shape: ConvShape, input: Extent, lanes: Vec<Option<u32>>| {
        std::panic::catch_unwind(|| {
            ConvTraining::new(shape, input, &lanes, true, Options::default());
        })
    };
    assert!(make(shape, input, lanes(0)).is_ok());
    for (name, shape, input, lanes) in [
        ("lanes far outside", shape, input, lanes(500_000_000)),
        ("lanes near by", shape, input, lanes(300)),
        ("one lane too far", shape, input, lanes(1)),
        ("two lanes of one channel", shape, input, vec![Some(3); 16]),
        ("no room for the kernel", ConvShape { padding: [0; 4], ..shape }, Extent { h: 2, ..input }, lanes(0)),
        ("no stride", ConvShape { stride: 0, ..shape }, input, lanes(0)),
        ("no kernel", ConvShape { kernel: [0; 2], ..shape }, input, lanes(0)),
        ("weights that wrap", ConvShape { out_channels: 1 << 60, ..shape }, input, lanes(0)),
        ("padding that wraps", ConvShape { padding: [usize::MAX; 4], ..shape }, input, lanes(0)),
        ("dilation that wraps", ConvShape { dilation: 1 << 63, ..shape }, input, lanes(0)),
        ("another transposed layer", ConvShape { kind: ConvKind::Transposed, ..shape }, input, lanes(0)),
        ("pixels that wrap", shape, Extent { n: 1 << 60, ..input }, lanes(0)),
    ] {
        assert!(make(shape, input, lanes).is_err(), "{name}");
    }
}
