//! NumPy's `.npy` (format versions 1 to 3): float32 or float64, little-endian, C order, of shape `(H, W, 2)` or
//! `(2, H, W)`. Written as float32 `(H, W, 2)`, version 1, NaN where the flow is unknown.

use super::{FormatError, error, known_motion};
use crate::FlowField;

const FORMAT: &str = ".npy";

/// The first six bytes of a file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Flow from the bytes of a `.npy` file. Shape `(2, H, 2)` is taken as rows of pixels, `(H, W, 2)`.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let (header, body) = split_header(bytes)?;
    let array = Header::parse(header)?;
    error::check_body(FORMAT, array.values() * array.size as u128, body.len())?;
    let at = |i: usize| match array.size {
        4 => f32::from_le_bytes(body.as_chunks().0[i]),
        _ => f64::from_le_bytes(body.as_chunks().0[i]) as f32,
    };
    let pixels = array.width * array.height;
    Ok(FlowField::sparse_from_fn(array.width, array.height, |x, y| {
        let i = y * array.width + x;
        if array.interleaved { known_motion(at(2 * i), at(2 * i + 1)) } else { known_motion(at(i), at(pixels + i)) }
    }))
}

/// The bytes of a `.npy` file.
pub fn encode(flow: &FlowField) -> Vec<u8> {
    let mut dict =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}, 2), }}", flow.height(), flow.width());
    // NumPy aligns the values to 64 bytes.
    while (10 + dict.len() + 1) % 64 != 0 {
        dict.push(' ');
    }
    dict.push('\n');
    let mut bytes = Vec::with_capacity(10 + dict.len() + flow.u().len() * 8);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(dict.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dict.as_bytes());
    for (u, v) in super::pairs_or(flow, f32::NAN) {
        bytes.extend_from_slice(&u.to_le_bytes());
        bytes.extend_from_slice(&v.to_le_bytes());
    }
    bytes
}

fn split_header(bytes: &[u8]) -> Result<(&str, &[u8]), FormatError> {
    let cut = || FormatError::malformed(FORMAT, "the header is cut short");
    let rest =
        bytes.strip_prefix(MAGIC).ok_or_else(|| FormatError::malformed(FORMAT, "the magic bytes are missing"))?;
    let (&[major, _], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(n, r)| (u16::from_le_bytes(*n) as usize, r)).ok_or_else(cut)?,
        2 | 3 => rest.split_first_chunk().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)).ok_or_else(cut)?,
        _ => {
            return Err(FormatError::unsupported(
                FORMAT,
                format!("format version {major} is not known, save as version 1"),
            ));
        }
    };
    let (header, body) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| FormatError::malformed(FORMAT, "the header is not text"))?;
    Ok((header, body))
}

/// What the header's dictionary says, as far as a flow needs it.
struct Header {
    width: usize,
    height: usize,
    /// `(H, W, 2)` rather than `(2, H, W)`.
    interleaved: bool,
    /// Bytes of a value, 4 or 8.
    size: usize,
}

impl Header {
    fn parse(header: &str) -> Result<Self, FormatError> {
        let value = |key: &str| -> Result<&str, FormatError> {
            let missing = || FormatError::malformed(FORMAT, format!("the header has no '{key}'"));
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let after = quoted.iter().find_map(|k| header.split_once(k.as_str())).ok_or_else(missing)?.1;
            Ok(after.trim_start().strip_prefix(':').ok_or_else(missing)?.trim_start())
        };
        let size = match value("descr")?.get(1..4) {
            Some("<f4") => 4,
            Some("<f8") => 8,
            _ => {
                let what = "the values are not little-endian float32 or float64; save array.astype('<f4')";
                return Err(FormatError::unsupported(FORMAT, what));
            }
        };
        if !value("fortran_order")?.starts_with("False") {
            let what = "the values are in Fortran order; save numpy.ascontiguousarray(array)";
            return Err(FormatError::unsupported(FORMAT, what));
        }
        let inside = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')'));
        let inside = inside.ok_or_else(|| FormatError::malformed(FORMAT, "the shape is not a tuple"))?.0;
        let sides: Result<Vec<i64>, _> =
            inside.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect();
        let sides = sides
            .map_err(|_| FormatError::malformed(FORMAT, format!("the shape ({inside}) is not of whole numbers")))?;
        let (width, height, interleaved) = match sides[..] {
            [height, width, 2] => (width, height, true),
            [2, height, width] => (width, height, false),
            _ => {
                let what = format!("an array of shape ({inside}) is no flow; flow is (H, W, 2) or (2, H, W)");
                return Err(FormatError::unsupported(FORMAT, what));
            }
        };
        let (width, height) = error::check_size(FORMAT, width, height)?;
        Ok(Self { width, height, interleaved, size })
    }

    fn values(&self) -> u128 {
        self.width as u128 * self.height as u128 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, dict: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[version, 0]].concat();
        match version {
            1 => bytes.extend((dict.len() as u16).to_le_bytes()),
            _ => bytes.extend((dict.len() as u32).to_le_bytes()),
        }
        bytes.extend(dict.as_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn round_trip_is_aligned_as_numpy_aligns() {
        let flow = FlowField::sparse_from_fn(4, 3, |x, y| (x != 1).then_some((x as f32, y as f32 * 0.25)));
        let bytes = encode(&flow);
        assert_eq!((bytes.len() - 4 * 3 * 8) % 64, 0);
        assert_eq!(decode(&bytes).unwrap(), flow);
    }

    #[test]
    fn planes_doubles_and_version_2_are_read() {
        let values: Vec<u8> = [1.0f64, 2.0, 3.0, -1.0, -2.0, -3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let planes = file(2, "{\"shape\": (2, 1, 3), 'fortran_order': False, 'descr': '<f8'}", &values);
        let flow = decode(&planes).unwrap();
        assert_eq!((flow.u(), flow.v()), (&[1.0, 2.0, 3.0][..], &[-1.0, -2.0, -3.0][..]));
    }

    #[test]
    fn other_arrays_are_refused_with_the_remedy() {
        let refused = |dict: &str| decode(&file(1, dict, &[0; 16])).unwrap_err();
        for (dict, word) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2, 2)}", "astype"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2, 2)}", "ascontiguousarray"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", "(H, W, 2)"),
        ] {
            let error = refused(dict);
            assert!(matches!(error, FormatError::Unsupported { .. }) && error.to_string().contains(word), "{error}");
        }
        for shape in ["(-1, 2, 2)", "(0, 2, 2)", "(nan, 2, 2)", "(99999, 99999, 2)", "(9", "9)"] {
            let error = refused(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"));
            assert!(matches!(error, FormatError::Malformed { .. }), "{shape}: {error}");
        }
        let huge =
            refused("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807, 2)}");
        assert!(matches!(huge, FormatError::Limits { .. }));
        assert!(
            decode(&file(2, "", &[])).is_err() && decode(&[&MAGIC[..], &[2, 0, 255, 255, 255, 255]].concat()).is_err()
        );
    }
}
