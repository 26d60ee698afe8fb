//! Portable float maps: a text header `PF` (3 channels) or `Pf` (1), `width height`, `scale`, then float32 rows from
//! the bottom up. A negative scale means little-endian; its magnitude is ignored, as every flow reader does.
//!
//! Lines of the header may end in blanks and be comments (`#`), and a few bytes may follow the values: readers that go line
//! by line take such files, so they exist.
//!
//! A flow is the first two channels of three (FlyingThings3D, ChairsSDHom); the third is written as 0.

use super::{FormatError, error, known_motion};
use crate::{FlowField, Size};

const FORMAT: &str = ".pfm";

/// A float map of 1 or 3 channels, rows top to bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[height, width, channels]`.
    pub data: Vec<f32>,
}

/// A float map from the bytes of a `.pfm` file.
pub fn decode_map(bytes: &[u8]) -> Result<Map, FormatError> {
    let bad = |what: &str| FormatError::malformed(FORMAT, what);
    let mut rest = bytes;
    let channels = match next_word(&mut rest)?.0 {
        "PF" => 3,
        "Pf" => 1,
        _ => return Err(bad("the first line is neither PF nor Pf")),
    };
    let mut side = || next_word(&mut rest)?.0.parse::<i64>().map_err(|_| bad("the size is not two whole numbers"));
    let (width, height) = (side()?, side()?);
    let Size { height, width } = error::check_size(FORMAT, height, width)?;
    let (scale, ended) = next_word(&mut rest)?;
    let scale: f64 = scale.parse().map_err(|_| bad("the scale is not a number"))?;
    if !scale.is_finite() || scale == 0.0 {
        return Err(bad("the scale is zero or not finite, so the byte order is unknown"));
    }
    let expected = width as u128 * height as u128 * channels as u128 * 4;
    let mut body = rest;
    if body.len() as u128 > expected {
        // The values begin after the byte that ends the scale, or the line that it stands on if there are blanks yet.
        let blanks = body.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        let line = if body.get(blanks) == Some(&b'\n') { blanks + 1 } else { 0 };
        if ended != b'\n' && (body.len() - line) as u128 >= expected {
            body = &body[line..];
        }
        // Less than a row or a column too much is no wrong size.
        let spare = body.len() as u128 - expected;
        if spare < (4 * channels * width.min(height)) as u128 {
            body = &body[..body.len() - spare as usize];
        }
    }
    error::check_body(FORMAT, expected, body.len())?;
    let (values, _) = body.as_chunks::<4>();
    let mut data = Vec::with_capacity(values.len());
    for row in values.chunks_exact(width * channels).rev() {
        if scale < 0.0 {
            data.extend(row.iter().map(|&b| f32::from_le_bytes(b)));
        } else {
            data.extend(row.iter().map(|&b| f32::from_be_bytes(b)));
        }
    }
    Ok(Map { width, height, channels, data })
}

/// Takes one word of the header and the byte of whitespace that ends it (a carriage return before a line feed too); that
/// byte is returned with it.
fn next_word<'a>(rest: &mut &'a [u8]) -> Result<(&'a str, u8), FormatError> {
    // No word of a header is longer, no run of blanks or comment either; damaged files must not be searched to their end.
    const LONGEST: usize = 64;
    const LONGEST_COMMENT: usize = 4096;
    let endless = || FormatError::malformed(FORMAT, "the text header does not end");
    let mut word = *rest;
    loop {
        word = &word[word.iter().take(LONGEST).take_while(|b| b.is_ascii_whitespace()).count()..];
        if word.first() != Some(&b'#') {
            break;
        }
        word = &word[word.iter().take(LONGEST_COMMENT).position(|&b| b == b'\n').ok_or_else(endless)?..];
    }
    let length = word.iter().take(LONGEST).position(|b| b.is_ascii_whitespace()).ok_or_else(endless)?;
    let after = &word[length..];
    let (ended, after) = if after.starts_with(b"\r\n") { (b'\n', &after[2..]) } else { (after[0], &after[1..]) };
    *rest = after;
    let word = std::str::from_utf8(&word[..length]);
    Ok((word.map_err(|_| FormatError::malformed(FORMAT, "the header is not text"))?, ended))
}

/// The bytes of a `.pfm` file, little-endian.
pub fn encode_map(map: &Map) -> Result<Vec<u8>, FormatError> {
    let kind = match map.channels {
        3 => "PF",
        1 => "Pf",
        n => return Err(FormatError::unsupported(FORMAT, format!("{n} channels cannot be written, only 1 or 3"))),
    };
    let row = map.width * map.channels;
    if map.data.len() != row * map.height || row == 0 {
        let what = format!("{} values are not {}x{}x{}", map.data.len(), map.height, map.width, map.channels);
        return Err(FormatError::unsupported(FORMAT, what));
    }
    let mut bytes = format!("{kind}\n{} {}\n-1\n", map.width, map.height).into_bytes();
    bytes.reserve(map.data.len() * 4);
    for row in map.data.chunks_exact(row).rev() {
        bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
    }
    Ok(bytes)
}

