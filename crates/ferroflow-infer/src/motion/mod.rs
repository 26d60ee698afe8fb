//! What moves in a video, in a few numbers by which collections of videos are filtered.
//!
//! A video of any length takes the memory of a few frames: lengths of flow are counted in classes, and everything else is summed.

mod camera;
mod lengths;

use std::{borrow::Cow, collections::VecDeque, fmt, num::NonZeroUsize, sync::Arc};

use ferroflow_core::{FlowField, Frame, Mask, Size};
use ferroflow_data::{
    clip::{CutFinder, Look, Step},
    sequence::{Frames, NamedFrame, SequenceError},
};
use serde::Serialize;

pub use self::camera::Camera;
use self::lengths::Lengths;
use crate::{EstimateError, Estimator};

/// How motion is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Pixels that move less, in pixels from frame to frame, are still.
    pub still: f32,
    /// Pixels whose flow differs by more from that of the whole picture move by themselves.
    pub moving: f32,
    /// One pair of neighbours in this many is measured; cuts are looked for in all.
    pub every: NonZeroUsize,
    /// Larger frames are made smaller by a whole number, so that no side is longer. Motion stays in pixels of the video.
    pub longest_side: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { still: 0.5, moving: 1.0, every: NonZeroUsize::MIN, longest_side: None }
    }
}

/// What moves in a video. Lengths are in pixels of the video from one frame to the next, over all pixels of all measured pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VideoMotion {
    /// Number of frames.
    pub frames: usize,
    /// Size of the frames.
    pub size: Size,
    /// Number of pairs that were measured: none leads across a cut, from or to a frame of a single colour.
    pub pairs: usize,
    /// Number of cuts to another scene.
    pub cuts: usize,
    /// Number of frames that show the one before again; nothing moves in them.
    pub repeated: usize,
    /// Number of frames of a single colour.
    pub blank: usize,
    /// Mean length of the flow.
    pub mean: f64,
    /// Length that half of the pixels do not exceed; as all percentiles to 0.4 %.
    pub median: f64,
    /// Length that 90 % do not exceed.
    pub p90: f64,
    /// Length that 99 % do not exceed.
    pub p99: f64,
    /// Mean length of the motion of the picture's centre: a camera that pans or shakes.
    pub pan: f64,
    /// Mean motion of the picture's centre to the right and down: a camera that pans, since shaking cancels out.
    pub pan_direction: [f64; 2],
    /// Mean size of the zoom; 0.01 is a hundredth of the picture from frame to frame.
    pub zoom: f64,
    /// Mean size of the roll, degrees from frame to frame.
    pub roll: f64,
    /// Mean length of what a pixel's flow differs from that of the whole picture.
    pub own_mean: f64,
    /// Share of pixels that move by themselves.
    pub moving_share: f64,
    /// Share of pixels that are still.
    pub static_share: f64,
    /// Share of pairs in which nothing moves: the mean length is below that of a still pixel.
    pub static_pairs: f64,
}

/// Sums over pixels of one pair, or of many.
#[derive(Clone, Debug, Default)]
struct Sums {
    pixels: u64,
    lengths: Lengths,
    length: f64,
    own: f64,
    still: u64,
    moving: u64,
}

/// One pair until it is known whether it leads across a cut.
struct Pair {
    name: String,
    sums: Sums,
    /// In pixels of the video.
    pan: (f32, f32),
    camera: Camera,
    moving: Mask,
}

/// What the pairs so far sum up to.
#[derive(Default)]
struct Total {
    sums: Sums,
    pairs: usize,
    still_pairs: usize,
    pan: f64,
    pan_direction: [f64; 2],
    zoom: f64,
    roll: f64,
}

