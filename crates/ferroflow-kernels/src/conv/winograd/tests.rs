//! Every Winograd form against the definition.

use super::*;
use crate::{
    conv::{
        ConvKind, ConvPlan, ConvShape,
        tests::{Case, random::Random},
    },
    lane_map,
};

/// A random layer that has a Winograd form.
fn case(random: &mut Random, round: usize) -> Case {
    let shape = |kernel: usize, stride, dilation| ConvShape {
        kind: ConvKind::Forward,
        in_channels: 0,
        out_channels: 1 + round * 37 % 80,
        kernel: [kernel; 2],
        stride,
        dilation,
        padding: [0; 4],
    };
    let line = |columns: bool, taps, dilation| ConvShape {
        kernel: if columns { [1, taps] } else { [taps, 1] },
        ..shape(1, 1, dilation)
    };
    let mut shape = match round % 6 {
        0 => shape(3, 1, 1),
        1 => shape(3, 1, [1, 2, 3, 4, 8, 16][random.below(6)]),
        2 => shape(3, 2, 1),
        3 => shape(random.pick(&[4, 5, 6, 7, 8]), 2, 1),
        4 => line(random.below(2) == 0, random.pick(&[2, 3, 4, 5, 5, 5]), random.pick(&[1, 1, 2])),
        _ => ConvShape { kind: ConvKind::Transposed, padding: [1; 4], ..shape(4, 2, 1) },
    };
    let parts: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below_any(&[6, 16, 27])).collect();
    shape.in_channels = parts.iter().sum();
    let reach = shape.kernel.map(|kernel| shape.dilation * (kernel - 1));
    if shape.kind == ConvKind::Forward {
        // Same size, TensorFlow's uneven kind at stride 2, or anything.
        shape.padding = match random.below(3) {
            0 => std::array::from_fn(|i| reach[i % 2] / 2),
            1 => std::array::from_fn(|i| i / 2 + reach[i % 2].saturating_sub(1) / 2),
            _ => std::array::from_fn(|i| random.below(reach[i % 2] + 2)),
        };
    }
    let least = |axis: usize, pads: usize| (reach[axis] + 1).saturating_sub(pads).max(1);
    let [top, left, bottom, right] = shape.padding;
    let limit = if shape.dilation > 4 { 40 } else { 20 };
    let input = Extent {
        n: 1 + random.below(3),
        h: least(0, top + bottom) + random.below_any(&[1, limit]),
        w: least(1, left + right) + random.below_any(&[1, limit]),
    };
    Case::new(shape, input, parts, random)
}

/// A plan of `case` by F(m, ..) of `n` points, cut in one of several ways.
fn plan(case: &Case, n: usize, round: usize, options: Options) -> Option<ConvPlan> {
    let mut lanes = lane_map(&case.parts);
    if case.parts.len() == 1 && case.parts[0] < LANES && round % 8 < 6 {
        // Frames without padding lanes.
        lanes.truncate(case.parts[0]);
    }
    let layer = case.layer(&lanes);
    let problem = Problem::new(&layer);
    let scheme = Scheme::new(&problem, n)?;
    let blocks = scheme.used_channels(&lanes).len();
    let (tile, panel) = register_tile(options.isa);
    let blocking = match round % 4 {
        0 => cost::plan(&problem, &scheme, options, tile, panel).0,
        1 => Blocking { tiles: 5, blocks: 1, staged: false },
        2 => Blocking { tiles: 33, blocks, staged: false },
        _ => Blocking { tiles: 70, blocks: blocks.min(2), staged: true },
    };
    let mut engine = Box::new(Winograd::new(&problem, scheme, blocking, options));
    let outputs = lane_map(&[layer.shape.out_channels]);
    engine.set_weights(&Filter::new(&layer.shape, layer.weight, &outputs), layer.bias);
    let input_blocks = (lanes.len().div_ceil(LANES), layer.input.len() / LANES * lanes.len().min(LANES));
    Some(ConvPlan {
        shape: layer.shape,
        input: layer.input,
        input_blocks,
        activation: layer.activation,
        isa: options.isa,
        engine,
    })
}

#[test]
fn winograd_matches_the_definition() {
    let mut random = Random(0x9876_5432_1fed_cba9);
    for round in 0..96 {
        let case = case(&mut random, round);
        let (_, expected) = case.run(Options { algorithm: Some("reference"), ..Options::default() });
        let taps = Scheme::taps(&case.shape).unwrap();
        // The transforms enlarge what is rounded: measured errors reach 1.2e-4 of the outputs' rms (of F(6x6), over millions
        // of outputs), and sums of n products of numbers in -1..1 have an rms of sqrt(n) / 3.
        let rounding = 2e-4 / (3.0 * case.terms().sqrt() * f32::EPSILON);
        for isa in Isa::available() {
            for &n in sizes(taps) {
                let options = Options { isa, exact: false, bf16: None, threads: 1 + round % 2, algorithm: None };
                if let Some(plan) = plan(&case, n, round / 6 + n, options) {
                    let name = format!("{} on {isa:?}, way {}", plan.algorithm(), (round / 6 + n) % 4);
                    case.compare(&expected, &case.run_plan(&plan), &name, rounding);
                }
            }
        }
    }
}
