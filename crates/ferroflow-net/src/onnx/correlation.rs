//! The cost volume in standard operators, of any size.

use super::CorrelationForm;
use super::emit::Emit;
use super::proto::Attribute;
use crate::graph::Correlation;

/// A bound of a slice that means "to the end".
const END: i64 = i32::MAX as i64;

/// `f1`, `f2`: `[N, C, H, W]` -> `[N, D * D, H, W]`. `width` names their width, an `i64` list of one; only the matrix form
/// reads it.
pub(super) fn lower(
    emit: &mut Emit<'_>,
    form: CorrelationForm,
    c: Correlation,
    [f1, f2]: [&str; 2],
    channels: usize,
    width: &str,
) {
    // What the stride reaches: displacements lie evenly around 0.
    let max = (c.max_displacement - c.max_displacement % c.stride) as i64;
    let pads = emit.ints(&[0, 0, max, max, 0, 0, max, max]);
    let padded = emit.op("Pad", &[f2, &pads], vec![]);
    // Rows and columns of the padded map that meet displacement `d`: size-independent, as the end counts from the back.
    let from_to = |d: i64| (d, if d == 2 * max { END } else { d - 2 * max });
    let displacements: Vec<i64> = (0..=2 * max).step_by(c.stride).collect();
    match form {
        CorrelationForm::Slices => {
            let mut maps = Vec::with_capacity(displacements.len() * displacements.len());
            for &dy in &displacements {
                let (from, to) = from_to(dy);
                let rows = emit.slice(&padded, &[2], &[from], &[to], &[1]);
                for &dx in &displacements {
                    let (from, to) = from_to(dx);
                    let shifted = emit.slice(&rows, &[3], &[from], &[to], &[1]);
                    let product = emit.mul(f1, &shifted);
                    maps.push(emit.reduce("ReduceMean", &product, &[1]));
                }
            }
            let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
            emit.concat(&maps, 1);
        }
        CorrelationForm::MatMul => {
            // For one dy, the product over channels of every pixel of a row with every pixel of the shifted row is a
            // matrix [W, W + 2 max]; what is wanted of it is a band along the diagonal. With one element more in each row
            // (W + 2 max + 1 instead of W + 2 max) the diagonals become columns.
            let mean = emit.float(1.0 / channels as f32);
            let scaled = emit.mul(f1, &mean);
            let rows1 = emit.transpose(&scaled, &[0, 2, 3, 1]); // [N, H, W, C]
            let rows2 = emit.transpose(&padded, &[0, 2, 1, 3]); // [N, H + 2 max, C, W + 2 max]
            let flat = emit.ints(&[0, 0, -1]);
            let nothing = emit.ints(&[0, 0, 0, 0, 0]);
            let tail = emit.concat(&[&nothing, width], 0);
            let (two, one) = (emit.ints(&[2 * max]), emit.ints(&[1]));
            let wide = emit.add(width, &two);
            let wider = emit.add(&wide, &one);
            let keep = emit.ints(&[0, 0]);
            let skewed = emit.concat(&[&keep, width, &wider], 0);
            let mut bands = Vec::with_capacity(displacements.len());
            for &dy in &displacements {
                let (from, to) = from_to(dy);
                let shifted = emit.slice(&rows2, &[1], &[from], &[to], &[1]);
                let products = emit.op("MatMul", &[&rows1, &shifted], vec![]); // [N, H, W, W + 2 max]
                let line = emit.op("Reshape", &[&products, &flat], vec![]);
                let longer = emit.op("Pad", &[&line, &tail], vec![]);
                let skewed = emit.op("Reshape", &[&longer, &skewed], vec![]);
                bands.push(emit.slice(&skewed, &[3], &[0], &[2 * max + 1], &[c.stride as i64]));
            }
            let bands: Vec<&str> = bands.iter().map(String::as_str).collect();
            let all = emit.concat(&bands, 3);
            emit.op("Transpose", &[&all], vec![Attribute::ints("perm", &[0, 3, 1, 2])]);
        }
    }
}
