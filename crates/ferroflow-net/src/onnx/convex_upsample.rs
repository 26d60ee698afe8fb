//! Convex upsampling in standard operators, of any size.

use super::emit::Emit;
use super::proto::Attribute;

/// A bound of a slice that means "to the end".
const END: i64 = i32::MAX as i64;
const NEIGHBOURS: usize = 9;

/// `flow` `[N, 2, h, w]`, `logits` `[N, 9 * factor * factor, h, w]` -> `[N, 2, factor * h, factor * w]`.
///
/// The softmax is written out over the nine slices that the neighbours have of the logits: the operator of that name
/// means something else before operator set 13, and wants its axis last.
pub(super) fn lower(emit: &mut Emit<'_>, flow: &str, logits: &str, factor: usize) {
    let logits = emit.split(logits, NEIGHBOURS, 1); // [N, factor * factor, h, w] each
    let logits: Vec<&str> = logits.iter().map(String::as_str).collect();
    let largest = emit.op("Max", &logits, vec![]);
    let mut weights = Vec::with_capacity(NEIGHBOURS);
    for logit in logits {
        let below = emit.sub(logit, &largest);
        weights.push(emit.op("Exp", &[&below], vec![]));
    }
    let sum = sum(emit, &weights);

    let pads = emit.ints(&[0, 0, 1, 1, 0, 0, 1, 1]);
    let padded = emit.op("Pad", &[flow, &pads], vec![]);
    // Rows or columns of the padded flow: size-independent, as the end counts from the back.
    let to = |from: i64| if from == 2 { END } else { from - 2 };
    let mut weighed = [(); 2].map(|()| Vec::with_capacity(NEIGHBOURS));
    for (k, weight) in (0..).zip(&weights) {
        let (y, x) = (k / 3, k % 3);
        let neighbour = emit.slice(&padded, &[2, 3], &[y, x], &[to(y), to(x)], &[1, 1]);
        let components = emit.split(&neighbour, 2, 1); // [N, 1, h, w] each
        for (weighed, component) in weighed.iter_mut().zip(components) {
            weighed.push(emit.mul(weight, &component));
        }
    }
    let fine = weighed.map(|weighed| {
        let mixed = self::sum(emit, &weighed);
        let mixed = emit.op("Div", &[&mixed, &sum], vec![]);
        emit.op("DepthToSpace", &[&mixed], vec![Attribute::int("blocksize", factor as i64)])
    });
    emit.concat(&[&fine[0], &fine[1]], 1);
}

fn sum(emit: &mut Emit<'_>, values: &[String]) -> String {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    emit.op("Sum", &values, vec![])
}