/// Flow from the bytes of a 3-channel `.pfm` file. Unknown: 1e9 or more, or not finite.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let map = decode_map(bytes)?;
    if map.channels != 3 {
        return Err(FormatError::unsupported(
            FORMAT,
            "a map of one channel holds no flow; flow needs a PF file of three",
        ));
    }
    let (pixels, _) = map.data.as_chunks::<3>();
    Ok(FlowField::sparse_from_fn(Size { height: map.height, width: map.width }, |x, y| {
        let [u, v, _] = pixels[y * map.width + x];
        known_motion(u, v)
    }))
}

/// The bytes of a 3-channel `.pfm` file; infinity where the flow is unknown.
pub fn encode(flow: &FlowField) -> Result<Vec<u8>, FormatError> {
    let data = super::pairs_or(flow, f32::INFINITY).flat_map(|(u, v)| [u, v, 0.0]).collect();
    encode_map(&Map { width: flow.width(), height: flow.height(), channels: 3, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_run_bottom_up_in_either_byte_order() {
        let top_down = Map { width: 1, height: 2, channels: 1, data: vec![1.0, 2.0] };
        let mut little = b"Pf\n1 2\n-1.0\n".to_vec();
        little.extend([2.0f32.to_le_bytes(), 1.0f32.to_le_bytes()].concat());
        let mut big = b"Pf 1 2\r\n1e3\r\n".to_vec();
        big.extend([2.0f32.to_be_bytes(), 1.0f32.to_be_bytes()].concat());
        assert_eq!(decode_map(&little).unwrap(), top_down);
        assert_eq!(decode_map(&big).unwrap(), top_down);
        assert_eq!(decode_map(&encode_map(&top_down).unwrap()).unwrap(), top_down);
    }

    #[test]
    fn a_value_that_looks_like_a_line_end_is_data() {
        let mut bytes = b"Pf\n1 1\n-1\n".to_vec();
        bytes.extend([b'\n', b'\r', b' ', b'\t']);
        assert_eq!(decode_map(&bytes).unwrap().data, [f32::from_le_bytes(*b"\n\r \t")]);
    }

    #[test]
    fn comments_blanks_and_a_few_bytes_more_are_read() {
        let map = Map { width: 3, height: 2, channels: 1, data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        let body = &encode_map(&map).unwrap()[b"Pf\n3 2\n-1\n".len()..];
        for header in
            ["Pf\n# made by xyz\n3 2\n-1\n", "Pf # a\n#b\n3 # c\n2\n-1.0\n", "Pf\n3 2 \n-1 \n", "Pf \r\n3 2\n-1 \r\n"]
        {
            for tail in [&b""[..], b"\n", b"\0\0\0\0"] {
                let file = [header.as_bytes(), body, tail].concat();
                assert_eq!(decode_map(&file).unwrap(), map, "{header:?} {tail:?}");
            }
        }
        // A column too much is a wrong size, and so is a byte too few.
        let file = [b"Pf\n3 2\n-1\n", body, &[0; 8]].concat();
        assert!(decode_map(&file).is_err() && decode_map(&file[..file.len() - 9]).is_err());
        assert!(decode_map(format!("Pf\n#{}", "x".repeat(1 << 20)).as_bytes()).is_err());
    }

    #[test]
    fn flow_is_the_first_two_channels() {
        let flow = FlowField::sparse_from_fn(Size::new(2, 3), |x, y| (x + y != 1).then_some((x as f32, -(y as f32))));
        assert_eq!(decode(&encode(&flow).unwrap()).unwrap(), flow);
        let grey = encode_map(&Map { width: 1, height: 1, channels: 1, data: vec![0.5] }).unwrap();
        assert!(matches!(decode(&grey), Err(FormatError::Unsupported { .. })));
    }

    #[test]
    fn hostile_headers_are_refused() {
        for header in
            ["PF\n-3 2\n-1\n", "PF\n0 2\n-1\n", "PF\nNaN 2\n-1\n", "PF\n1 1\nNaN\n", "PF\n1 1\n0\n", "P6\n1 1\n1\n"]
        {
            assert!(matches!(decode(header.as_bytes()), Err(FormatError::Malformed { .. })), "{header:?}");
        }
        for header in ["PF\n100000 2\n-1\n", "PF\n1 9999999999\n-1\n"] {
            assert!(matches!(decode(header.as_bytes()), Err(FormatError::Limits { .. })), "{header:?}");
        }
        assert!(matches!(decode(b"PF\n99999 99999\n-1\n"), Err(FormatError::Malformed { .. })));
        assert!(decode(&vec![b' '; 1 << 20]).is_err());
    }
}
