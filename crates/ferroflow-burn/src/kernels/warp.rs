//! Backward warping with every border rule, and its gradients.

use burn_cubecl::tensor::CubeTensor;
use cubecl::{features::AtomicUsage, ir::Type, prelude::*};
use ferroflow_net::graph::{FlowOrder, OnPixel, Warp, WarpBorder};

use super::{cast_back, dims, empty, plain, units, zeros};

/// By (u, v) in pixels; what lies outside is 0, and what leaves the image is lost.
pub(crate) const ALONG: Warp =
    Warp { border: WarpBorder::Zeros, order: FlowOrder::Uv, scale: 1.0, on_pixel: OnPixel::Right };

/// How the gradient with respect to the image is summed: pixels that lie side by side may sample the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scatter {
    /// By atomic sums, in no fixed order.
    Atomic,
    /// Plane by plane, one unit for each, in a fixed order: for devices without atomic sums.
    Planes,
}

impl Scatter {
    /// The faster of those that the device has.
    pub(crate) fn of(client: &Client) -> Self {
        let usage = client.properties().atomic_type_usage(Type::atomic(f32::elem_type_native()));
        if usage.contains(AtomicUsage::Add) { Self::Atomic } else { Self::Planes }
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Rules {
    border: Border,
    on_pixel: OnPixel,
    /// The flow's first channel is along the rows.
    swapped: bool,
    negated: bool,
}

/// [`WarpBorder`] without its number.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Border {
    Replicate,
    Zeros,
    ZerosMasked,
    Extrapolate,
    Caffe,
}

impl Rules {
    pub(super) fn of(warp: Warp) -> Self {
        let border = match warp.border {
            WarpBorder::Replicate => Border::Replicate,
            WarpBorder::Zeros => Border::Zeros,
            WarpBorder::ZerosMasked { .. } => Border::ZerosMasked,
            WarpBorder::Extrapolate => Border::Extrapolate,
            WarpBorder::Caffe => Border::Caffe,
        };
        let swapped = warp.order != FlowOrder::Uv;
        let negated = warp.order == FlowOrder::NegatedVu;
        Self { border, on_pixel: warp.on_pixel, swapped, negated }
    }
}

/// `image` sampled at `p + flow(p)`, bilinear.
pub(crate) fn warp(image: CubeTensor, flow: CubeTensor, warp: Warp) -> CubeTensor {
    let dtype = image.dtype;
    let (image, flow) = (plain(image), plain(flow));
    let shape = dims(&image);
    let output = empty(&image, shape);
    let client = output.client.clone();
    let (count, dim) = units(&client, output.meta.num_elements());
    forward::launch(
        &client,
        count,
        dim,
        image.into_tensor_arg(),
        flow.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        planes(shape, warp),
        Rules::of(warp),
    );
    cast_back(output, dtype)
}

/// The gradient with respect to the flow.
pub(crate) fn warp_flow_backward(image: CubeTensor, flow: CubeTensor, gradient: CubeTensor, warp: Warp) -> CubeTensor {
    let dtype = flow.dtype;
    let (image, flow, gradient) = (plain(image), plain(flow), plain(gradient));
    let shape @ [n, _, h, w] = dims(&image);
    let client = image.client.clone();
    let to_flow = empty(&flow, [n, 2, h, w]);
    let (count, dim) = units(&client, n * h * w);
    flow_gradient::launch(
        &client,
        count,
        dim,
        image.into_tensor_arg(),
        flow.into_tensor_arg(),
        gradient.into_tensor_arg(),
        to_flow.clone().into_tensor_arg(),
        planes(shape, warp),
        Rules::of(warp),
    );
    cast_back(to_flow, dtype)
}

/// The gradient with respect to the image.
pub(crate) fn warp_image_backward(flow: CubeTensor, gradient: CubeTensor, warp: Warp, scatter: Scatter) -> CubeTensor {
    let dtype = gradient.dtype;
    let (flow, gradient) = (plain(flow), plain(gradient));
    let shape @ [n, channels, ..] = dims(&gradient);
    let client = gradient.client.clone();
    let to_image = zeros(&gradient, shape);
    let launch = match scatter {
        Scatter::Atomic => image_gradient_atomic::launch,
        Scatter::Planes => image_gradient_by_planes::launch,
    };
    let (count, dim) = match scatter {
        Scatter::Atomic => units(&client, gradient.meta.num_elements()),
        Scatter::Planes => units(&client, n * channels),
    };
    launch(
        &client,
        count,
        dim,
        flow.into_tensor_arg(),
        gradient.into_tensor_arg(),
        to_image.clone().into_tensor_arg(),
        planes(shape, warp),
        Rules::of(warp),
    );
    cast_back(to_image, dtype)
}

/// The planes of an image, and what a warp multiplies and compares with.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Planes {
    pub(super) channels: u32,
    pub(super) height: u32,
    pub(super) width: u32,
    /// Factor of the flow.
    scale: f32,
    /// Of a masked border.
    threshold: f32,
}

