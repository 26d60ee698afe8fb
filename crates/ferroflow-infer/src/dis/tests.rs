use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferroflow_core::io::{read_flow, read_frame, read_mask};
use ferroflow_core::metrics::{Metrics, Tally, Truth};
use ferroflow_core::{FlowField, Frame, Size};
use ferroflow_testing::shared;

use super::{Dis, DisError, Preset};

/// A texture of many scales, as natural images have: noise on grids of 4 to 64 pixels, smoothly interpolated.
fn texture(x: f32, y: f32) -> [u8; 3] {
    let noise = |column: f32, row: f32| {
        let mixed = (column as i32 as u32).wrapping_mul(0x9e37_79b1) ^ (row as i32 as u32).wrapping_mul(0x85eb_ca77);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((mixed ^ (mixed >> 13)) & 0xffff) as f32 / 65535.0 - 0.5
    };
    let mut grey = 127.5;
    for (period, height) in [(4.0, 30.0), (8.0, 45.0), (16.0, 60.0), (32.0, 60.0), (64.0, 60.0)] {
        let (x, y) = (x / period, y / period);
        let (column, row) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (fx, fy) = (smooth(x - column), smooth(y - row));
        let across = |row: f32| noise(column, row) * (1.0 - fx) + noise(column + 1.0, row) * fx;
        grey += height * (across(row) * (1.0 - fy) + across(row + 1.0) * fy);
    }
    [grey, 0.9 * grey, 255.0 - grey].map(|c| c.round() as u8)
}

/// The texture, and the texture moved: pixel `(x, y)` of the second frame shows point `back(x, y)` of the first.
fn scene(width: usize, height: usize, back: impl Fn(f32, f32) -> (f32, f32)) -> (Frame, Frame) {
    let first = Frame::from_fn(Size { height, width }, |x, y| texture(x as f32, y as f32));
    let second = Frame::from_fn(Size { height, width }, |x, y| {
        let (x, y) = back(x as f32, y as f32);
        texture(x, y)
    });
    (first, second)
}

/// Mean end-point error over the pixels at least `margin` from the edge.
fn inner_error(flow: &FlowField, margin: usize, truth: impl Fn(f32, f32) -> (f32, f32)) -> f32 {
    let (mut sum, mut count) = (0.0, 0);
    for y in margin..flow.height() - margin {
        for x in margin..flow.width() - margin {
            let ((u, v), (tu, tv)) = (flow.get(x, y), truth(x as f32, y as f32));
            sum += (u - tu).hypot(v - tv);
            count += 1;
        }
    }
    sum / count as f32
}

#[test]
fn finds_a_translation() {
    for (preset, bound) in [(Preset::Medium, 0.05), (Preset::Fast, 0.15)] {
        for (tu, tv) in [(0.0, 1.0), (3.5, -2.25), (-11.0, 7.5)] {
            let (first, second) = scene(190, 141, |x, y| (x - tu, y - tv));
            let flow = Dis::new(preset).estimate(&first, &second).unwrap();
            let error = inner_error(&flow, 16, |_, _| (tu, tv));
            assert!(error < bound, "{preset:?}, motion ({tu}, {tv}): error {error} px");
        }
    }
}

#[test]
fn finds_a_zoom() {
    let (cx, cy, zoom) = (100.0, 70.0, 1.06);
    let (first, second) = scene(201, 140, |x, y| ((x - cx) / zoom + cx, (y - cy) / zoom + cy));
    let flow = Dis::new(Preset::Medium).estimate(&first, &second).unwrap();
    let error = inner_error(&flow, 16, |x, y| ((zoom - 1.0) * (x - cx), (zoom - 1.0) * (y - cy)));
    assert!(error < 0.1, "error {error} px");
}

#[test]
fn a_change_of_brightness_is_no_motion() {
    let first = Frame::from_fn(Size::new(100, 120), |x, y| texture(x as f32, y as f32).map(|c| c / 2));
    let second = Frame::from_fn(Size::new(100, 120), |x, y| texture(x as f32, y as f32).map(|c| c / 2 + 20));
    let flow = Dis::new(Preset::Medium).estimate(&first, &second).unwrap();
    let error = inner_error(&flow, 0, |_, _| (0.0, 0.0));
    assert!(error < 0.1, "error {error} px");
}

