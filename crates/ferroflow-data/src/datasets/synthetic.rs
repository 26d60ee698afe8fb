//! The generator as a data set: `synth:PRESET[@seed=1,size=384x512,count=N]`, endless without a count.

use ferroflow_core::Size;

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
    let synth = Synth::new(preset, number("seed")?.unwrap_or(1), size.width, size.height);
    Ok(match number("count")? {
        Some(count) => Box::new(synth.take(count as usize)),
        None => Box::new(synth),
    })
}
