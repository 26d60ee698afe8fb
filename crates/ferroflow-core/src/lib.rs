//! Frames, flow fields and masks, with their file formats, metrics and pictures.
//!
//! The public unit is the pixel of the input image: `flow(x)` says where pixel `x` of frame 1 went in frame 2.
//!
//! ```no_run
//! use ferroflow_core::{io, metrics::{Metrics, Tally, Truth}, viz::{Colours, Normalisation, Scaler, picture}};
//!
//! let flow = io::read_flow("estimate.flo")?;
//! io::write_frame("estimate.png", &picture(&flow, Colours::default(), &mut Scaler::new(Normalisation::Frame)))?;
//! let truth = io::read_flow("truth.png")?;
//! println!("{:?} px", Metrics::of(&Tally::of(&flow, &Truth::new(&truth))?).epe);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod carry;
pub mod consistency;
pub mod field;
pub mod frame;
pub mod geometry;
pub mod io;
pub mod memory;
pub mod metrics;
pub mod sampling;
mod size;
mod view;
pub mod viz;

pub use field::{FlowField, Mask};
pub use frame::Frame;
pub use size::{ParseSizeError, Size};
pub use view::FrameView;

/// Sizes that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected} values, found {found}")]
pub struct SizeError {
    /// Which buffer has the wrong length.
    pub what: &'static str,
    /// The length that width and height ask for.
    pub expected: usize,
    /// The length given.
    pub found: usize,
}

pub(crate) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), SizeError> {
    if expected == found { Ok(()) } else { Err(SizeError { what, expected, found }) }
}
