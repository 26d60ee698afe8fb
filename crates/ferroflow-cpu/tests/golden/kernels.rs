//! The gradients of the CPU kernels against those of the functions they follow: NVIDIA's kernels, torch, TensorFlow,
//! Caffe.

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch, Update,
    conv::Activation,
    correlation::{Correlation, CorrelationGradient},
    elementwise::activation_gradient,
    layout::{from_blocks, to_blocks},
    norm::{channel_norm, channel_norm_gradient, moments, moments_gradient, standardise_gradient},
    resize::{Resize, Sampling},
    warp::{AtInteger, Axes, Border, WarpGradient},
};
use ferroflow_net::weights::formula::Stream;

use super::compare::Tolerance;
use super::shared::{Array, File, SEED};

/// Single precision of an operation or two.
const OP: Tolerance = Tolerance::OfLargest(2e-5);

/// A value in blocks of 16 channels.
struct Value {
    channels: usize,
    extent: Extent,
    buffers: Vec<Buffer>,
}

impl Value {
    fn of(array: &Array) -> Self {
        Self::planar(&array.shape, &array.data)
    }

    /// The output gradient of an operation, as the golden README makes them.
    fn gradient(name: &str, shape: [usize; 4]) -> Self {
        Self::planar(&shape, &Stream::new(SEED, &format!("ops/{name}")).tensor(shape.iter().product(), 1.0, 0.0))
    }

    fn planar(shape: &[usize], data: &[f32]) -> Self {
        let &[n, channels, h, w] = shape else { panic!("{shape:?}") };
        let extent = Extent { n, h, w };
        Self { channels, extent, buffers: to_blocks(data, channels, extent) }
    }

    fn like(&self) -> Self {
        let buffers = vec![Buffer::zeroed(self.extent.len()); self.buffers.len()];
        Self { channels: self.channels, extent: self.extent, buffers }
    }

    fn read<R>(&self, f: impl FnOnce(Blocks<'_>) -> R) -> R {
        let planes: Vec<&[f32]> = self.buffers.iter().map(|b| &b[..]).collect();
        f(Blocks { extent: self.extent, planes: &planes })
    }

    fn write(&mut self, f: impl FnOnce(&mut BlocksMut<'_, '_>)) {
        let mut planes: Vec<&mut [f32]> = self.buffers.iter_mut().map(|b| &mut b[..]).collect();
        f(&mut BlocksMut { extent: self.extent, planes: &mut planes });
    }
}

impl File {
    fn value(&self, name: &str) -> Value {
        Value::of(&self.arrays[name])
    }

    fn check_gradient(&mut self, ours: &Value, name: &str) {
        self.compare(&ours.read(|blocks| from_blocks(blocks, ours.channels)), name, OP);
    }

    fn check_warp(&mut self, name: &str, flow: &str, border: Border, axes: Axes, at_integer: AtInteger) {
        let (image, flow) = (self.value("image"), self.value(flow));
        let g = Value::gradient("gres", [image.extent.n, image.channels, image.extent.h, image.extent.w]);
        let (mut d_image, mut d_flow) = (image.like(), flow.like());
        image.read(|image| {
            flow.read(|flow| {
                g.read(|g| {
                    d_image.write(|d_image| {
                        d_flow.write(|d_flow| {
                            let (d_image, d_flow) =
                                (Some((Update::Overwrite, d_image)), Some((Update::Overwrite, d_flow)));
                            let (isa, scratch) = (Isa::detect(), Scratch::new());
                            WarpGradient { image, flow, axes, border, at_integer, g }
                                .run(isa, d_image, d_flow, &scratch);
                        });
                    });
                });
            });
        });
        self.check_gradient(&d_image, &format!("{name}grad1"));
        self.check_gradient(&d_flow, &format!("{name}grad2"));
    }