/// Of an image of this shape.
pub(super) fn planes([_, channels, height, width]: [usize; 4], warp: Warp) -> PlanesLaunch {
    let threshold = if let WarpBorder::ZerosMasked { threshold } = warp.border { threshold } else { 0.0 };
    PlanesLaunch::new(channels as u32, height as u32, width as u32, warp.scale, threshold)
}

#[cube]
pub(super) fn pixels_of(planes: &Planes) -> usize {
    planes.height as usize * planes.width as usize
}

/// Along one axis: the neighbour before a point, how far beyond it the point lies, and the derivative of that.
#[derive(CubeType)]
struct Neighbour {
    before: f32,
    beyond: f32,
    slope: f32,
}

/// What a pixel reads: four pixels of a plane, the share of each, and whether it counts at all.
#[derive(CubeType)]
pub(super) struct Sample {
    across: Neighbour,
    down: Neighbour,
    pub(super) at_00: usize,
    pub(super) at_10: usize,
    pub(super) at_01: usize,
    pub(super) at_11: usize,
    pub(super) share_00: f32,
    pub(super) share_10: f32,
    pub(super) share_01: f32,
    pub(super) share_11: f32,
    counts_00: bool,
    counts_10: bool,
    counts_01: bool,
    counts_11: bool,
}

#[cube]
fn neighbour(point: f32, last: f32, #[comptime] rules: Rules) -> Neighbour {
    let mut before = point.floor();
    let whole = point == before;
    let mut slope = 1.0f32;
    if comptime!(rules.border == Border::Extrapolate) {
        before = min(max(point, 0.0), last).floor();
    }
    if comptime!(rules.on_pixel == OnPixel::Zero) {
        slope = select(whole, 0.0, 1.0);
    }
    if comptime!(rules.on_pixel == OnPixel::ZeroButLast) {
        let on_last = point == last;
        before = select(on_last, last - 1.0, before);
        slope = select(whole && !on_last, 0.0, 1.0);
    }
    Neighbour { before, beyond: point - before, slope }
}

/// A row or column of the image. Clamped once more as a whole number: what a flow that is not a number becomes as one differs
/// from device to device.
#[cube]
pub(super) fn place(at: f32, last: f32) -> i32 {
    min(max(i32::cast_from(min(max(at, 0.0), last)), 0), i32::cast_from(last))
}

#[cube]
pub(super) fn lies_in(at: f32, last: f32) -> bool {
    at >= 0.0 && at <= last
}

/// Where pixel `pixel` of image `image` reads.
#[cube]
pub(super) fn sample(
    flow: &Tensor<f32>,
    image: usize,
    pixel: usize,
    planes: &Planes,
    #[comptime] rules: Rules,
) -> Sample {
    let (height, width) = (planes.height as usize, planes.width as usize);
    let pixels = pixels_of(planes);
    let first = flow[image * 2 * pixels + pixel] * planes.scale;
    let second = flow[(image * 2 + 1) * pixels + pixel] * planes.scale;
    let mut right = first;
    let mut below = second;
    if comptime!(rules.swapped) {
        right = second;
        below = first;
    }
    if comptime!(rules.negated) {
        right = -right;
        below = -below;
    }
    let x = f32::cast_from((pixel % width) as u32) + right;
    let y = f32::cast_from((pixel / width) as u32) + below;
    let (last_x, last_y) = (f32::cast_from((width - 1) as u32), f32::cast_from((height - 1) as u32));
    let across = neighbour(x, last_x, rules);
    let down = neighbour(y, last_y, rules);
    let (x0, y0) = (across.before, down.before);
    let (x1, y1) = (x0 + 1.0, y0 + 1.0);
    let (a, b) = (across.beyond, down.beyond);

    let share_00 = (1.0 - a) * (1.0 - b);
    let share_10 = a * (1.0 - b);
    let share_01 = (1.0 - a) * b;
    let share_11 = a * b;
    let mut counts_00 = true.runtime();
    let mut counts_10 = true.runtime();
    let mut counts_01 = true.runtime();
    let mut counts_11 = true.runtime();
    if comptime!(rules.border == Border::Zeros || rules.border == Border::ZerosMasked) {
        let (left_in, right_in) = (lies_in(x0, last_x), lies_in(x1, last_x));
        let (top_in, bottom_in) = (lies_in(y0, last_y), lies_in(y1, last_y));
        counts_00 = left_in && top_in;
        counts_10 = right_in && top_in;
        counts_01 = left_in && bottom_in;
        counts_11 = right_in && bottom_in;
        if comptime!(rules.border == Border::ZerosMasked) {
            let sum = select(counts_00, share_00, 0.0)
                + select(counts_10, share_10, 0.0)
                + select(counts_01, share_01, 0.0)
                + select(counts_11, share_11, 0.0);
            let enough = sum >= planes.threshold;
            counts_00 = counts_00 && enough;
            counts_10 = counts_10 && enough;
            counts_01 = counts_01 && enough;
            counts_11 = counts_11 && enough;
        }
    }
    if comptime!(rules.border == Border::Caffe) {
        let inside = x >= 0.0 && x < last_x + 1.0 && y >= 0.0 && y < last_y + 1.0;
        counts_00 = inside;
        counts_10 = inside;
        counts_01 = inside;
        counts_11 = inside;
    }

    let (left, right) = (place(x0, last_x) as usize, place(x1, last_x) as usize);
    let (top, bottom) = (place(y0, last_y) as usize * width, place(y1, last_y) as usize * width);
    Sample {
        across,
        down,
        at_00: top + left,
        at_10: top + right,
        at_01: bottom + left,
        at_11: bottom + right,
        share_00: select(counts_00, share_00, 0.0),
        share_10: select(counts_10, share_10, 0.0),
        share_01: select(counts_01, share_01, 0.0),
        share_11: select(counts_11, share_11, 0.0),
        counts_00,
        counts_10,
        counts_01,
        counts_11,
    }
}

