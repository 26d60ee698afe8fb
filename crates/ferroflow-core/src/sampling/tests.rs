use super::*;
use crate::geometry::{self, Grid};

const SIZE: Size = Size { height: 7, width: 9 };

/// Numbers of -1 to 1 without pattern.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Some of it points outside; none of it to whole coordinates or halves, where samples, or those of every second pixel, have a kink.
fn flow(size: Size) -> Vec<f32> {
    let values = 2 * size.height * size.width;
    let whole = noise(values, 5).into_iter().map(|v| (2.7 * v).round());
    whole.zip(noise(values, 6)).map(|(whole, v)| whole + 0.25 + 0.2 * v).collect()
}

/// `p + flow(p)` in double precision, each neighbour by itself.
fn plain_sample(plane: &[f32], x: f64, y: f64, size: Size, outside: Outside) -> f64 {
    let mut sum = 0.0;
    for (row, b) in [(y.floor(), 1.0 - (y - y.floor())), (y.floor() + 1.0, y - y.floor())] {
        for (column, a) in [(x.floor(), 1.0 - (x - x.floor())), (x.floor() + 1.0, x - x.floor())] {
            let (last_x, last_y) = ((size.width - 1) as f64, (size.height - 1) as f64);
            let inside = (0.0..=last_x).contains(&column) && (0.0..=last_y).contains(&row);
            if inside || outside == Outside::Repeat {
                let at = row.clamp(0.0, last_y) as usize * size.width + column.clamp(0.0, last_x) as usize;
                sum += a * b * f64::from(plane[at]);
            }
        }
    }
    sum
}

fn close(what: &str, ours: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - b).abs() <= tolerance, "{what} {i}: {a} {b}");
    }
}

