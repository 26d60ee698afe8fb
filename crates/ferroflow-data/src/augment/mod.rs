//! The augmentations of the projects, one file for each.
//!
//! Every step separates its random draws from their effect. The effect is a function of (pair, draws), which can be checked
//! against the originals; the whole is a function of (sample, random stream, iteration).

pub mod flownet;
mod image;
pub mod lightflow;
pub mod raft;
pub mod tfoptflow;
pub mod uflow;
mod uflow_whole;

pub use image::{Image, Pair};

use ferroflow_core::Size;

use self::uflow_whole::{Loader, Whole};
use crate::random::Random;
use crate::{DataError, Sample, Surround};

/// A random change of a sample that keeps frames, flow and masks consistent.
pub trait Augment: Send + Sync {
    /// Size of what comes out; `None` keeps or depends on the input's.
    fn size(&self) -> Option<Size>;

    /// The sample changed by draws from `random`; `iteration` is the training step, for schedules.
    fn apply(&self, sample: Sample, random: &mut Random, iteration: u64) -> Result<Sample, DataError>;
}

/// Names accepted by [`named`].
pub const NAMES: [&str; 18] = [
    "none",
    "crop",
    "center",
    "flownet",
    "tfoptflow-basic",
    "tfoptflow-heavy",
    "lightflow",
    "lightflow-sparse",
    "uflow",
    "uflow-geometric",
    "uflow-photometric",
    "uflow-flip",
    "uflow-mindspore",
    "uflow-mindspore-flip",
    "raft",
    "raft-things",
    "raft-sintel",
    "raft-kitti",
];

/// Those that cut frames out of larger ones, and can [keep](Beside::surround) these.
pub const CROPPING: [&str; 3] = ["crop", "uflow", "uflow-geometric"];

/// What an augmentation keeps beside the frames that it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The frames without changes of colour ([`Sample::original`]), where it makes any.
    pub original: bool,
    /// What they were cut out of ([`Sample::surround`]); only those of [`CROPPING`] do.
    pub surround: bool,
}

impl Beside {
    fn any(self) -> bool {
        self.original || self.surround
    }

    /// The sample with what is kept of the `plain` images, which it was cut out of at `windows`.
    fn keep(self, sample: Sample, plain: Option<&[Image; 2]>, windows: [(usize, usize); 2], crop: Size) -> Sample {
        let Some(plain) = plain else { return sample };
        let cut = |frame: usize| plain[frame].crop(windows[frame], crop).to_frame();
        let whole = || Surround { frames: plain.each_ref().map(Image::to_frame), at: windows };
        Sample { original: self.original.then(|| [cut(0), cut(1)]), surround: self.surround.then(whole), ..sample }
    }
}

/// The augmentation of that name, which crops to `crop`.
pub fn named(name: &str, crop: Size, beside: Beside) -> Option<Box<dyn Augment>> {
    Some(match name {
        "none" => Box::new(Keep),
        "crop" => Box::new(Crop { size: crop, beside }),
        "center" => Box::new(Center(crop)),
        "flownet" => Box::new(flownet::FlowNet { crop }),
        "tfoptflow-basic" => Box::new(tfoptflow::Tfoptflow { crop, heavy: false }),
        "tfoptflow-heavy" => Box::new(tfoptflow::Tfoptflow { crop, heavy: true }),
        "lightflow" => Box::new(lightflow::LightFlow { crop, sparse: false }),
        "lightflow-sparse" => Box::new(lightflow::LightFlow { crop, sparse: true }),
        "uflow" => Box::new(uflow::UFlow { crop, geometric: false, beside }),
        "uflow-geometric" => Box::new(uflow::UFlow { crop, geometric: true, beside }),
        "uflow-photometric" => Box::new(Whole { size: crop, loader: Loader::Google, flip: false, beside }),
        "uflow-flip" => Box::new(Whole { size: crop, loader: Loader::Google, flip: true, beside }),
        "uflow-mindspore" => Box::new(Whole { size: crop, loader: Loader::MindSpore, flip: false, beside }),
        "uflow-mindspore-flip" => Box::new(Whole { size: crop, loader: Loader::MindSpore, flip: true, beside }),
        "raft" => Box::new(raft::Raft::new(crop)),
        "raft-things" => Box::new(raft::Raft::things(crop)),
        "raft-sintel" => Box::new(raft::Raft::sintel(crop)),
        "raft-kitti" => Box::new(raft::Raft::kitti(crop)),
        _ => return None,
    })
}

/// Leaves samples unchanged.
pub struct Keep;

impl Augment for Keep {
    fn size(&self) -> Option<Size> {
        None
    }

    fn apply(&self, sample: Sample, _: &mut Random, _: u64) -> Result<Sample, DataError> {
        Ok(sample)
    }
}

/// A random window of the given size, the same in both frames.
pub struct Crop {
    /// Of the window.
    pub size: Size,
    /// What is kept beside it.
    pub beside: Beside,
}

impl Augment for Crop {
    fn size(&self) -> Option<Size> {
        Some(self.size)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        let at = origin(&sample.id, sample.first.size(), self.size, random)?;
        let pair = Pair::from_sample(&sample);
        // No colours are changed.
        let plain = self.beside.surround.then(|| pair.images.clone());
        let beside = Beside { original: false, ..self.beside };
        Ok(beside.keep(pair.crop(at, self.size).into_sample(sample.id), plain.as_ref(), [at; 2], self.size))
    }
}

/// The window of the given size at the centre, the same in both frames; an odd pixel is left over to the right and below (NVIDIA and
/// MindSpore FlowNet2).
pub struct Center(pub Size);

impl Augment for Center {
    fn size(&self) -> Option<Size> {
        Some(self.0)
    }

    fn apply(&self, sample: Sample, _: &mut Random, _: u64) -> Result<Sample, DataError> {
        let (size, crop) = (sample.first.size(), self.0);
        fits(&sample.id, size, crop)?;
        let at = ((size.width - crop.width) / 2, (size.height - crop.height) / 2);
        Ok(Pair::from_sample(&sample).crop(at, crop).into_sample(sample.id))
    }
}

/// A uniform top left corner, (x, y), for a crop that fits.
fn origin(id: &str, size: Size, crop: Size, random: &mut Random) -> Result<(usize, usize), DataError> {
    fits(id, size, crop)?;
    let x = random.between(0, size.width - crop.width);
    Ok((x, random.between(0, size.height - crop.height)))
}

fn fits(id: &str, size: Size, crop: Size) -> Result<(), DataError> {
    if crop.height == 0 || crop.width == 0 || crop.height > size.height || crop.width > size.width {
        return Err(DataError::Crop { id: id.into(), size, crop });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
