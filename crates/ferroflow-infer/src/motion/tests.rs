//! Videos whose motion is known.

use ferroflow_core::{Frame, Size};

use super::*;
use crate::dis;

const SIZE: Size = Size { height: 96, width: 128 };

/// Random values at the corners of cells, between which it is smooth.
fn noise(seed: u64, cell: f32, x: f32, y: f32) -> f32 {
    let corner = |x: f32, y: f32| {
        let mut h = seed ^ (x as i64 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (y as i64 as u64).rotate_left(32);
        for _ in 0..2 {
            h = (h ^ (h >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        (h >> 40) as f32 / (1 << 24) as f32
    };
    let (left, top) = ((x / cell).floor(), (y / cell).floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (across, down) = (smooth(x / cell - left), smooth(y / cell - top));
    let row = |y: f32| corner(left, y) * (1.0 - across) + corner(left + 1.0, y) * across;
    row(top) * (1.0 - down) + row(top + 1.0) * down
}

/// The texture of a scene.
fn scene(seed: u64, x: f32, y: f32) -> [u8; 3] {
    let level =
        0.5 * noise(seed, 31.0, x, y) + 0.3 * noise(seed + 1000, 13.0, x, y) + 0.2 * noise(seed + 2000, 7.0, x, y);
    [(255.0 * level) as u8; 3]
}

fn seen(seed: u64, pan: (f32, f32)) -> Frame {
    Frame::from_fn(SIZE, |x, y| scene(seed, x as f32 - pan.0, y as f32 - pan.1))
}

fn frames(frames: Vec<Frame>) -> Frames {
    let named = |(i, frame)| Ok(NamedFrame { name: format!("{i:06}"), frame: Arc::new(frame) });
    Box::new(frames.into_iter().enumerate().map(named).collect::<Vec<_>>().into_iter())
}

fn measured(video: Vec<Frame>, options: &Options) -> (VideoMotion, Vec<(String, Mask)>) {
    let mut masks = Vec::new();
    let found = measure::<Failed>(frames(video), &Estimator::dis(dis::Preset::Medium), options, |name, mask| {
        masks.push((name.to_string(), mask));
        Ok(())
    });
    (found.unwrap(), masks)
}

#[derive(Debug)]
pub struct Failed(#[allow(dead_code)] String);

impl From<SequenceError> for Failed {
    fn from(error: SequenceError) -> Self {
        Self(error.to_string())
    }
}

impl From<EstimateError> for Failed {
    fn from(error: EstimateError) -> Self {
        Self(error.to_string())
    }
}

fn near(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() <= by, "{a} is not {b}");
}

#[test]
fn a_camera_that_pans_is_told_from_what_moves_in_the_picture() {
    let pan: Vec<Frame> = (0..8).map(|t| seen(1, (2.0 * t as f32, -(t as f32)))).collect();
    let (found, masks) = measured(pan, &Options::default());
    assert_eq!((found.frames, found.pairs, found.cuts, found.size), (8, 7, 0, SIZE));
    // DIS is exact to a tenth of a pixel but for the border, where things enter.
    near(found.pan, 5f64.sqrt(), 0.1);
    near(found.pan_direction[0], 2.0, 0.1);
    near(found.pan_direction[1], -1.0, 0.1);
    near(found.median, 5f64.sqrt(), 0.1);
    assert!(found.own_mean < 0.4 && found.moving_share < 0.1 && found.static_share < 0.05, "{found}");
    assert_eq!((masks.len(), masks[6].0.as_str(), masks[6].1.size()), (7, "000006", SIZE));
    // A thing of a quarter of the picture before a wall.
    let thing = |t: usize| {
        let wall = seen(2, (0.0, 0.0));
        let left = 20 + 3 * t;
        Frame::from_fn(SIZE, |x, y| match (left..left + 64).contains(&x) && (24..72).contains(&y) {
            true => scene(9, (x - left) as f32, y as f32),
            false => wall.pixel(x, y),
        })
    };
    let (found, masks) = measured((0..8).map(thing).collect(), &Options::default());
    // Around its edge, flow is smeared over a few pixels.
    near(found.moving_share, 0.25, 0.1);
    near(found.static_share, 0.75, 0.1);
    near(found.mean, 0.75, 0.2);
    assert!(found.pan < 0.1 && found.median < 0.2 && found.static_pairs == 0.0, "{found}");
    near(found.p99, 3.0, 0.6);
    let mask = &masks[3].1;
    assert!(mask.get(60, 48) && !mask.get(5, 5) && !mask.get(120, 90));
}

#[test]
fn cuts_repetitions_and_blank_frames_are_counted_and_not_measured_as_motion() {
    let mut video: Vec<Frame> = (0..12).map(|t| seen(1, (t as f32, 0.0))).collect();
    // A cut, ten frames of another scene of which two are shown twice, then a black one and a still scene.
    for t in 0..10 {
        video.push(seen(40, (-(t as f32), 0.0)));
        if t == 3 || t == 6 {
            video.push(seen(40, (-(t as f32), 0.0)));
        }
    }
    video.push(Frame::black(SIZE));
    video.extend(vec![seen(3, (0.0, 0.0)); 4]);
    let (found, masks) = measured(video.clone(), &Options::default());
    assert_eq!((found.frames, found.cuts, found.repeated, found.blank), (29, 1, 5, 1));
    // All pairs of neighbours but the one across the cut and the two beside the black frame.
    assert_eq!((found.pairs, masks.len()), (28 - 3, 25));
    assert!(masks.iter().all(|(name, _)| !["000011", "000023", "000024"].contains(&name.as_str())));
    near(found.mean, 20.0 / 25.0, 0.05);
    near(found.static_pairs, 5.0 / 25.0, 1e-9);
    near(found.p90, 1.0, 0.15);
    let every = Options { every: NonZeroUsize::new(3).unwrap(), ..Options::default() };
    let (found, masks) = measured(video, &every);
    assert_eq!((found.frames, found.cuts, found.repeated, found.blank), (29, 1, 5, 1));
    assert_eq!(masks.len(), found.pairs);
    assert!(masks.iter().all(|(name, _)| name.parse::<usize>().unwrap() % 3 == 0), "{masks:?}");
}

#[test]
fn smaller_frames_give_motion_in_pixels_of_the_video() {
    let pan = || (0..4).map(|t| seen(1, (4.0 * t as f32, 0.0))).collect::<Vec<_>>();
    let options = Options { longest_side: NonZeroUsize::new(64), ..Options::default() };
    let (found, masks) = measured(pan(), &options);
    near(found.median, 4.0, 0.2);
    near(found.pan, 4.0, 0.2);
    assert_eq!((found.size, masks[0].1.size()), (SIZE, SIZE));
    // A single frame has no motion; nothing is divided by nothing.
    let (alone, _) = measured(pan()[..1].to_vec(), &options);
    assert_eq!((alone.frames, alone.pairs, alone.mean, alone.static_share), (1, 0, 0.0, 0.0));
    let (none, _) = measured(Vec::new(), &options);
    assert_eq!((none.frames, none.size), (0, Size::default()));
    // However thin.
    let thin = vec![Frame::from_fn(Size::new(1, 300), |x, _| [x as u8; 3]); 2];
    assert_eq!(measured(thin, &options).0.repeated, 1);
}

#[test]
fn frames_of_two_sizes_are_refused() {
    let mut video = vec![seen(1, (0.0, 0.0)); 2];
    video.push(Frame::from_fn(Size::new(20, 20), |x, y| scene(1, x as f32, y as f32)));
    let found = measure::<Failed>(frames(video), &Estimator::zero(), &Options::default(), |_, _| Ok(()));
    assert!(found.unwrap_err().0.contains("96x128"));
}