/// Slopes of `f` by central differences; it is bilinear in each value, so wide steps are exact as long as no value passes a kink.
fn differences(at: &[f32], step: f32, f: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    (0..at.len())
        .map(|i| {
            let moved = |by: f32| {
                let mut at = at.to_vec();
                at[i] += by;
                (f(&at), f64::from(at[i]))
            };
            let ((above, high), (below, low)) = (moved(step), moved(-step));
            (above - below) / (high - low)
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn samples_and_gradients() {
    let pixels = SIZE.height * SIZE.width;
    let (planes, flow, d_out) = (noise(3 * pixels, 1), flow(SIZE), noise(3 * pixels, 2));
    for outside in [Outside::Zero, Outside::Repeat] {
        let run = |planes: &[f32], flow: &[f32]| {
            let mut out = vec![0.0; 3 * pixels];
            sample(planes, flow, SIZE, outside, &mut out);
            out
        };
        let expected: Vec<f64> = (0..3 * pixels)
            .map(|i| {
                let (plane, i) = (&planes[i / pixels * pixels..][..pixels], i % pixels);
                let (x, y) = ((i % SIZE.width) as f64, (i / SIZE.width) as f64);
                plain_sample(plane, x + f64::from(flow[i]), y + f64::from(flow[pixels + i]), SIZE, outside)
            })
            .collect();
        close("samples", &run(&planes, &flow), &expected, 1e-5);
        let mut d_flow = vec![0.0; 2 * pixels];
        sample_gradient(&planes, &flow, SIZE, outside, &d_out, &mut d_flow);
        let slopes = differences(&flow, 2e-2, |flow| dot(&run(&planes, flow), &d_out));
        close("flow", &d_flow, &slopes, 2e-3);
        let mut d_planes = vec![0.0; 3 * pixels];
        sample_adjoint(&d_out, &flow, SIZE, outside, &mut d_planes);
        let slopes = differences(&planes, 0.5, |planes| dot(&run(planes, &flow), &d_out));
        close("planes", &d_planes, &slopes, 1e-5);
    }
}

#[test]
fn a_window_samples_what_lies_around_it() {
    let window = Window { left: 2, top: 3, size: Size { height: 3, width: 5 } };
    let (pixels, inner) = (SIZE.height * SIZE.width, window.size.height * window.size.width);
    // Flow of the whole planes, of which the window is a part.
    let (planes, whole, d_out) = (noise(2 * pixels, 1), flow(SIZE), noise(2 * inner, 2));
    let cut = |planes: &[f32]| -> Vec<f32> {
        let rows = planes.chunks_exact(SIZE.width).enumerate();
        let inside = rows.filter(|(y, _)| (3..6).contains(&(y % SIZE.height)));
        inside.flat_map(|(_, row)| &row[2..7]).copied().collect()
    };
    for outside in [Outside::Zero, Outside::Repeat] {
        let (mut all, mut part) = (vec![0.0; 2 * pixels], vec![0.0; 2 * inner]);
        sample(&planes, &whole, SIZE, outside, &mut all);
        sample_within(&planes, SIZE, &cut(&whole), window, outside, &mut part);
        assert_eq!(part, cut(&all));

        let (mut d_all, mut d_part) = (vec![0.0; 2 * pixels], vec![0.0; 2 * inner]);
        let mut spread = vec![0.0; 2 * pixels];
        for (i, d) in d_out.iter().enumerate() {
            let (plane, y, x) = (i / inner, i % inner / window.size.width, i % window.size.width);
            spread[plane * pixels + (y + 3) * SIZE.width + x + 2] = *d;
        }
        sample_gradient(&planes, &whole, SIZE, outside, &spread, &mut d_all);
        sample_gradient_within(&planes, SIZE, &cut(&whole), window, outside, &d_out, &mut d_part);
        assert_eq!(d_part, cut(&d_all));
    }
}

#[test]
fn whole_coordinates_have_no_slope_and_wild_ones_are_outside() {
    let pixels = SIZE.height * SIZE.width;
    let planes = noise(pixels, 1);
    let mut flow = vec![0.0; 2 * pixels];
    let mut out = vec![0.0; pixels];
    sample(&planes, &flow, SIZE, Outside::Zero, &mut out);
    assert_eq!(out, planes);
    let mut d_flow = vec![0.0; 2 * pixels];
    sample_gradient(&planes, &flow, SIZE, Outside::Zero, &vec![1.0; pixels], &mut d_flow);
    splat_gradient(&flow, SIZE, 1, &planes, &mut d_flow);
    assert!(d_flow.iter().all(|&d| d == 0.0));

    for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
        flow.fill(wild);
        sample(&planes, &flow, SIZE, Outside::Zero, &mut out);
        assert!(out.iter().all(|&v| v == 0.0), "{wild}");
        sample_gradient(&planes, &flow, SIZE, Outside::Repeat, &vec![1.0; pixels], &mut d_flow);
        splat(&flow, SIZE, 1, &mut out);
        assert!(out.iter().chain(&d_flow).all(|&v| v == 0.0), "{wild}");
    }
}

#[test]
fn between_is_what_lies_between_centres() {
    assert!(between(8.0, 6.0, SIZE).is_some() && between(8.01, 0.0, SIZE).is_none());
    assert!(between(-0.01, 0.0, SIZE).is_none() && between(f32::NAN, 0.0, SIZE).is_none());
    assert!(between(0.0, 0.0, Size { height: 0, width: 0 }).is_none());
    let [a, b, c, d] = between(1.25, 2.5, SIZE).unwrap();
    assert_eq!([a, b, c, d], [(19, 0.375), (20, 0.125), (28, 0.375), (29, 0.125)]);
}

#[test]
fn splatting_and_its_gradient() {
    let size = Size { height: 8, width: 12 };
    for factor in [1, 2, 4] {
        let to = splat_size(size, factor);
        let run = |flow: &[f32]| {
            let mut range = vec![0.0; to.height * to.width];
            splat(flow, size, factor, &mut range);
            range
        };
        assert!(run(&[0.0; 2 * 96]).iter().all(|r| (r - 1.0).abs() < 1e-6), "factor {factor}");
        let (flow, d_range) = (flow(size), noise(to.height * to.width, 3));
        let mut d_flow = vec![0.0; flow.len()];
        splat_gradient(&flow, size, factor, &d_range, &mut d_flow);
        close("flow", &d_flow, &differences(&flow, 2e-2, |flow| dot(&run(flow), &d_range)), 2e-3);
    }
    // Without a factor it is the reverse of sampling.
    let flow = flow(SIZE);
    let (mut range, mut adjoint) = (vec![0.0; 63], vec![0.0; 63]);
    splat(&flow, SIZE, 1, &mut range);
    sample_adjoint(&[1.0; 63], &flow, SIZE, Outside::Zero, &mut adjoint);
    assert_eq!(range, adjoint);
}

#[test]
fn windows_resize_as_whole_planes_do() {
    let plane = noise(63, 1);
    let window = Window { left: 2, top: 1, size: Size { height: 4, width: 5 } };
    for (grid, to) in
        [(Grid::HalfPixel, SIZE), (Grid::Asymmetric, SIZE), (Grid::HalfPixel, Size { height: 2, width: 3 })]
    {
        let cut: Vec<f32> = (0..20).map(|i| plane[(1 + i / 5) * 9 + 2 + i % 5]).collect();
        let whole = geometry::resize::resize(&cut, window.size, 1, to, grid);
        let expected: Vec<f64> = whole.iter().map(|v| 1.5 * f64::from(*v)).collect();
        let run = |plane: &[f32]| {
            let mut out = vec![0.0; to.height * to.width];
            resize(plane, SIZE, window, to, grid, 1.5, &mut out);
            out
        };
        close("window", &run(&plane), &expected, 1e-6);
        let d_out = noise(to.height * to.width, 2);
        let mut d_plane = vec![0.0; 63];
        resize_adjoint(&d_out, SIZE, window, to, grid, 1.5, &mut d_plane);
        close("adjoint", &d_plane, &differences(&plane, 0.5, |plane| dot(&run(plane), &d_out)), 1e-5);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let size = Size { height: 50, width: 37 };
    let (flow, planes) = (flow(size), noise(2 * 50 * 37, 1));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut out, mut d_flow, mut d_planes) = (planes.clone(), flow.clone(), planes.clone());
            sample(&planes, &flow, size, Outside::Zero, &mut out);
            sample_gradient(&planes, &flow, size, Outside::Zero, &out, &mut d_flow);
            sample_adjoint(&out, &flow, size, Outside::Zero, &mut d_planes);
            let mut range = vec![0.0; 50 * 37];
            splat(&flow, size, 1, &mut range);
            splat_gradient(&flow, size, 1, &range, &mut d_flow);
            [out, d_flow, d_planes, range]
        })
    };
    assert_eq!(with(1), with(3));
}
