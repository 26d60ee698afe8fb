//! The generator as a data set: `synth:PRESET[@seed=1,size=384x512,count=N]`, endless without a count.

use ferroflow_core::{
    Size,
    memory::{self, Shortage},
};

use super::{Access, Dataset, Request};
use crate::{
    DataError, Source,
    synth::{PRESETS, Preset, Synth},
};

pub(super) const SYNTH: Dataset = Dataset {
    name: "synth",
    title: "synthetic pairs",
    path: "a preset (`ferroflow synth --help` lists them)",
    words: &["seed=", "size=", "count="],
    marks: &[],
    inner: &[],
    access: Access::Opened(open),
};

/// FlyingChairs' size.
const SIZE: Size = Size { height: 384, width: 512 };

/// Most pairs of a counted set: what orders them takes 400 MB.
const MOST: u64 = 100_000_000;

/// Refuses frames that there is no memory to draw.
///
/// # Errors
/// If there is not so much.
pub fn check_memory(size: Size) -> Result<(), Shortage> {
    // Both frames, flow and depth in floats, and some of the largest layers.
    const BYTES: u64 = 200;
    memory::check(BYTES * size.height as u64 * size.width as u64)
}

fn open(request: &Request) -> Result<Box<dyn Source>, DataError> {
    let name = request.root.to_string_lossy();
    let preset =
        Preset::named(&name).ok_or_else(|| request.wrong(format!("the presets are {}", PRESETS.join(", "))))?;
    let number = |key: &str| -> Result<Option<u64>, DataError> {
        let Some(text) = request.value(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| request.wrong(format!("{key}={text} is no whole number")))
    };
    let size = match request.value("size") {
        None => SIZE,
        Some(text) => text.parse().map_err(|error| request.wrong(format!("size={text}: {error}")))?,
    };
    check_memory(size).map_err(|shortage| request.wrong(format!("size={size}: {shortage}")))?;
    let synth = Synth::new(preset, number("seed")?.unwrap_or(1), size);
    Ok(match number("count")? {
        Some(count) if count <= MOST => Box::new(synth.take(count as usize)),
        Some(count) => {
            return Err(request.wrong(format!("count={count}: at most {MOST} are counted; without, it is endless")));
        }
        None => Box::new(synth),
    })
}
