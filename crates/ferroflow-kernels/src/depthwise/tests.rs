//! Both plans against the definition, over random shapes and on every instruction set.

use super::*;
use crate::{
    Scratch, lane_map,
    layout::to_blocks,
    pack,
    testing::{Random, Value, both_updates, on_any_threads},
};

struct Case {
    input: Extent,
    stride: usize,
    padding: [usize; 4],
    /// Values of the concatenation, and whether each is read doubled.
    parts: Vec<(Value, bool)>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    slope: f32,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let stride = 1 + random.below(2);
        let mut input = Extent { n: 1 + random.below(3), h: 1 + random.below(20), w: 1 + random.below(40) };
        let doubles = random.below(2) == 0;
        if doubles {
            input.h = input.h.next_multiple_of(2);
            input.w = input.w.next_multiple_of(2);
        }
        let parts: Vec<(Value, bool)> = (0..1 + random.below(3))
            .map(|i| {
                let doubled = doubles && i == 0;
                let extent = if doubled { Extent { h: input.h / 2, w: input.w / 2, ..input } } else { input };
                let channels = 1 + random.below(40);
                (random.value(channels, extent), doubled)
            })
            .collect();
        let channels = parts.iter().map(|p| p.0.channels).sum::<usize>();
        let weight = random.floats(channels * 9);
        let bias = (random.below(2) == 0).then(|| random.floats(channels));
        let pad = 1 + random.below(2);
        Self { input, stride, padding: [1, 1, pad, pad], parts, weight, bias, slope: 0.1 }
    }

    fn channels(&self) -> Vec<usize> {
        self.parts.iter().map(|p| p.0.channels).collect()
    }

    /// A channel of the concatenation; zero outside the image.
    fn at(&self, mut c: usize, n: usize, y: Option<usize>, x: Option<usize>) -> f64 {
        let (Some(y), Some(x)) = (y.filter(|y| *y < self.input.h), x.filter(|x| *x < self.input.w)) else { return 0.0 };
        for (part, doubled) in &self.parts {
            if c < part.channels {
                return f64::from(part.at(c, n, y >> usize::from(*doubled), x >> usize::from(*doubled)));
            }
            c -= part.channels;
        }
        unreachable!("channel past the last")
    }

    fn definition(&self, c: usize, n: usize, y: usize, x: usize) -> f64 {
        let mut sum = self.bias.as_ref().map_or(0.0, |b| f64::from(b[c]));
        for ky in 0..3 {
            for kx in 0..3 {
                let at = |at: usize, k: usize, pad: usize| (at * self.stride + k).checked_sub(pad);
                let value = self.at(c, n, at(y, ky, self.padding[0]), at(x, kx, self.padding[1]));
                sum += f64::from(self.weight[(c * 3 + ky) * 3 + kx]) * value;
            }
        }
        sum.max(f64::from(self.slope) * sum)
    }

    /// Calls `f` with the layer and its input.
    fn with<R>(&self, f: impl FnOnce(&Depthwise<'_>, Blocks<'_>) -> R) -> R {
        let mut planes: Vec<&[f32]> = Vec::new();
        let mut doubled = Vec::new();
        for (part, double) in &self.parts {
            planes.extend(part.buffers.iter().map(|b| &b[..]));
            doubled.extend(part.buffers.iter().map(|_| *double));
        }
        let layer = Depthwise {
            input: self.input,
            lanes: &lane_map(&self.channels()),
            stride: self.stride,
            padding: self.padding,
            weight: &self.weight,
            bias: self.bias.as_deref(),
            activation: Activation::LeakyRelu(self.slope),
            doubled: &doubled,
            pixel: LANES,
        };
        f(&layer, Blocks { extent: self.input, planes: &planes })
    }
}

#[test]
fn depthwise_is_nine_products() {
    let mut random = Random::new(3);
    for _ in 0..40 {
        let case = Case::random(&mut random);
        let lanes = lane_map(&case.channels());
        for isa in Isa::available() {
            let out = case.with(|layer, input| {
                let plan = DepthwisePlan::new(layer, isa);
                let mut out = Value::zeroed(lanes.len(), plan.output());
                out.write(|out| plan.run(input, out));
                out
            });
            // Nine products of values below 1, in f32.
            out.assert_close(1e-5, |lane, n, y, x| {
                lanes[lane].map_or(0.0, |c| case.definition(c as usize, n, y, x) as f32)
            });
        }
    }
}