    fn check_costs(
        &mut self,
        name: &str,
        inputs: &str,
        gradient: &str,
        max: usize,
        stride: usize,
        activation: Activation,
    ) {
        let [f1, f2] = ["in1", "in2"].map(|input| self.value(&format!("{inputs}/{input}")));
        let plan = Correlation::new(f1.extent, f1.channels, max, stride, activation);
        let Extent { n, h, w } = f1.extent;
        let mut g = Value::gradient(gradient, [n, plan.displacements(), h, w]);
        let (mut costs, mut d1, mut d2) = (g.like(), f1.like(), f2.like());
        let (isa, scratch) = (Isa::detect(), Scratch::new());
        let mut work = vec![0.0; plan.work_len().max(plan.gradient_work_len())];
        f1.read(|f1| {
            f2.read(|f2| {
                costs.write(|out| plan.run(isa, [f1, f2], out, &mut work, &scratch));
                costs.read(|y| g.write(|d| activation_gradient(isa, y, activation, d)));
                g.read(|g| {
                    d1.write(|d1| {
                        d2.write(|d2| {
                            let (d1, d2) = (Some((Update::Overwrite, d1)), Some((Update::Overwrite, d2)));
                            CorrelationGradient { plan: &plan, features: [f1, f2], g }
                                .run(isa, d1, d2, &mut work, &scratch);
                        });
                    });
                });
            });
        });
        self.check_gradient(&d1, &format!("{name}/grad1"));
        self.check_gradient(&d2, &format!("{name}/grad2"));
    }