/// What is sampled of the plane that begins at `first`.
#[cube]
pub(super) fn mixed(image: &Tensor<f32>, first: usize, s: &Sample) -> f32 {
    s.share_00 * image[first + s.at_00]
        + s.share_10 * image[first + s.at_10]
        + s.share_01 * image[first + s.at_01]
        + s.share_11 * image[first + s.at_11]
}

#[cube(launch)]
fn forward(
    image: &Tensor<f32>,
    flow: &Tensor<f32>,
    output: &mut Tensor<f32>,
    planes: Planes,
    #[comptime] rules: Rules,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let pixels = pixels_of(&planes);
    let pixel = ABSOLUTE_POS % pixels;
    let plane = ABSOLUTE_POS / pixels;
    let s = sample(flow, plane / planes.channels as usize, pixel, &planes, rules);
    output[ABSOLUTE_POS] = mixed(image, plane * pixels, &s);
}

/// One unit for each pixel, which sums over the channels.
#[cube(launch)]
fn flow_gradient(
    image: &Tensor<f32>,
    flow: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    planes: Planes,
    #[comptime] rules: Rules,
) {
    let channels = planes.channels as usize;
    let pixels = pixels_of(&planes);
    if ABSOLUTE_POS >= found.len() / 2 {
        terminate!();
    }
    let pixel = ABSOLUTE_POS % pixels;
    let n = ABSOLUTE_POS / pixels;
    let s = sample(flow, n, pixel, &planes, rules);
    let (a, b) = (s.across.beyond, s.down.beyond);
    let mut across = 0.0f32;
    let mut down = 0.0f32;
    for c in 0..channels {
        let first = (n * channels + c) * pixels;
        let slope = gradient[first + pixel];
        let i00 = select(s.counts_00, image[first + s.at_00], 0.0);
        let i10 = select(s.counts_10, image[first + s.at_10], 0.0);
        let i01 = select(s.counts_01, image[first + s.at_01], 0.0);
        let i11 = select(s.counts_11, image[first + s.at_11], 0.0);
        across += slope * ((1.0 - b) * (i10 - i00) + b * (i11 - i01));
        down += slope * ((1.0 - a) * (i01 - i00) + a * (i11 - i10));
    }
    let mut factor = planes.scale;
    if comptime!(rules.negated) {
        factor = -planes.scale;
    }
    let across = across * s.across.slope * factor;
    let down = down * s.down.slope * factor;
    let at = n * 2 * pixels + pixel;
    if comptime!(rules.swapped) {
        found[at] = down;
        found[at + pixels] = across;
    } else {
        found[at] = across;
        found[at + pixels] = down;
    }
}

#[cube(launch)]
fn image_gradient_atomic(
    flow: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<Atomic<f32>>,
    planes: Planes,
    #[comptime] rules: Rules,
) {
    if ABSOLUTE_POS >= gradient.len() {
        terminate!();
    }
    let pixels = pixels_of(&planes);
    let pixel = ABSOLUTE_POS % pixels;
    let plane = ABSOLUTE_POS / pixels;
    let s = sample(flow, plane / planes.channels as usize, pixel, &planes, rules);
    let first = plane * pixels;
    let slope = gradient[ABSOLUTE_POS];
    if s.share_00 != 0.0 {
        found[first + s.at_00].fetch_add(slope * s.share_00);
    }
    if s.share_10 != 0.0 {
        found[first + s.at_10].fetch_add(slope * s.share_10);
    }
    if s.share_01 != 0.0 {
        found[first + s.at_01].fetch_add(slope * s.share_01);
    }
    if s.share_11 != 0.0 {
        found[first + s.at_11].fetch_add(slope * s.share_11);
    }
}

#[cube(launch)]
fn image_gradient_by_planes(
    flow: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    planes: Planes,
    #[comptime] rules: Rules,
) {
    let channels = planes.channels as usize;
    let pixels = pixels_of(&planes);
    let plane = ABSOLUTE_POS;
    if plane >= found.len() / pixels {
        terminate!();
    }
    let first = plane * pixels;
    for pixel in 0..pixels {
        let s = sample(flow, plane / channels, pixel, &planes, rules);
        let slope = gradient[first + pixel];
        found[first + s.at_00] += slope * s.share_00;
        found[first + s.at_10] += slope * s.share_10;
        found[first + s.at_01] += slope * s.share_01;
        found[first + s.at_11] += slope * s.share_11;
    }
}
