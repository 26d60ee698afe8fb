//! Backward warping in standard operators, with the border rule of each reference exact.

use super::emit::Emit;
use super::proto::{Attribute, kind};
use crate::graph::{FlowOrder, Warp, WarpBorder};

/// Names of what a warp needs to know about its image's size.
pub(super) struct Geometry {
    /// Columns 0, 1, .. as `f32`, `[W]`.
    pub columns: String,
    /// Rows as `f32`, `[H, 1]`.
    pub rows: String,
    /// `W - 1` and `H - 1` as `f32` scalars.
    pub last: [String; 2],
    /// `W` as an `i64` list of one.
    pub width: String,
    /// First pixel of each image of the batch in a list of all pixels, `i64`, broadcast over `[N, H, W]`.
    pub images: String,
    /// Channels of the image.
    pub channels: usize,
}

/// One coordinate of the sampling points, with what limits it.
struct Axis {
    /// `[N, H, W]`, `f32`
    at: String,
    last: String,
}

/// Column and row of every sampling point.
fn points(emit: &mut Emit<'_>, warp: Warp, flow: &str, geometry: &Geometry) -> [Axis; 2] {
    let parts = emit.split(flow, 2, 1);
    let (u, v, sign) = match warp.order {
        FlowOrder::Uv => (&parts[0], &parts[1], 1.0),
        FlowOrder::Vu => (&parts[1], &parts[0], 1.0),
        FlowOrder::NegatedVu => (&parts[1], &parts[0], -1.0),
    };
    let grids = [&geometry.columns, &geometry.rows];
    let mut axis = |part: &str, i: usize| {
        let part = emit.squeeze(part, 1);
        let scale = sign * warp.scale;
        let part = if scale == 1.0 {
            part
        } else {
            let scale = emit.float(scale);
            emit.mul(&part, &scale)
        };
        Axis { at: emit.add(&part, grids[i]), last: geometry.last[i].clone() }
    };
    [axis(u, 0), axis(v, 1)]
}

/// Through `GridSample`; false (and nothing written) for a border that it cannot express.
pub(super) fn grid_sample(emit: &mut Emit<'_>, warp: Warp, [image, flow]: [&str; 2], geometry: &Geometry) -> bool {
    let padding = match warp.border {
        WarpBorder::Replicate | WarpBorder::Caffe => "border",
        WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } => "zeros",
        WarpBorder::Extrapolate => return false,
    };
    let axes = points(emit, warp, flow, geometry);
    let mask = match warp.border {
        WarpBorder::ZerosMasked { threshold } => Some(inside(emit, &axes, threshold)),
        WarpBorder::Caffe => Some(within(emit, &axes)),
        _ => None,
    };
    // Of `align_corners`: -1 and 1 are the centres of the outermost pixels.
    let (one, two) = (emit.float(1.0), emit.float(2.0));
    let mut normalised = axes.iter().map(|axis| {
        let span = emit.op("Max", &[&axis.last, &one], vec![]);
        let unit = emit.op("Div", &[&axis.at, &span], vec![]);
        let twice = emit.mul(&unit, &two);
        let centred = emit.sub(&twice, &one);
        unsqueeze(emit, &centred, 3)
    });
    let (x, y) = (normalised.next().unwrap_or_default(), normalised.next().unwrap_or_default());
    drop(normalised);
    let grid = emit.concat(&[&x, &y], 3);
    let mode = if emit.opset >= 20 { "linear" } else { "bilinear" };
    let attributes = vec![
        Attribute::word("mode", mode),
        Attribute::word("padding_mode", padding),
        Attribute::int("align_corners", 1),
    ];
    let sampled = emit.op("GridSample", &[image, &grid], attributes);
    if let Some(mask) = mask {
        let mask = unsqueeze(emit, &mask, 1);
        emit.mul(&sampled, &mask);
    }
    true
}

