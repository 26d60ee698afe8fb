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
use crate::{DataError, Sample};

/// A random change of a sample that keeps frames, flow and masks consistent.
pub trait Augment: Send + Sync {
    /// Size of what comes out; `None` keeps or depends on the input's.
    fn size(&self) -> Option<Size>;

    /// The sample changed by draws from `random`; `iteration` is the training step, for schedules.
    fn apply(&self, sample: Sample, random: &mut Random, iteration: u64) -> Result<Sample, DataError>;
}

/// Names accepted by [`named`].
pub const NAMES: [&str; 15] = [
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
];

/// The augmentation of that name, which crops to `crop`.
pub fn named(name: &str, crop: Size) -> Option<Box<dyn Augment>> {
    Some(match name {
        "none" => Box::new(Keep),
        "crop" => Box::new(Crop(crop)),
        "center" => Box::new(Center(crop)),
        "flownet" => Box::new(flownet::FlowNet { crop }),
        "tfoptflow-basic" => Box::new(tfoptflow::Tfoptflow { crop, heavy: false }),
        "tfoptflow-heavy" => Box::new(tfoptflow::Tfoptflow { crop, heavy: true }),
        "lightflow" => Box::new(lightflow::LightFlow { crop, sparse: false }),
        "lightflow-sparse" => Box::new(lightflow::LightFlow { crop, sparse: true }),
        "uflow" => Box::new(uflow::UFlow { crop, geometric: false }),
        "uflow-geometric" => Box::new(uflow::UFlow { crop, geometric: true }),
        "uflow-photometric" => Box::new(Whole { size: crop, loader: Loader::Google, flip: false }),
        "uflow-flip" => Box::new(Whole { size: crop, loader: Loader::Google, flip: true }),
        "uflow-mindspore" => Box::new(Whole { size: crop, loader: Loader::MindSpore, flip: false }),
        "uflow-mindspore-flip" => Box::new(Whole { size: crop, loader: Loader::MindSpore, flip: true }),
        "raft" => Box::new(raft::Raft::new(crop)),
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
pub struct Crop(pub Size);

impl Augment for Crop {
    fn size(&self) -> Option<Size> {
        Some(self.0)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        let at = origin(&sample.id, sample.first.size(), self.0, random)?;
        Ok(Pair::from_sample(&sample).crop(at, self.0).into_sample(sample.id))
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
