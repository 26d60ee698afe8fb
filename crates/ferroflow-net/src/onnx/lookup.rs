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
    /// Columns of a row of the products, an `i64` list of one.
    width: String,
    /// The last column and the last row, `f32` scalars.
    last: [String; 2],
    /// 1, or 0 if the level has no pixel; `None` where that is known.
    exists: Option<String>,
}

/// A size along an axis: as a list of one, and as a number where it is known.
#[derive(Clone)]
pub(super) struct Side {
    pub name: String,
    pub known: Option<usize>,
}

/// What is computed of a side of open size, on one level.
struct OpenSide {
    /// Of the products: as many as padding makes them, `i64`.
    stored: String,
    last: String,
    exists: String,
}

impl OpenSide {
    fn new(emit: &mut Emit<'_>, side: &str, level: usize) -> Self {
        let (divisor, round_up) = (emit.ints(&[1 << level]), emit.ints(&[(1 << level) - 1]));
        let size = emit.op("Div", &[side, &divisor], vec![]);
        let above = emit.add(side, &round_up);
        let stored = emit.op("Div", &[&above, &divisor], vec![]);
        let scalar = emit.squeeze(&size, 0);
        let scalar = emit.cast(&scalar, kind::FLOAT);
        let (zero, one) = (emit.float(0.0), emit.float(1.0));
        let last = emit.sub(&scalar, &one);
        let last = emit.op("Max", &[&last, &zero], vec![]);
        Self { stored, last, exists: emit.clip(&scalar, &zero, &one) }
    }
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
        let known = height.known.zip(width.known).map(|(height, width)| lookup.level_size(level, [height, width]));
        if known.is_some_and(|sides| sides.contains(&0)) {
            let nothing = emit.float(0.0);
            levels.push(Level { products: None, width: String::new(), last: [nothing.clone(), nothing], exists: None });
            continue;
        }
        if level > 0 {
            if known.is_none() {
                // So that something is there to average where only one row or column is left: it lies outside all the same.
                let pads = emit.ints(&[0, 0, 0, 0, 0, 0, 1, 1]);
                map = emit.op("Pad", &[&map, &pads], vec![]);
            }
            let window = |name: &str| Attribute::ints(name, &[2, 2]);
            map = emit.op("AveragePool", &[&map], vec![window("kernel_shape"), window("strides")]);
        }
        let columns = emit.op("Reshape", &[&map, &flat], vec![]);
        let products = Some(emit.op("MatMul", &[&pixels, &columns], vec![]));
        levels.push(match known {
            Some([height, width]) => {
                let last = [width, height].map(|side| emit.float(side as f32 - 1.0));
                Level { products, width: emit.ints(&[width as i64]), last, exists: None }
            }
            None => {
                let [rows, columns] = [&height, &width].map(|side| OpenSide::new(emit, &side.name, level));
                let exists = emit.mul(&rows.exists, &columns.exists);
                Level { products, width: columns.stored, last: [columns.last, rows.last], exists: Some(exists) }
            }
        });
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
                let taken = emit.mul(&taken, &rows.1);
                level.exists.as_ref().map_or(taken.clone(), |exists| emit.mul(&taken, exists))
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
