//! What is to be known of a folder of arrays: the arguments that `run` and `score` share.

use std::path::Path;

use ferroflow::core::Size;
use ferroflow::infer::offline::{Format, Hints, Layout, OfflineError, Prepared};

use crate::bounds;

/// The layouts by their names.
pub const LAYOUTS: [&str; 3] = ["images", "flownet2", "pwcnet"];

/// The layout of this name, one of [`LAYOUTS`].
pub fn layout(name: &str) -> Layout {
    match name {
        "flownet2" => Layout::Flownet2,
        "pwcnet" => Layout::Pwcnet,
        _ => Layout::Images,
    }
}

/// The formats of arrays by their names.
pub const FORMATS: [&str; 2] = ["bin", "npy"];

/// The format of this name, one of [`FORMATS`].
pub fn format(name: &str) -> Format {
    if name == "bin" { Format::Bin } else { Format::Npy }
}

/// What a folder without `pairs.json` does not tell by itself.
#[derive(clap::Args)]
#[command(next_help_heading = "Folders without pairs.json")]
pub struct HintArgs {
    /// The arrays. Default: what the names of folders and files say
    #[arg(long, value_parser = LAYOUTS)]
    layout: Option<String>,
    /// Size of the frames without their padding
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// Sides are padded to multiples of this number of pixels
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = bounds::from_one::<{ bounds::STRIDE }>)]
    stride: usize,
    /// Pairs in a file
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = bounds::from_one::<{ bounds::BATCH }>)]
    batch: usize,
}

impl HintArgs {
    /// Opens a folder.
    pub fn open(&self, folder: &Path) -> Result<Prepared, OfflineError> {
        let layout = self.layout.as_deref().map(layout);
        Prepared::open(folder, &Hints { layout, size: self.size, stride: self.stride, batch: self.batch })
    }
}
