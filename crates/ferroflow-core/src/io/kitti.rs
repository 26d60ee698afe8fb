//! KITTI's flow PNG (Geiger et al. 2012, also HD1K): 16-bit RGB with `u = (R - 32768) / 64`, `v = (G - 32768) / 64`,
//! known where `B > 0`. Steps of 1/64 px from -512 to just under 512.

use std::io::Cursor;

use super::{FormatError, error, frame::check_claim};
use crate::FlowField;

const FORMAT: &str = "KITTI flow PNG";

/// The largest component that can be written, px.
const LARGEST: f32 = 512.0 - 1.0 / 64.0;

/// Flow from the bytes of a 16-bit PNG.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(refused)?;
    let (width, height) = (reader.info().width, reader.info().height);
    if reader.output_color_type() != (png::ColorType::Rgb, png::BitDepth::Sixteen) {
        let (colour, depth) = reader.output_color_type();
        let what = format!(
            "this PNG is {colour:?} of {} bits, flow is RGB of 16: it may be a picture of a flow, which cannot be \
             turned back into one",
            depth as u8
        );
        return Err(FormatError::unsupported(FORMAT, what));
    }
    let size = error::check_size(FORMAT, height.into(), width.into())?;
    // Deflate makes at most 1032 bytes of one.
    check_claim(FORMAT, size, 6, bytes.len(), Some(1032))?;
    if reader.info().interlaced {
        return Err(FormatError::unsupported(FORMAT, "interlaced files are not read; save it without interlacing"));
    }
    let mut samples: Vec<[u8; 6]> = Vec::new();
    while let Some(row) = reader.next_row().map_err(refused)? {
        samples.extend_from_slice(row.data().as_chunks().0);
    }
    if samples.len() != size.pixels() {
        return Err(FormatError::malformed(FORMAT, "rows are missing"));
    }
    let component = |high, low| (f32::from(u16::from_be_bytes([high, low])) - 32768.0) / 64.0;
    Ok(FlowField::sparse_from_fn(size, |x, y| {
        let [r, rl, g, gl, b, bl] = samples[y * size.width + x];
        (b != 0 || bl != 0).then(|| (component(r, rl), component(g, gl)))
    }))
}

/// The bytes of a 16-bit PNG: rounded to 1/64 px. Vectors that are not finite are unknown.
///
/// # Errors
/// If vectors reach beyond the range of the format; see [`clip`].
pub fn encode(flow: &FlowField) -> Result<Vec<u8>, FormatError> {
    if let Some(first) = beyond(flow).next() {
        let count = out_of_range(flow);
        return Err(FormatError::Range { format: FORMAT, count, holds: "-512 to 511.98 px", first });
    }
    let mut samples = Vec::with_capacity(flow.u().len() * 6);
    for y in 0..flow.height() {
        for x in 0..flow.width() {
            let [r, g, b] = match finite(flow, x, y) {
                Some((u, v)) => [component(u), component(v), 1],
                None => [0; 3],
            };
            samples.extend([r.to_be_bytes(), g.to_be_bytes(), b.to_be_bytes()].as_flattened());
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, flow.width() as u32, flow.height() as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Sixteen);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&samples)?;
        writer.finish()
    });
    written.map_err(|e| FormatError::unsupported(FORMAT, e.to_string()))?;
    Ok(bytes)
}

/// How many vectors lie beyond what the format can hold.
pub fn out_of_range(flow: &FlowField) -> usize {
    beyond(flow).count()
}

/// The flow with every component cut to the range of the format, and how many vectors that changed.
pub fn clip(flow: &FlowField) -> (FlowField, usize) {
    let cut = |c: f32| c.clamp(-512.0, LARGEST);
    let clipped = FlowField::sparse_from_fn(flow.size(), |x, y| {
        finite(flow, x, y).map(|(u, v)| if holds(u) && holds(v) { (u, v) } else { (cut(u), cut(v)) })
    });
    (clipped, out_of_range(flow))
}

/// The pixels whose vectors lie beyond what the format can hold, row by row.
fn beyond(flow: &FlowField) -> impl Iterator<Item = (usize, usize)> {
    let pixels = (0..flow.height()).flat_map(|y| (0..flow.width()).map(move |x| (x, y)));
    pixels.filter(|&(x, y)| finite(flow, x, y).is_some_and(|(u, v)| !holds(u) || !holds(v)))
}

fn finite(flow: &FlowField, x: usize, y: usize) -> Option<(f32, f32)> {
    flow.known(x, y).filter(|(u, v)| u.is_finite() && v.is_finite())
}

/// Whether a component is in the range of the format once it is rounded.
fn holds(c: f32) -> bool {
    (0.0..=65535.0).contains(&step(c))
}

/// In f64 the sum does not lose the rounding bit.
fn step(c: f32) -> f64 {
    (f64::from(c) * 64.0 + 32768.0).round()
}

fn component(c: f32) -> u16 {
    step(c) as u16
}

fn refused(cause: png::DecodingError) -> FormatError {
    match cause {
        png::DecodingError::LimitsExceeded => FormatError::limits(FORMAT, "the decoder's memory limit is exceeded"),
        other => FormatError::malformed(FORMAT, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn multiples_of_a_64th_survive_and_the_rest_is_rounded() {
        let flow =
            FlowField::sparse_from_fn(Size::new(3, 5), |x, y| (x != 2).then_some((x as f32 - 7.25, y as f32 / 64.0)));
        assert_eq!(decode(&encode(&flow).unwrap()).unwrap(), flow);
        let fine = FlowField::from_fn(Size::new(1, 4), |x, _| {
            ([0.01, -0.01, 0.007, 511.999][x], [600.0, -600.0, 0.0, -512.0][x])
        });
        let refused = encode(&fine).unwrap_err();
        assert!(matches!(refused, FormatError::Range { count: 3, first: (0, 0), .. }), "{refused}");
        let (clipped, cut) = clip(&fine);
        let back = decode(&encode(&clipped).unwrap()).unwrap();
        assert_eq!(back.u(), [1.0 / 64.0, -1.0 / 64.0, 0.0, LARGEST]);
        assert_eq!((back.v(), cut), (&[LARGEST, -512.0, 0.0, -512.0][..], 3));
    }

    #[test]
    fn what_rounds_into_the_range_is_held_and_what_is_not_finite_is_unknown() {
        let edge =
            FlowField::from_fn(Size::new(1, 3), |x, _| ([511.99, -512.007, f32::NAN][x], [0.0, 0.0, f32::INFINITY][x]));
        let back = decode(&encode(&edge).unwrap()).unwrap();
        assert_eq!(
            back,
            FlowField::sparse_from_fn(Size::new(1, 3), |x, _| (x < 2).then(|| ([LARGEST, -512.0][x], 0.0)))
        );
        assert_eq!(clip(&edge).1, 0);
    }

    #[test]
    fn a_picture_is_no_flow() {
        let mut picture = Vec::new();
        let mut encoder = png::Encoder::new(&mut picture, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&[1, 2, 3]).unwrap();
        assert!(matches!(decode(&picture), Err(FormatError::Unsupported { .. })));
    }
}