/// Through four `Gather`s from the list of all pixels.
pub(super) fn gather(emit: &mut Emit<'_>, warp: Warp, [image, flow]: [&str; 2], geometry: &Geometry) {
    let axes = points(emit, warp, flow, geometry);
    let mask = match warp.border {
        WarpBorder::ZerosMasked { threshold } => Some(inside(emit, &axes, threshold)),
        WarpBorder::Caffe => Some(within(emit, &axes)),
        _ => None,
    };
    let [x, y] = axes.each_ref().map(|axis| neighbours(emit, warp.border, axis));

    let last = emit.transpose(image, &[0, 2, 3, 1]);
    let list = emit.ints(&[-1, geometry.channels as i64]);
    let pixels = emit.op("Reshape", &[&last, &list], vec![]);
    let lines = y.each_ref().map(|row| {
        let first = emit.mul(&row.index, &geometry.width);
        emit.add(&first, &geometry.images)
    });
    let mut sum: Option<String> = None;
    for (line, row) in lines.iter().zip(&y) {
        for column in &x {
            let index = emit.add(line, &column.index);
            let taken = emit.op("Gather", &[&pixels, &index], vec![Attribute::int("axis", 0)]); // [N, H, W, C]
            let weight = emit.mul(&row.weight, &column.weight);
            let weight = unsqueeze(emit, &weight, 3);
            let part = emit.mul(&taken, &weight);
            sum = Some(match sum {
                None => part,
                Some(sum) => emit.add(&sum, &part),
            });
        }
    }
    let mut sum = sum.unwrap_or_default();
    if let Some(mask) = mask {
        let mask = unsqueeze(emit, &mask, 3);
        sum = emit.mul(&sum, &mask);
    }
    emit.transpose(&sum, &[0, 3, 1, 2]);
}

/// One of the two neighbours along an axis.
struct Neighbour {
    /// `i64`, within the image.
    index: String,
    /// `f32`
    weight: String,
}

fn neighbours(emit: &mut Emit<'_>, border: WarpBorder, axis: &Axis) -> [Neighbour; 2] {
    let (zero, one) = (emit.float(0.0), emit.float(1.0));
    let at = match border {
        // A point beyond the border is the border's: nothing is left to weigh.
        WarpBorder::Replicate | WarpBorder::Caffe => emit.clip(&axis.at, &zero, &axis.last),
        _ => axis.at.clone(),
    };
    let low = match border {
        WarpBorder::Extrapolate => {
            let clamped = emit.clip(&at, &zero, &axis.last);
            emit.op("Floor", &[&clamped], vec![])
        }
        _ => emit.op("Floor", &[&at], vec![]),
    };
    let high = emit.add(&low, &one);
    let high_weight = emit.sub(&at, &low);
    let low_weight = emit.sub(&one, &high_weight);
    [(low, low_weight), (high, high_weight)].map(|(position, weight)| {
        let clamped = emit.clip(&position, &zero, &axis.last);
        let weight = match border {
            // Outside: where clamping changed it.
            WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } => {
                let same = emit.op("Equal", &[&clamped, &position], vec![]);
                let same = emit.cast(&same, kind::FLOAT);
                emit.mul(&weight, &same)
            }
            _ => weight,
        };
        Neighbour { index: emit.cast(&clamped, kind::INT64), weight }
    })
}

/// 1 where the neighbours inside the image weigh at least `threshold` together, `[N, H, W]`.
fn inside(emit: &mut Emit<'_>, axes: &[Axis; 2], threshold: f32) -> String {
    let (zero, one) = (emit.float(0.0), emit.float(1.0));
    let weights = axes.each_ref().map(|axis| {
        // 1 inside, falling to 0 one pixel outside.
        let before = emit.add(&axis.at, &one);
        let end = emit.add(&axis.last, &one);
        let behind = emit.sub(&end, &axis.at);
        let nearer = emit.op("Min", &[&before, &behind], vec![]);
        emit.clip(&nearer, &zero, &one)
    });
    let weight = emit.mul(&weights[0], &weights[1]);
    let threshold = emit.float(threshold);
    let outside = emit.op("Less", &[&weight, &threshold], vec![]);
    let inside = emit.op("Not", &[&outside], vec![]);
    emit.cast(&inside, kind::FLOAT)
}

/// 1 where the sampling point lies in `[0, W) x [0, H)`, `[N, H, W]`.
fn within(emit: &mut Emit<'_>, axes: &[Axis; 2]) -> String {
    let (zero, one) = (emit.float(0.0), emit.float(1.0));
    let [x, y] = axes.each_ref().map(|axis| {
        let low = emit.op("Less", &[&axis.at, &zero], vec![]);
        let low = emit.op("Not", &[&low], vec![]);
        let size = emit.add(&axis.last, &one);
        let high = emit.op("Less", &[&axis.at, &size], vec![]);
        emit.op("And", &[&low, &high], vec![])
    });
    let both = emit.op("And", &[&x, &y], vec![]);
    emit.cast(&both, kind::FLOAT)
}

fn unsqueeze(emit: &mut Emit<'_>, x: &str, axis: i64) -> String {
    if emit.opset >= 13 {
        let axes = emit.ints(&[axis]);
        emit.op("Unsqueeze", &[x, &axes], vec![])
    } else {
        emit.op("Unsqueeze", &[x], vec![Attribute::ints("axes", &[axis])])
    }
}
