//! Tiles from the user's own pictures.

use std::path::Path;
use std::sync::Arc;

use ferroflow_core::geometry::resize::{Grid, resize, resize_frame};
use ferroflow_core::io::{read_bytes, read_frame};
use ferroflow_core::{Frame, Size};

use super::Tile;
use crate::DataError;
use crate::sequence::image_files;

/// Texels along the side of a picture inside its mirrored tile.
const SIDE: usize = 512;
/// Texels along the longer side of a cut-out, and along its tile.
const CUTOUT: (usize, usize) = (252, 256);

/// A cut-out object: its tile and the share of the tile's width and height that it fills, centred.
#[derive(Clone, Debug)]
pub struct Cutout {
    /// Picture with alpha.
    pub tile: Arc<Tile>,
    /// Height and width in texels.
    pub size: Size,
}

/// Every picture of a folder as a texture, mirrored at its borders so that it repeats without seams.
pub fn textures(folder: &Path) -> Result<Vec<Arc<Tile>>, DataError> {
    image_files(folder)?.iter().map(|path| Ok(Arc::new(mirrored(&read_frame(path)?)))).collect()
}

fn mirrored(frame: &Frame) -> Tile {
    let frame = halved(frame);
    let picture = resize_frame(&frame, Size::new(SIDE, SIDE), Grid::HalfPixel);
    let fold = |i: usize| if i < SIDE { i } else { 2 * SIDE - 1 - i };
    let texels = (0..4 * SIDE * SIDE).map(|i| {
        let [r, g, b] = picture.pixel(fold(i % (2 * SIDE)), fold(i / (2 * SIDE)));
        [r, g, b, 255]
    });
    Tile::new(2 * SIDE, texels.collect())
}

/// Halved until bilinear resizing no longer skips pixels.
fn halved(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    while frame.width() >= 2 * SIDE && frame.height() >= 2 * SIDE {
        // On the half-pixel grid, half size is the mean of each block of four.
        frame = resize_frame(&frame, frame.size().map(|side| side / 2), Grid::HalfPixel);
    }
    frame
}

/// Every picture of a folder as a flying object; its alpha channel says where it is solid.
pub fn cutouts(folder: &Path) -> Result<Vec<Cutout>, DataError> {
    image_files(folder)?.iter().map(|path| cutout(path)).collect()
}

fn cutout(path: &Path) -> Result<Cutout, DataError> {
    let bytes = read_bytes(path)?;
    let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes));
    reader = reader.with_guessed_format().map_err(|e| DataError::io(path, e))?;
    reader.limits(image::Limits::default());
    let picture = reader.decode().map_err(|e| DataError::io(path, std::io::Error::other(e)))?;
    let picture = picture.to_rgba8();
    let whole = Size { height: picture.height() as usize, width: picture.width() as usize };
    let scale = CUTOUT.0 as f32 / whole.width.max(whole.height) as f32;
    let size = whole.map(|side| ((side as f32 * scale) as usize).max(1));
    // Colours weighted by alpha, so that what lies behind the cut does not bleed in.
    let weighted: Vec<f32> = picture
        .pixels()
        .flat_map(|p| {
            let alpha = f32::from(p.0[3]) / 255.0;
            [f32::from(p.0[0]) * alpha, f32::from(p.0[1]) * alpha, f32::from(p.0[2]) * alpha, alpha]
        })
        .collect();
    let small = resize(&weighted, whole, 4, size, Grid::HalfPixel);
    let total = small.chunks_exact(4).fold([0.0f32; 4], |sum, p| std::array::from_fn(|k| sum[k] + p[k]));
    let mean: [u8; 3] = std::array::from_fn(|k| (total[k] / total[3].max(1e-6)).clamp(0.0, 255.0) as u8);
    let mut texels = vec![[mean[0], mean[1], mean[2], 0]; CUTOUT.1 * CUTOUT.1];
    let (left, top) = ((CUTOUT.1 - size.width) / 2, (CUTOUT.1 - size.height) / 2);
    for (i, p) in small.chunks_exact(4).enumerate() {
        if p[3] > 0.004 {
            let byte = |k: usize| (p[k] / p[3] + 0.5).clamp(0.0, 255.0) as u8;
            let at = (top + i / size.width) * CUTOUT.1 + left + i % size.width;
            texels[at] = [byte(0), byte(1), byte(2), (p[3] * 255.0 + 0.5).min(255.0) as u8];
        }
    }
    Ok(Cutout { tile: Arc::new(Tile::new(CUTOUT.1, texels)), size })
}
