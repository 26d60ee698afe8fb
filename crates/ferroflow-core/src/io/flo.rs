//! Middlebury `.flo` (Baker et al., IJCV 2011): `PIEH`, int32 width, int32 height, then rows of `(u, v)` float32, all
//! little-endian. A pixel with `|u|` or `|v|` of 1e9 or more, or not a number, is unknown; 1e10 is written there.

use super::{FormatError, error, known_motion};
use crate::FlowField;

const FORMAT: &str = ".flo";

/// The float32 202021.25, which reads `PIEH`.
pub const MAGIC: &[u8; 4] = b"PIEH";

/// What is written for a pixel whose flow is unknown.
pub const UNKNOWN: f32 = 1e10;

/// Flow from the bytes of a `.flo` file.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let Some((header, body)) = bytes.split_first_chunk::<12>() else {
        return Err(FormatError::malformed(FORMAT, format!("{} bytes are too few for the header of 12", bytes.len())));
    };
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    if &word(0) != MAGIC {
        return Err(FormatError::malformed(FORMAT, "the first four bytes are not PIEH"));
    }
    let claimed = |at| i64::from(i32::from_le_bytes(word(at)));
    let size = error::check_size(FORMAT, claimed(8), claimed(4))?;
    error::check_body(FORMAT, size.height as u128 * size.width as u128 * 8, body.len())?;
    let (pairs, _) = body.as_chunks::<8>();
    Ok(FlowField::sparse_from_fn(size, |x, y| {
        let [a, b, c, d, e, f, g, h] = pairs[y * size.width + x];
        known_motion(f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]))
    }))
}

/// The bytes of a `.flo` file.
pub fn encode(flow: &FlowField) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + flow.u().len() * 8);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(flow.width() as i32).to_le_bytes());
    bytes.extend_from_slice(&(flow.height() as i32).to_le_bytes());
    for (u, v) in super::pairs_or(flow, UNKNOWN) {
        bytes.extend_from_slice(&u.to_le_bytes());
        bytes.extend_from_slice(&v.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn the_bytes_are_those_of_the_definition() {
        let flow = FlowField::from_fn(Size::new(1, 2), |x, _| (x as f32 + 0.5, -1.0));
        let bytes = encode(&flow);
        assert_eq!(bytes.len(), 12 + 8 * 2);
        assert_eq!(f32::from_le_bytes(bytes[..4].try_into().unwrap()), 202021.25);
        assert_eq!(bytes[4..12], [2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[12..20], [0, 0, 0, 0x3f, 0, 0, 0x80, 0xbf]);
        assert_eq!(decode(&bytes).unwrap(), flow);
    }

    #[test]
    fn unknown_pixels_survive() {
        let flow = FlowField::sparse_from_fn(Size::new(2, 3), |x, y| (x != y).then_some((x as f32, y as f32)));
        let bytes = encode(&flow);
        assert_eq!(f32::from_le_bytes(bytes[12..16].try_into().unwrap()), 1e10);
        assert_eq!(decode(&bytes).unwrap(), flow);
        let mut nan = encode(&FlowField::zeros(Size::new(1, 1)));
        nan[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(!decode(&nan).unwrap().is_valid(0, 0));
    }
}