/// Measures a video. `moving` gets the name of the first frame of each measured pair and a mask of the size of the frames, true where
/// something moves by itself.
///
/// # Errors
/// If frames cannot be read, change their size or cannot be estimated on, or what `moving` returns.
pub fn measure<E>(
    frames: Frames,
    estimator: &Estimator,
    options: &Options,
    moving: impl FnMut(&str, Mask) -> Result<(), E>,
) -> Result<VideoMotion, E>
where
    E: From<SequenceError> + From<EstimateError>,
{
    let mut pass = Pass { options, factor: 1, video: VideoMotion::default(), total: Total::default(), moving };
    let mut cuts = CutFinder::default();
    // Pairs that wait to be told whether they lead across a cut, with those that are not measured between them.
    let mut waiting: VecDeque<Option<Pair>> = VecDeque::new();
    let mut before: Option<(String, Arc<Frame>)> = None;
    let mut look: Option<Look> = None;
    for frame in frames {
        let frame = frame?;
        pass.count(before.as_ref().map(|(name, _)| name), &frame)?;
        let seen = Look::at(&frame.frame);
        let step = seen.after(look.as_ref());
        let wanted = pass.video.frames.saturating_sub(2) % options.every == 0;
        let first = before.replace((frame.name, frame.frame.clone())).filter(|_| wanted);
        match (step, first) {
            (Step::Blank, _) => {
                pass.video.blank += 1;
                look = None;
                continue;
            }
            (Step::Repeats, first) => {
                pass.video.repeated += 1;
                if let Some((name, first)) = first {
                    let nothing = FlowField::zeros(reduced_size(first.size(), pass.factor));
                    let pair = Pair::of(name, &nothing, 1, options);
                    pass.add(&pair)?;
                }
                continue;
            }
            (Step::Begins, _) => {}
            (Step::Follows { unlikeness }, first) => {
                let pair = match first {
                    Some((name, first)) => {
                        let (first, second) = (reduced(&first, pass.factor), reduced(&frame.frame, pass.factor));
                        let flow = estimator.estimate(&first, &second)?;
                        Some(Pair::of(name, &flow, pass.factor, options))
                    }
                    None => None,
                };
                waiting.push_back(pair);
                if let Some(cut) = cuts.push(unlikeness) {
                    pass.settle(waiting.pop_front().flatten(), cut)?;
                }
            }
        }
        look = Some(seen);
    }
    for cut in cuts.finish() {
        pass.settle(waiting.pop_front().flatten(), cut)?;
    }
    Ok(pass.total.of(pass.video))
}

/// One pass over a video.
struct Pass<'a, F> {
    options: &'a Options,
    /// By what the frames are made smaller.
    factor: usize,
    video: VideoMotion,
    total: Total,
    moving: F,
}

impl<E, F> Pass<'_, F>
where
    E: From<SequenceError>,
    F: FnMut(&str, Mask) -> Result<(), E>,
{
    /// Counts a frame, which is as large as the one before.
    fn count(&mut self, before: Option<&String>, frame: &NamedFrame) -> Result<(), E> {
        let size = frame.frame.size();
        if let Some(first) = before.filter(|_| size != self.video.size) {
            let (first, second, sizes) = (first.clone(), frame.name.clone(), [self.video.size, size]);
            return Err(SequenceError::Sizes { first, second, sizes }.into());
        }
        self.video.frames += 1;
        self.video.size = size;
        let wanted = self.options.longest_side.map_or(1, |most| size.width.max(size.height).div_ceil(most.get()));
        // However long and thin, a row is left.
        self.factor = wanted.clamp(1, size.width.min(size.height).max(1));
        Ok(())
    }

    /// Adds a pair once it is known whether it leads across a cut; `None` is one that is not measured.
    fn settle(&mut self, pair: Option<Pair>, cut: bool) -> Result<(), E> {
        self.video.cuts += usize::from(cut);
        match pair {
            Some(pair) if !cut => self.add(&pair),
            _ => Ok(()),
        }
    }

    fn add(&mut self, pair: &Pair) -> Result<(), E> {
        self.total.add(pair, self.options);
        let (mask, factor) = (&pair.moving, self.factor);
        let within = |at: usize, side: usize| (at / factor).min(side - 1);
        let enlarged =
            Mask::from_fn(self.video.size, |x, y| mask.get(within(x, mask.width()), within(y, mask.height())));
        (self.moving)(&pair.name, enlarged)
    }
}

