//! RAFT's lookup in standard operators, of any size.
//!
//! The products of all pairs of pixels are matrices here, one for each level, which all lookups in the same maps share. What a
//! lookup reads of them are elements by index, so that nothing depends on how an operator set samples.

use super::emit::Emit;
use super::proto::{Attribute, kind};
use crate::graph::Lookup;

/// A bound of a slice that means "to the end".
const END: i64 = i32::MAX as i64;

/// The products with one level of the second map.
#[derive(Clone)]
pub(super) struct Level {
    /// `[N, H W, h w]`; `None` for a level without a pixel.
    products: Option<String>,
    /// Columns of the level, an `i64` list of one.
    width: String,
    /// The last column and the last row, `f32` scalars.
    last: [String; 2],
}

/// A size along an axis: as a list of one, and as a number where it is known.
#[derive(Clone)]
pub(super) struct Side {
    pub name: String,
    pub known: Option<usize>,
}

/// The products of all pixels of `first` with those of each level of `second`, of `channels` channels and these sides.
pub(super) fn levels(
    emit: &mut Emit<'_>,
    lookup: Lookup,
    [first, second]: [&str; 2],
    channels: usize,
    [height, width]: [Side; 2],
) -> Vec<Level> {
    let flat = emit.ints(&[0, 0, -1]);
    let scale = emit.float(1.0 / (channels as f32).sqrt());
    let scaled = emit.mul(first, &scale);
    let pixels = emit.op("Reshape", &[&scaled, &flat], vec![]);
    let pixels = emit.transpose(&pixels, &[0, 2, 1]); // [N, H W, C]
    let mut map = second.to_string();
    let mut levels = Vec::with_capacity(lookup.levels);
    for level in 0..lookup.levels {
        let mut side = |side: &Side| match side.known {
            Some(size) => {
                let size = size >> level;
                (emit.ints(&[size as i64]), emit.float(size as f32 - 1.0), size == 0)
            }
            None => {
                let divisor = emit.ints(&[1 << level]);
                let size = emit.op("Div", &[&side.name, &divisor], vec![]);
                let scalar = emit.squeeze(&size, 0);
                let (scalar, one) = (emit.cast(&scalar, kind::FLOAT), emit.float(1.0));
                let last = emit.sub(&scalar, &one);
                (size, last, false)
            }
        };
        let ((_, last_row, no_row), (width, last_column, no_column)) = (side(&height), side(&width));
        let is_empty = no_row || no_column;
        if level > 0 && !is_empty {
            let window = |name: &str| Attribute::ints(name, &[2, 2]);
            map = emit.op("AveragePool", &[&map], vec![window("kernel_shape"), window("strides")]);
        }
        let products = (!is_empty).then(|| {
            let map = emit.op("Reshape", &[&map, &flat], vec![]);
            emit.op("MatMul", &[&pixels, &map], vec![])
        });
        levels.push(Level { products, width, last: [last_column, last_row] });
    }
    levels
}

/// Where `flow` points: column and row of every pixel, `[N, H, W]` each, from the columns `[W]` and rows `[H, 1]`.
fn places(emit: &mut Emit<'_>, flow: &str, grids: [&str; 2]) -> [String; 2] {
    let parts = emit.split(flow, 2, 1);
    [0, 1].map(|axis| {
        let part = emit.squeeze(&parts[axis], 1);
        emit.add(&part, grids[axis])
    })
}

/// `[N, levels * side * side, H, W]`, of `sides` H and W.
pub(super) fn lower(
    emit: &mut Emit<'_>,
    lookup: Lookup,
    levels: &[Level],
    flow: &str,
    grids: [&str; 2],
    sides: [&str; 2],
) {
    let (side, wide) = (lookup.side() as i64, lookup.side() as i64 + 1);
    let each = emit.ints(&[0, -1, 1, 1]);
    let places = places(emit, flow, grids).map(|place| emit.op("Reshape", &[&place, &each], vec![])); // [N, H W, 1, 1]
    let offsets: Vec<f32> = (0..wide).map(|i| (i - lookup.radius as i64) as f32).collect();
    // Along x they are columns of the window, along y its rows.
    let shapes = [[1, 1, 1, wide], [1, 1, wide, 1]];
    let offsets = shapes.map(|shape| emit.floats(&offsets, &shape));
    let (zero, flat) = (emit.float(0.0), emit.ints(&[0, 0, -1]));
    let window = emit.ints(&[0, 0, wide, wide]);
    let mut found = Vec::with_capacity(levels.len());
    for (l, level) in levels.iter().enumerate() {
        let scale = emit.float(0.5f32.powi(l as i32));
        let axes = [0, 1].map(|axis| {
            let place = if l == 0 { places[axis].clone() } else { emit.mul(&places[axis], &scale) };
            let before = emit.op("Floor", &[&place], vec![]);
            let fraction = emit.sub(&place, &before);
            let neighbours = emit.add(&before, &offsets[axis]);
            (fraction, neighbours)
        });
        let products = match &level.products {
            Some(products) => {
                let [columns, rows] = [0, 1].map(|axis| {
                    let clamped = emit.clip(&axes[axis].1, &zero, &level.last[axis]);
                    let inside = emit.op("Equal", &[&clamped, &axes[axis].1], vec![]);
                    (emit.cast(&clamped, kind::INT64), emit.cast(&inside, kind::FLOAT))
                });
                let lines = emit.mul(&rows.0, &level.width);
                let index = emit.add(&lines, &columns.0); // [N, H W, wide, wide]
                let index = emit.op("Reshape", &[&index, &flat], vec![]);
                let taken = emit.op("GatherElements", &[products, &index], vec![Attribute::int("axis", 2)]);
                let taken = emit.op("Reshape", &[&taken, &window], vec![]);
                let taken = emit.mul(&taken, &columns.1);
                emit.mul(&taken, &rows.1)
            }
            // Nothing is inside: zeros of the same shape.
            None => {
                let both = emit.add(&axes[0].1, &axes[1].1);
                emit.mul(&both, &zero)
            }
        };
        let mut mix = |values: &str, axis: i64, fraction: &str| {
            let near = emit.slice(values, &[axis], &[0], &[side], &[1]);
            let far = emit.slice(values, &[axis], &[1], &[END], &[1]);
            let rise = emit.sub(&far, &near);
            let part = emit.mul(&rise, fraction);
            emit.add(&near, &part)
        };
        let along_x = mix(&products, 3, &axes[0].0);
        let along_y = mix(&along_x, 2, &axes[1].0); // [N, H W, y, x]
        found.push(emit.transpose(&along_y, &[0, 3, 2, 1]));
    }
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let all = emit.concat(&found, 1); // [N, levels * x, y, H W]
    let channels = emit.ints(&[0, lookup.channels() as i64]);
    let shape = emit.concat(&[&channels, sides[0], sides[1]], 0);
    emit.op("Reshape", &[&all, &shape], vec![]);
}