#[test]
fn gradients_are_those_of_nine_products() {
    let mut random = Random::new(8);
    for i in 0..40 {
        let mut case = Case::random(&mut random);
        case.padding = [0; 4].map(|_| random.below(4));
        // A strip of several, now and then.
        let size = if i % 10 == 0 { 70 } else { 9 };
        case.input = Extent { n: 1 + random.below(3), h: 3 + random.below(size), w: 3 + random.below(size) };
        case.parts.iter_mut().for_each(|part| *part = (random.value(part.0.channels, case.input), false));
        let lanes = lane_map(&case.channels());
        let output = case.with(|layer, _| layer.output());
        let d = random.value(lanes.len(), output);
        // What every product contributes, in double precision.
        let (mut d_weight, Extent { n, h, w }) = (vec![0.0; case.weight.len()], case.input);
        let mut d_input = vec![0.0; lanes.len() * n * h * w];
        for (lane, channel) in lanes.iter().enumerate() {
            let Some(c) = channel.map(|c| c as usize) else { continue };
            for i in 0..n * output.h * output.w {
                let (image, y, x) = (i / output.w / output.h, i / output.w % output.h, i % output.w);
                let d = f64::from(d.at(lane, image, y, x));
                for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                    let y = (y * case.stride + ky).checked_sub(case.padding[0]).filter(|y| *y < h);
                    let x = (x * case.stride + kx).checked_sub(case.padding[1]).filter(|x| *x < w);
                    let tap = (c * 3 + ky) * 3 + kx;
                    d_weight[tap] += d * case.at(c, image, y, x);
                    if let (Some(y), Some(x)) = (y, x) {
                        d_input[((lane * n + image) * h + y) * w + x] += d * f64::from(case.weight[tap]);
                    }
                }
            }
        }
        for isa in Isa::available() {
            case.with(|layer, input| {
                let plan = DepthwisePlan::new(layer, isa);
                let found =
                    both_updates(lanes.len(), case.input, |update, to| plan.input_gradient(d.blocks(), update, to));
                // Nine products of values below 1, in f32.
                found.assert_close(1e-5, |lane, image, y, x| d_input[((lane * n + image) * h + y) * w + x] as f32);
                let sums = on_any_threads(|| {
                    let mut gradient = vec![1.0; case.weight.len()];
                    plan.weight_gradient(input, d.blocks(), &mut gradient);
                    let (channels, extent) = (gradient.len(), Extent { n: 1, h: 1, w: 1 });
                    vec![Value { channels, extent, buffers: to_blocks(&gradient, channels, extent) }]
                });
                // Thousands of products, in f32 within a strip.
                sums[0].assert_close(1e-4, |tap, _, _, _| 1.0 + d_weight[tap] as f32);
            });
        }
    }
}

struct Product {
    out: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Product {
    fn random(random: &mut Random, channels: usize) -> Self {
        let out = 1 + random.below(80);
        let bias = (random.below(2) == 0).then(|| random.floats(out));
        Self { out, weight: random.floats(out * channels), bias }
    }

    fn layer(&self) -> Pointwise<'_> {
        Pointwise {
            out_channels: self.out,
            weight: &self.weight,
            bias: self.bias.as_deref(),
            activation: Activation::LeakyRelu(0.2),
        }
    }

    fn check(&self, case: &Case, got: &Value) {
        let channels: usize = case.channels().iter().sum();
        let extent = got.extent;
        let middle: Vec<f64> = (0..extent.n * extent.h * extent.w)
            .flat_map(|i| {
                let (n, y, x) = (i / extent.w / extent.h, i / extent.w % extent.h, i % extent.w);
                (0..channels).map(move |c| case.definition(c, n, y, x))
            })
            .collect();
        // A hundred products of values below 3, in f32.
        got.assert_close(1e-4, |o, n, y, x| {
            let middle = &middle[((n * extent.h + y) * extent.w + x) * channels..][..channels];
            let products = self.weight[o * channels..].iter().zip(middle).map(|(&w, m)| f64::from(w) * m);
            let sum = products.sum::<f64>() + self.bias.as_ref().map_or(0.0, |b| f64::from(b[o]));
            sum.max(0.2 * sum) as f32
        });
    }
}

#[test]
fn separable_is_depthwise_then_pointwise() {
    let mut random = Random::new(4);
    for i in 0..40 {
        let case = Case::random(&mut random);
        let product = Product::random(&mut random, case.channels().iter().sum());
        for isa in Isa::available() {
            let out = case.with(|layer, input| {
                let plan = SeparablePlan::new(layer, &product.layer(), isa, None, 1 + i % 3);
                let scratch = Scratch::new();
                scratch.with(plan.scratch_len(), |s| s.fill(f32::NAN));
                let mut out = Value::zeroed(product.out, plan.output());
                out.write(|out| plan.run(input, out, &scratch));
                out
            });
            product.check(&case, &out);
        }
    }
}