    fn check_resize(
        &mut self,
        name: &str,
        input: &str,
        gradient: &str,
        sampling: Sampling,
        (h, w): (usize, usize),
        scale: f32,
    ) {
        let x = self.value(input);
        let to = Extent { n: x.extent.n, h, w };
        let g = Value::gradient(gradient, [to.n, x.channels, h, w]);
        let (resize, mut d) = (Resize::new(x.extent, to, sampling), x.like());
        g.read(|g| {
            d.write(|d| {
                resize.gradient().run(Isa::detect(), g, &[scale; LANES], Update::Overwrite, d, &Scratch::new());
            });
        });
        self.check_gradient(&d, &format!("{name}/grad1"));
    }
}

const UV: Axes = Axes { x_lane: 0, y_lane: 1, scale: 1.0 };
const VU: Axes = Axes { x_lane: 1, y_lane: 0, scale: 1.0 };
const NEGATED_VU: Axes = Axes { scale: -1.0, ..VU };

#[test]
fn nvidia() {
    let Some(mut file) = File::open("nvidia") else { return };
    file.check_warp("resample2d/", "flow", Border::Replicate, UV, AtInteger::Right);
    file.check_warp("resample2d_int/", "flow_int", Border::Replicate, UV, AtInteger::Right);
    file.check_costs("correlation", "correlation", "gcorr", 20, 2, Activation::Linear);
    file.check_costs("cost_volume", "cost_volume", "gcost", 4, 1, Activation::Linear);
    let x = file.value("channelnorm/in1");
    let g = Value::gradient("gcn", [x.extent.n, 1, x.extent.h, x.extent.w]);
    let (mut y, mut d) = (g.like(), x.like());
    x.read(|x| {
        y.write(|y| channel_norm(Isa::detect(), x, 0.0, y));
        y.read(|y| {
            g.read(|g| d.write(|d| channel_norm_gradient(Isa::detect(), x, y, g, 0.0, Update::Overwrite, d)));
        });
    });
    file.check_gradient(&d, "channelnorm/grad1");
    file.finish();
}

#[test]
fn pytorch() {
    let Some(mut file) = File::open("pytorch") else { return };
    file.check_warp("pwc_warp/", "flow", Border::ZerosMasked(0.9999), UV, AtInteger::Right);
    file.check_warp("grid_sample_zeros/", "flow", Border::Zeros, UV, AtInteger::Right);
    file.check_warp("resample2d_extrapolate/", "flow_clip40", Border::Extrapolate, UV, AtInteger::Right);
    for (name, sampling, size) in [
        ("bilinear4_half_pixel", Sampling::HalfPixel, (20, 28)),
        ("bilinear4_align_corners", Sampling::AlignCorners, (20, 28)),
        ("bilinear2_half_pixel", Sampling::HalfPixel, (10, 14)),
        ("nearest4", Sampling::Nearest, (20, 28)),
        ("nearest2", Sampling::Nearest, (10, 14)),
    ] {
        file.check_resize(name, "up", &format!("gup_{name}"), sampling, size, 1.0);
    }
    for (name, sampling) in
        [("resize_half_pixel", Sampling::HalfPixel), ("resize_align_corners", Sampling::AlignCorners)]
    {
        file.check_resize(name, "image", &format!("gsz_{name}"), sampling, (7, 21), 1.0);
    }
    file.finish();
}

#[test]
fn tensorflow() {
    let Some(mut file) = File::open("tensorflow") else { return };
    for (suffix, flow) in [("", "flow"), ("_int", "flow_int")] {
        let name = format!("tfoptflow_warp{suffix}/");
        file.check_warp(&name, flow, Border::Replicate, NEGATED_VU, AtInteger::ZeroButLast);
        file.check_warp(&format!("uflow_resample{suffix}/"), flow, Border::Zeros, VU, AtInteger::Zero);
    }
    file.check_costs("uflow_cost_volume", "cost_volume", "gcost", 4, 1, Activation::Linear);
    file.check_costs("tfoptflow_cost_volume", "cost_volume", "gcost", 4, 1, Activation::LeakyRelu(0.1));
    for (name, input, gradient, sampling, size, scale) in [
        ("bilinear4_asymmetric", "up", "gup_asym4", Sampling::Asymmetric, (20, 28), 1.0),
        ("bilinear2_asymmetric", "up", "gup_asym2", Sampling::Asymmetric, (10, 14), 1.0),
        ("bilinear4_align_corners", "up", "gup_ac4", Sampling::AlignCorners, (20, 28), 1.0),
        ("uflow_upsample_flow", "up", "gup_uflow", Sampling::HalfPixel, (10, 14), 2.0),
        ("resize_asymmetric", "image", "gsz_tf1", Sampling::Asymmetric, (7, 21), 1.0),
        ("resize_asymmetric_small", "image", "gsz_tf1s", Sampling::Asymmetric, (4, 4), 1.0),
        ("resize_half_pixel", "image", "gsz_tf2", Sampling::HalfPixel, (7, 21), 1.0),
        ("resize_half_pixel_small", "image", "gsz_tf2s", Sampling::HalfPixel, (4, 4), 1.0),
    ] {
        file.check_resize(name, input, gradient, sampling, size, scale);
    }
    file.finish();
}

/// Standardised with moments that are differentiated too, averaged over both features and the batch.
#[test]
fn uflow_normalisation() {
    let Some(mut file) = File::open("tensorflow") else { return };
    let features = ["in1", "in2"].map(|input| file.value(&format!("cost_volume/{input}")));
    let (channels, extent, isa) = (features[0].channels, features[0].extent, Isa::detect());
    let Extent { n, h, w } = extent;
    let both = Stream::new(SEED, "ops/gnorm").tensor(n * 2 * channels * h * w, 1.0, 0.0);
    let gradients = [0, 1].map(|which| {
        let images = both.chunks_exact(2 * channels * h * w);
        let half: Vec<f32> = images.flat_map(|i| i[which * channels * h * w..][..channels * h * w].to_vec()).collect();
        Value::planar(&[n, channels, h, w], &half)
    });
    let mut values = Value::planar(&[n, 2, 1, 1], &vec![0.0; 2 * n]);
    let mut d_moments = values.like();
    let mut d = features.each_ref().map(Value::like);
    features[0].read(|a| features[1].read(|b| values.write(|out| moments(isa, [a, b], channels, true, out))));
    for ((x, g), d) in features.iter().zip(&gradients).zip(&mut d) {
        let [x, m, g] = [x, &values, g].map(|v| v.buffers.iter().map(|b| &b[..]).collect::<Vec<_>>());
        let x = Blocks { extent, planes: &x };
        let m = Blocks { extent: values.extent, planes: &m };
        let g = Blocks { extent, planes: &g };
        d.write(|d| {
            d_moments.write(|d_moments| {
                let wanted = (Some((Update::Overwrite, d)), Some((Update::Add, d_moments)));
                standardise_gradient(isa, x, m, 1e-16, g, wanted.0, wanted.1);
            });
        });
    }
    for (i, (x, d)) in features.iter().zip(&mut d).enumerate() {
        x.read(|x| {
            d_moments.read(|g| d.write(|d| moments_gradient(isa, x, channels, true, g, Update::Add, d)));
        });
        file.check_gradient(d, &format!("uflow_normalize/grad{}", i + 1));
    }
    file.finish();
}

#[test]
fn caffe() {
    let Some(mut file) = File::open("caffe_flow_warp") else { return };
    file.check_warp("", "flow", Border::Caffe, UV, AtInteger::Right);
    file.finish();
}
