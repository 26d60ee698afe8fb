//! Pictures of flow: colours, arrows, errors, warped frames, legends.

mod arrows;
mod colour;
mod error_map;
mod layout;
mod legend;
mod normalisation;
mod text;
mod warp;

pub use arrows::arrows;
pub use colour::{Colours, Zero, wheel_colour};
pub use error_map::{ErrorScale, error_map};
pub use layout::{blended, stacked};
pub use legend::{colour_legend, error_legend, overlay};
pub use normalisation::{Normalisation, Scale, Scaler};
pub use warp::{WarpPicture, beside, warp, warp_picture};

use crate::{FlowField, Frame};

/// A picture of a flow in `colours`, in which vectors of the length that `scaler` gives have full strength. Unknown pixels are
/// black.
pub fn picture(flow: &FlowField, colours: Colours, scaler: &mut Scaler) -> Frame {
    let scale = scaler.scale(flow, colours);
    colours.paint(flow, scale)
}