impl Pair {
    /// Takes the flow of frames that were made smaller by a factor.
    fn of(name: String, flow: &FlowField, factor: usize, options: &Options) -> Self {
        let camera = Camera::of(flow);
        let scale = factor as f32;
        let mut sums = Sums::default();
        let mut moving = Mask::filled(flow.size(), false);
        let width = flow.width();
        for y in 0..flow.height() {
            for x in 0..width {
                let Some((u, v)) = flow.known(x, y).filter(|(u, v)| u.is_finite() && v.is_finite()) else { continue };
                let picture = camera.flow(x, y);
                let length = scale * u.hypot(v);
                let own = scale * (u - picture.0).hypot(v - picture.1);
                sums.pixels += 1;
                sums.lengths.add(length, 1);
                sums.length += f64::from(length);
                sums.own += f64::from(own);
                sums.still += u64::from(length < options.still);
                sums.moving += u64::from(own > options.moving);
                moving.data_mut()[y * width + x] = own > options.moving;
            }
        }
        Self { name, sums, pan: (scale * camera.pan.0, scale * camera.pan.1), camera, moving }
    }
}

impl Total {
    fn add(&mut self, pair: &Pair, options: &Options) {
        let Pair { sums, camera, .. } = pair;
        let mine = &mut self.sums;
        mine.pixels += sums.pixels;
        mine.lengths.merge(&sums.lengths);
        mine.length += sums.length;
        mine.own += sums.own;
        mine.still += sums.still;
        mine.moving += sums.moving;
        self.pairs += 1;
        self.still_pairs += usize::from(sums.length < f64::from(options.still) * sums.pixels as f64);
        let (u, v) = (f64::from(pair.pan.0), f64::from(pair.pan.1));
        self.pan += u.hypot(v);
        self.pan_direction[0] += u;
        self.pan_direction[1] += v;
        self.zoom += f64::from(camera.zoom.abs());
        self.roll += f64::from(camera.roll.abs().to_degrees());
    }

    /// The means, beside what was counted; all 0 if nothing was measured.
    fn of(self, counted: VideoMotion) -> VideoMotion {
        let Self { sums, pairs, .. } = self;
        let (pixels, each) = (sums.pixels.max(1) as f64, pairs.max(1) as f64);
        VideoMotion {
            pairs,
            mean: sums.length / pixels,
            median: sums.lengths.percentile(50.0),
            p90: sums.lengths.percentile(90.0),
            p99: sums.lengths.percentile(99.0),
            pan: self.pan / each,
            pan_direction: self.pan_direction.map(|sum| sum / each),
            zoom: self.zoom / each,
            roll: self.roll / each,
            own_mean: sums.own / pixels,
            moving_share: sums.moving as f64 / pixels,
            static_share: sums.still as f64 / pixels,
            static_pairs: self.still_pairs as f64 / each,
            ..counted
        }
    }
}

impl fmt::Display for VideoMotion {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames of {}; motion {:.2} px on average, {:.2} px median, {:.2} px for 99 %; camera {:.2} px, own {:.2} px; \
             {:.1} % static, {:.1} % moving by itself; {} cuts",
            self.frames,
            self.size,
            self.mean,
            self.median,
            self.p99,
            self.pan,
            self.own_mean,
            100.0 * self.static_share,
            100.0 * self.moving_share,
            self.cuts
        )?;
        let mut said = |count: usize, what: &str| if count > 0 { write!(f, ", {count} {what}") } else { Ok(()) };
        said(self.repeated, "repeated frames")?;
        said(self.blank, "frames of one colour")
    }
}

fn reduced_size(size: Size, factor: usize) -> Size {
    size.map(|side| side / factor)
}

/// A frame whose pixels are the means of cells; what fills no cell at the right and lower border is left out.
fn reduced(frame: &Frame, factor: usize) -> Cow<'_, Frame> {
    if factor == 1 {
        return Cow::Borrowed(frame);
    }
    let cell = (factor * factor) as u32;
    Cow::Owned(Frame::par_from_fn(reduced_size(frame.size(), factor), |x, y| {
        let mut sums = [cell / 2; 3];
        for row in y * factor..(y + 1) * factor {
            for column in x * factor..(x + 1) * factor {
                sums.iter_mut().zip(frame.pixel(column, row)).for_each(|(sum, value)| *sum += u32::from(value));
            }
        }
        sums.map(|sum| (sum / cell) as u8)
    }))
}

#[cfg(test)]
mod tests;
