//! Flow, frames and masks as files. The content says how a file is read, the extension how it is written. Each format has a
//! function `decode` on bytes, and `encode` if it is written.

mod error;
pub mod exr;
mod file;
pub mod flo;
pub mod flo5;
pub mod frame;
mod kind;
pub mod kitti;
pub mod npy;
pub mod npz;
pub mod outputs;
pub mod pfm;

use std::{borrow::Cow, path::Path};

pub use error::{FormatError, IoError, MAX_SIDE};
pub use file::{Replacement, read_bytes, read_text, write_bytes, write_durably, write_with};
pub use frame::{Orientation, check_frame_name, read_frame, read_frame_as, read_mask, write_frame, write_mask};
pub use kind::what_it_is;
pub use outputs::{OutputError, Outputs};

use crate::{FlowField, field::is_motion};

/// The file formats of flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowFormat {
    /// Middlebury `.flo`.
    Flo,
    /// Portable float map.
    Pfm,
    /// KITTI's 16-bit PNG: 1/64 px, at most 512 px.
    Kitti,
    /// NumPy array.
    Npy,
    /// NumPy archive.
    Npz,
    /// OpenEXR motion vectors.
    Exr,
    /// Spring's ground truth: HDF5 of twice the resolution of the frames. Read, never written.
    Flo5,
}

impl FlowFormat {
    /// Every format that is written.
    pub const WRITTEN: [Self; 6] = [Self::Flo, Self::Pfm, Self::Kitti, Self::Npy, Self::Npz, Self::Exr];

    /// The file extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Flo => "flo",
            Self::Pfm => "pfm",
            Self::Kitti => "png",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Exr => "exr",
            Self::Flo5 => "flo5",
        }
    }

    /// The format that the extension of a file to be written asks for.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let extension = extension(path.as_ref());
        Self::WRITTEN.into_iter().find(|f| f.extension() == extension).ok_or_else(|| {
            let what =
                format!("'.{extension}' is no flow format; use .flo, .pfm, .png (KITTI, 16 bits), .npy, .npz or .exr");
            FormatError::unsupported("flow", what)
        })
    }

    /// The format that a file's first bytes show.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        const FIRST: [(&[u8], FlowFormat); 9] = [
            (flo::MAGIC, FlowFormat::Flo),
            (b"PF", FlowFormat::Pfm),
            (b"Pf", FlowFormat::Pfm),
            (b"\x89PNG", FlowFormat::Kitti),
            (npy::MAGIC, FlowFormat::Npy),
            (b"PK\x03\x04", FlowFormat::Npz),
            (b"PK\x05\x06", FlowFormat::Npz),
            (exr::MAGIC, FlowFormat::Exr),
            (flo5::MAGIC, FlowFormat::Flo5),
        ];
        FIRST.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| format)
    }

    /// Flow from the bytes of a file of this format.
    pub fn decode(self, bytes: &[u8]) -> Result<FlowField, FormatError> {
        match self {
            Self::Flo => flo::decode(bytes),
            Self::Pfm => pfm::decode(bytes),
            Self::Kitti => kitti::decode(bytes),
            Self::Npy => npy::decode(bytes),
            Self::Npz => npz::decode(bytes),
            Self::Exr => exr::decode(bytes),
            Self::Flo5 => flo5::decode(bytes),
        }
    }

    /// The flow cut to what the format holds, and how many vectors that changed. Only KITTI's has a range.
    pub fn clip(self, flow: &FlowField) -> (Cow<'_, FlowField>, usize) {
        match self {
            Self::Kitti => {
                let (clipped, count) = kitti::clip(flow);
                (Cow::Owned(clipped), count)
            }
            Self::Flo | Self::Pfm | Self::Npy | Self::Npz | Self::Exr | Self::Flo5 => (Cow::Borrowed(flow), 0),
        }
    }

    /// The bytes of a file of this format.
    ///
    /// # Errors
    /// If the flow has no pixels or holds vectors that the format cannot hold, or if the format is only read.
    pub fn encode(self, flow: &FlowField) -> Result<Vec<u8>, FormatError> {
        if flow.u().is_empty() || flow.width().max(flow.height()) > MAX_SIDE {
            let what = format!("a flow of {} cannot be written", flow.size());
            return Err(FormatError::unsupported("flow", what));
        }
        match self {
            Self::Flo => Ok(flo::encode(flow)),
            Self::Pfm => pfm::encode(flow),
            Self::Kitti => kitti::encode(flow),
            Self::Npy => Ok(npy::encode(flow)),
            Self::Npz => npz::encode(flow),
            Self::Exr => exr::encode(flow),
            Self::Flo5 => Err(FormatError::unsupported(flo5::FORMAT, "it is read, not written: write .flo or .npy")),
        }
    }
}

/// Flow from the bytes of a file of any format.
pub fn decode_flow(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let format = FlowFormat::of_bytes(bytes).ok_or_else(|| {
        let what = what_it_is(bytes).map_or(String::new(), |what| format!("; it is {what}"));
        let read = "not a flow file that is read here: .flo, .pfm, KITTI 16-bit .png, .npy, .npz, .exr, .flo5";
        FormatError::unsupported("flow", format!("{read}{what}"))
    })?;
    format.decode(bytes)
}

/// Flow from a file, by its content.
pub fn read_flow(path: impl AsRef<Path>) -> Result<FlowField, IoError> {
    let path = path.as_ref();
    decode_flow(&read_bytes(path)?).map_err(|cause| IoError::Format { path: path.into(), cause })
}

/// Writes a flow in the format of the extension: flo, pfm, png (KITTI), npy, npz, exr.
pub fn write_flow(path: impl AsRef<Path>, flow: &FlowField) -> Result<(), IoError> {
    let path = path.as_ref();
    let encoded = FlowFormat::of_path(path).and_then(|format| format.encode(flow));
    write_bytes(path, &encoded.map_err(|cause| IoError::Format { path: path.into(), cause })?)
}

/// As [`write_flow`]; with `clip`, vectors are first cut to what the format holds. Returns how many were cut.
pub fn write_flow_within(path: impl AsRef<Path>, flow: &FlowField, clip: bool) -> Result<usize, IoError> {
    let path = path.as_ref();
    if !clip {
        return write_flow(path, flow).map(|()| 0);
    }
    let format = FlowFormat::of_path(path).map_err(|cause| IoError::Format { path: path.into(), cause })?;
    let (clipped, count) = format.clip(flow);
    write_flow(path, &clipped)?;
    Ok(count)
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// The rule for unknown flow in formats without a mask: a component of 1e9 or more, or not a number.
fn known_motion(u: f32, v: f32) -> Option<(f32, f32)> {
    is_motion(u, v).then_some((u, v))
}

/// Row by row `(u, v)`, both `unknown` where the flow is.
fn pairs_or(flow: &FlowField, unknown: f32) -> impl Iterator<Item = (f32, f32)> {
    let known = flow.validity().map(|m| m.data());
    let pairs = flow.u().iter().copied().zip(flow.v().iter().copied());
    pairs.enumerate().map(move |(i, pair)| if known.is_none_or(|k| k[i]) { pair } else { (unknown, unknown) })
}
