//! Pictures as YUV4MPEG2: colours at full resolution, so that sizes may be odd.

use std::io::{self, Write};

use ferroflow_core::{Frame, Size};

use super::Rate;

/// Writes the header.
pub(super) fn write_header(out: &mut dyn Write, size: Size, rate: Rate) -> io::Result<()> {
    writeln!(out, "YUV4MPEG2 W{} H{} F{} Ip A1:1 C444", size.width, size.height, rate.ratio())
}

/// Writes a picture: BT.601 in video range, which readers assume.
pub(super) fn write_frame(out: &mut dyn Write, frame: &Frame) -> io::Result<()> {
    let (pixels, _) = frame.rgb().as_chunks::<3>();
    let mut planes = vec![0; 3 * pixels.len()];
    let (luma, chroma) = planes.split_at_mut(pixels.len());
    let (blue, red) = chroma.split_at_mut(pixels.len());
    for (i, pixel) in pixels.iter().enumerate() {
        let [r, g, b] = pixel.map(f32::from);
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        luma[i] = (16.0 + y * 219.0 / 255.0).round() as u8;
        blue[i] = (128.0 + (b - y) / 1.772 * 224.0 / 255.0).round() as u8;
        red[i] = (128.0 + (r - y) / 1.402 * 224.0 / 255.0).round() as u8;
    }
    out.write_all(b"FRAME\n")?;
    out.write_all(&planes)
}