/// Every number, what lies between included, is a bf16 and every sum an f32 number: nothing is rounded.
#[test]
fn in_bf16_separable_is_the_same_where_nothing_is_rounded() {
    let mut random = Random::new(6);
    let mut whole = |values: &mut [f32]| values.iter_mut().for_each(|v| *v = random.below(5) as f32 - 2.0);
    let mut random = Random::new(7);
    for i in 0..40 {
        let mut case = Case::random(&mut random);
        // Up to 38 and its half between the layers: six digits.
        case.slope = 0.5;
        case.weight.iter_mut().chain(case.bias.iter_mut().flatten()).for_each(|v| *v = v.signum());
        case.parts.iter_mut().flat_map(|p| &mut p.0.buffers).for_each(|b| {
            // Padding lanes stay 0.
            b.iter_mut().filter(|v| **v != 0.0).for_each(|v| *v = (4.0 * *v).round());
        });
        let mut product = Product::random(&mut random, case.channels().iter().sum());
        whole(&mut product.weight);
        product.bias.iter_mut().for_each(|b| whole(b));
        let threads = 1 + i % 3;
        for isa in Isa::available() {
            let bf16 = crate::Bf16::detect().unwrap_or(crate::Bf16::portable());
            let [single, half] = [None, Some(bf16)].map(|bf16| {
                case.with(|layer, input| {
                    let plan = SeparablePlan::new(layer, &product.layer(), isa, bf16, threads);
                    assert_eq!(plan.algorithm().ends_with("bf16"), bf16.is_some() && product.out > 4);
                    let scratch = Scratch::new();
                    scratch.with(plan.scratch_len(), |s| s.fill(f32::NAN));
                    let mut out = Value::zeroed(product.out, plan.output());
                    out.write(|out| plan.run(input, out, &scratch));
                    out
                })
            });
            for (single, half) in single.buffers.iter().zip(&half.buffers) {
                assert_eq!(single[..], half[..]);
            }
        }
    }
}

#[test]
fn a_first_layer_reads_pixels_without_padding() {
    let mut random = Random::new(5);
    for _ in 0..20 {
        let mut case = Case::random(&mut random);
        let channels = 1 + random.below(12);
        case.parts = vec![(random.value(channels, case.input), false)];
        case.weight = random.floats(channels * 9);
        case.bias = Some(random.floats(channels));
        let product = Product::random(&mut random, channels);
        let value = &case.parts[0].0;
        let mut narrow: Vec<f32> =
            value.buffers[0].chunks(LANES).flat_map(|pixel| pixel[..channels].iter().copied()).collect();
        narrow.extend([f32::NAN; LANES]);
        // The same as two frames of three channels, from which it comes by a factor and a summand.
        let Extent { n: batch, h, w } = case.input;
        let frames = [0, 1].map(|frame| -> Vec<f32> {
            let all = (0..batch).flat_map(|n| (0..3).map(move |c| (n, 3 * frame + c)));
            let at = |n, c, i: usize| if c < channels { value.at(c, n, i / w, i % w) } else { f32::NAN };
            all.flat_map(|(n, c)| (0..h * w).map(move |i| 2.0 * at(n, c, i) - 0.5)).collect()
        });
        let source = |c: usize| pack::Source { frame: c / 3, channel: c % 3, scale: 0.5, offset: 0.25 };
        let sources: Vec<_> = (0..batch * LANES).map(|i| (i % LANES < channels).then(|| source(i % LANES))).collect();
        for isa in Isa::available() {
            let out = case.with(|layer, _| {
                let layer = Depthwise { pixel: channels, ..*layer };
                let plan = SeparablePlan::new(&layer, &product.layer(), isa, None, 2);
                let mut out = Value::zeroed(product.out, plan.output());
                let input = Blocks { extent: case.input, planes: &[&narrow] };
                out.write(|out| plan.run(input, out, &Scratch::new()));
                if channels <= 6 {
                    product.check(&case, &out);
                    let frames = [0, 1].map(|i| pack::Pixels::Planar(&frames[i]));
                    let frames = Frames { frames, batch, sources: &sources };
                    out.write(|out| plan.run_frames(frames, out, &Scratch::new()));
                }
                out
            });
            product.check(&case, &out);
        }
    }
}