#[test]
fn equal_frames_do_not_move() {
    for (width, height) in [(1, 1), (64, 48), (131, 77)] {
        let frame = Frame::from_fn(Size { height, width }, |x, y| texture(x as f32, y as f32));
        for preset in [Preset::Fast, Preset::Medium] {
            let flow = Dis::new(preset).estimate(&frame, &frame).unwrap();
            assert!(flow.u().iter().chain(flow.v()).all(|&m| m == 0.0), "{width}x{height}, {preset:?}");
        }
    }
}

#[test]
fn every_size_gives_a_flow_of_that_size() {
    let sides = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 130];
    for preset in [Preset::Fast, Preset::Medium] {
        // One estimator for all: buffers of another size must not leak into the result.
        let kept = Dis::new(preset);
        for (i, width) in sides.into_iter().enumerate() {
            for height in [sides[(i * 5 + 2) % sides.len()], sides[(i * 3 + 1) % sides.len()], 1] {
                let (first, second) = scene(width, height, |x, y| (x - 1.5, y + 0.5));
                let flow = kept.estimate(&first, &second).unwrap();
                assert_eq!(flow.size(), Size { height, width });
                assert!(flow.u().iter().chain(flow.v()).all(|m| m.is_finite()), "{width}x{height}");
                assert_eq!(flow, Dis::new(preset).estimate(&first, &second).unwrap(), "{width}x{height}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (first, second) = scene(333, 250, |x, y| (x * 1.02 - 4.0, y * 0.99 + 3.0));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Dis::new(Preset::Medium).estimate(&first, &second).unwrap())
    };
    let one = on(1);
    for threads in [2, 3, 7] {
        assert_eq!(one, on(threads), "{threads} threads");
    }
}

#[test]
fn frames_without_a_flow_are_refused() {
    let frame = |width, height| Frame::from_fn(Size { height, width }, |_, _| [0; 3]);
    let dis = Dis::new(Preset::Fast);
    assert_eq!(
        dis.estimate(&frame(4, 3), &frame(3, 4)),
        Err(DisError::SizeMismatch { first: Size::new(3, 4), second: Size::new(4, 3) })
    );
    assert_eq!(dis.estimate(&frame(0, 5), &frame(0, 5)), Err(DisError::Empty));
}

/// Folder of real pairs with ground truth, which lies beside the repository or where `FERROFLOW_SHARED` says.
fn real_pairs() -> Option<PathBuf> {
    Some(shared("data/pairs.tsv")?.parent()?.to_path_buf())
}

fn end_point_error(dis: &Dis, data: &Path, pair: &BTreeMap<&str, &str>) -> f64 {
    let (first, second) = (read_frame(data.join(pair["image1"])), read_frame(data.join(pair["image2"])));
    let estimate = dis.estimate(&first.unwrap(), &second.unwrap()).unwrap();
    let truth = read_flow(data.join(pair["flow"])).unwrap();
    let valid = (!pair["invalid"].is_empty()).then(|| {
        let mut mask = read_mask(data.join(pair["invalid"])).unwrap();
        mask.data_mut().iter_mut().for_each(|invalid| *invalid = !*invalid);
        mask
    });
    let scored = Truth::new(&truth);
    let scored = valid.as_ref().map_or(scored, |mask| scored.only(mask));
    Metrics::of(&Tally::of(&estimate, &scored).unwrap()).epe.unwrap()
}

/// Mean error on each group of real pairs, against OpenCV's medium preset (column `epe_dis`).
#[test]
fn real_pairs_come_out_as_well_as_with_opencv() {
    let Some(data) = real_pairs() else { return };
    let table = std::fs::read_to_string(data.join("pairs.tsv")).unwrap();
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let dis = Dis::new(Preset::Medium);
    let mut groups = BTreeMap::<&str, Vec<(f64, f64)>>::new();
    for line in lines {
        let pair: BTreeMap<&str, &str> = names.iter().copied().zip(line.split('\t')).collect();
        let (group, _) = pair["name"].split_once('/').unwrap();
        let errors = (end_point_error(&dis, &data, &pair), pair["epe_dis"].parse().unwrap());
        groups.entry(group).or_default().push(errors);
    }
    assert!(!groups.is_empty());
    for (group, errors) in groups {
        let (ours, theirs) = errors.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let ratio = ours / theirs;
        println!("{group}: mean EPE {:.4}, {ratio:.3} of OpenCV's", ours / errors.len() as f64);
        assert!(ratio <= 1.1, "{group}: {ratio:.3} of OpenCV's error");
    }
}
