//! NumPy's `.npy` (format versions 1 to 3). A flow is an array of float16, 32 or 64 in any order, of shape `(H, W, 2)` or
//! `(2, H, W)`, which sides of length 1 may precede (a batch of one); a mask is an array of numbers of shape `(H, W)`. Flow is
//! written as float32 `(H, W, 2)`, version 1, NaN where unknown.

use super::{FormatError, error, known_motion};
use crate::{FlowField, Mask, Size};

const FORMAT: &str = ".npy";

/// The first six bytes of a file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Flow from the bytes of a `.npy` file. Shape `(2, H, 2)` is taken as rows of pixels, `(H, W, 2)`.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    Array::parse(bytes)?.flow()
}

/// A mask from the bytes of a `.npy` file: true where the array is not zero.
pub fn decode_mask(bytes: &[u8]) -> Result<Mask, FormatError> {
    Array::parse(bytes)?.mask()
}

/// The shape and the values, last side fastest, of any array of floats.
pub fn decode_array(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), FormatError> {
    let array = Array::parse(bytes)?;
    if array.header.number != Number::Float {
        return Err(FormatError::unsupported(FORMAT, "the values are no floats; save array.astype('<f4')"));
    }
    let shape = &array.header.shape;
    let count: usize = shape.iter().product();
    let place = |index: usize| {
        if !array.header.fortran {
            return index;
        }
        // From the position along each side, the last one first.
        let (mut rest, mut step, mut place) = (index, count, 0);
        for &side in shape.iter().rev() {
            step /= side;
            place += rest % side * step;
            rest /= side;
        }
        place
    };
    Ok((shape.clone(), (0..count).map(|index| array.number(place(index)) as f32).collect()))
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

/// The longest header that is read; NumPy's own are of 118 bytes.
const MAX_HEADER: usize = 1 << 16;

/// The text of the header, and where the values begin.
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
    if length > MAX_HEADER {
        return Err(FormatError::malformed(FORMAT, format!("the header claims to be {length} bytes long")));
    }
    let (header, body) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| FormatError::malformed(FORMAT, "the header is not text"))?;
    Ok((header, body))
}

/// What the numbers of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// The header's dictionary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// Sides, slowest first.
    shape: Vec<usize>,
    number: Number,
    /// Bytes of a number.
    size: usize,
    big_endian: bool,
    /// The first side is the fastest.
    fortran: bool,
}

impl Header {
    /// The header at the start of a file, and how many bytes of values follow it.
    pub fn claim(start: &[u8]) -> Result<u128, FormatError> {
        let (text, _) = split_header(start)?;
        Ok(Self::parse(text)?.bytes())
    }

    /// How many bytes a start must have to hold any header.
    pub const LONGEST: usize = MAX_HEADER + 12;

    fn parse(header: &str) -> Result<Self, FormatError> {
        let value = |key: &str| -> Result<&str, FormatError> {
            let missing = || FormatError::malformed(FORMAT, format!("the header has no '{key}'"));
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let after = quoted.iter().find_map(|k| header.split_once(k.as_str())).ok_or_else(missing)?.1;
            Ok(after.trim_start().strip_prefix(':').ok_or_else(missing)?.trim_start())
        };
        let kind = value("descr")?;
        let kind = kind.get(1..).and_then(|k| k.split(['\'', '"']).next()).unwrap_or_default();
        let (number, size) = match kind.get(1..) {
            Some("b1") => (Number::Bool, 1),
            Some("u1") => (Number::Unsigned, 1),
            Some("u2") => (Number::Unsigned, 2),
            Some("u4") => (Number::Unsigned, 4),
            Some("u8") => (Number::Unsigned, 8),
            Some("i1") => (Number::Signed, 1),
            Some("i2") => (Number::Signed, 2),
            Some("i4") => (Number::Signed, 4),
            Some("i8") => (Number::Signed, 8),
            Some("f2") => (Number::Float, 2),
            Some("f4") => (Number::Float, 4),
            Some("f8") => (Number::Float, 8),
            _ => {
                let what = format!("values of kind '{kind}' are not read; save array.astype('<f4')");
                return Err(FormatError::unsupported(FORMAT, what));
            }
        };
        let inside = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')'));
        let inside = inside.ok_or_else(|| FormatError::malformed(FORMAT, "the shape is not a tuple"))?.0;
        let shape: Result<Vec<usize>, _> =
            inside.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect();
        let shape = shape
            .map_err(|_| FormatError::malformed(FORMAT, format!("the shape ({inside}) is not of whole numbers")))?;
        let fortran = value("fortran_order")?.starts_with("True");
        Ok(Self { shape, number, size, big_endian: kind.starts_with('>'), fortran })
    }

    /// Bytes of all values; at most the largest number, which no file has.
    fn bytes(&self) -> u128 {
        self.shape.iter().fold(self.size as u128, |bytes, &side| bytes.saturating_mul(side as u128))
    }
}

/// An array that lies in the bytes of a file.
pub(super) struct Array<'a> {
    header: Header,
    body: &'a [u8],
}

impl<'a> Array<'a> {
    /// The array of a whole file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (text, body) = split_header(bytes)?;
        let header = Header::parse(text)?;
        for &side in header.shape.iter() {
            error::check_size(FORMAT, 1, i64::try_from(side).unwrap_or(i64::MAX))?;
        }
        error::check_body(FORMAT, header.bytes(), body.len())?;
        Ok(Self { header, body })
    }

    /// The sides, without the ones before the last `least` of them.
    fn sides(&self, least: usize) -> &[usize] {
        let mut sides = &self.header.shape[..];
        while let [1, rest @ ..] = sides
            && rest.len() >= least
        {
            sides = rest;
        }
        sides
    }

    /// The value at a position along the last sides; the sides before are of one.
    fn at<const N: usize>(&self, sides: [usize; N], position: [usize; N]) -> f64 {
        let along = |(side, at): (usize, usize), index: usize| index * side + at;
        let sides = sides.into_iter().zip(position);
        // Every position is within its side, and their product was compared with the body.
        let index = match self.header.fortran {
            false => sides.fold(0, |index, side| along(side, index)),
            true => sides.rev().fold(0, |index, side| along(side, index)),
        };
        self.number(index)
    }

    fn number(&self, index: usize) -> f64 {
        let Header { number, size, big_endian, .. } = self.header;
        let mut bytes = [0; 8];
        // Little-endian, extended by zeros.
        bytes[..size].copy_from_slice(&self.body[index * size..(index + 1) * size]);
        if big_endian {
            bytes[..size].reverse();
        }
        let bits = u64::from_le_bytes(bytes);
        let unused = 64 - 8 * size as u32;
        match (number, size) {
            (Number::Float, 2) => half(bits as u16),
            (Number::Float, 4) => f32::from_bits(bits as u32).into(),
            (Number::Float, _) => f64::from_bits(bits),
            (Number::Signed, _) => ((bits << unused) as i64 >> unused) as f64,
            (Number::Bool | Number::Unsigned, _) => bits as f64,
        }
    }

    /// The array as a flow.
    pub fn flow(&self) -> Result<FlowField, FormatError> {
        if self.header.number != Number::Float {
            let what = "flow is of float16, float32 or float64, this array is not; save array.astype('<f4')";
            return Err(FormatError::unsupported(FORMAT, what));
        }
        let known = |u: f64, v: f64| known_motion(u as f32, v as f32);
        match *self.sides(3) {
            [height, width, 2] => {
                let size = check(height, width)?;
                let at = |x, y, c| self.at([height, width, 2], [y, x, c]);
                Ok(FlowField::sparse_from_fn(size, |x, y| known(at(x, y, 0), at(x, y, 1))))
            }
            [2, height, width] => {
                let size = check(height, width)?;
                let at = |x, y, c| self.at([2, height, width], [c, y, x]);
                Ok(FlowField::sparse_from_fn(size, |x, y| known(at(x, y, 0), at(x, y, 1))))
            }
            [count, 2, _, _] | [count, _, _, 2] => {
                let what = format!("it holds {count} flows; save each by itself");
                Err(FormatError::unsupported(FORMAT, what))
            }
            _ => {
                let shape = &self.header.shape;
                let what = format!("an array of shape {shape:?} is no flow; flow is (H, W, 2) or (2, H, W)");
                Err(FormatError::unsupported(FORMAT, what))
            }
        }
    }

    /// Whether its shape is that of one component of a flow or of a mask.
    pub fn plane(&self) -> Result<Plane<'_>, FormatError> {
        let sides = match self.sides(2) {
            [height, width] | [height, width, 1] => Some((*height, *width)),
            _ => None,
        };
        let (height, width) = sides.ok_or_else(|| {
            let shape = &self.header.shape;
            let what = format!("an array of shape {shape:?} has not one value a pixel; (H, W) has");
            FormatError::unsupported(FORMAT, what)
        })?;
        Ok(Plane { array: self, size: check(height, width)? })
    }

    /// The array as a mask, true where it is not zero.
    pub fn mask(&self) -> Result<Mask, FormatError> {
        let plane = self.plane()?;
        Ok(Mask::from_fn(plane.size, |x, y| plane.get(x, y) != 0.0))
    }
}

/// One value a pixel.
pub(super) struct Plane<'a> {
    array: &'a Array<'a>,
    pub size: Size,
}

impl Plane<'_> {
    /// The value of a pixel.
    pub fn get(&self, x: usize, y: usize) -> f64 {
        self.array.at([self.size.height, self.size.width], [y, x])
    }
}

fn check(height: usize, width: usize) -> Result<Size, FormatError> {
    let side = |side| i64::try_from(side).unwrap_or(i64::MAX);
    error::check_size(FORMAT, side(height), side(width))
}

/// IEEE 754's binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with this dictionary.
    pub fn file(version: u8, dict: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[version, 0]].concat();
        match version {
            1 => bytes.extend((dict.len() as u16).to_le_bytes()),
            _ => bytes.extend((dict.len() as u32).to_le_bytes()),
        }
        bytes.extend(dict.as_bytes());
        bytes.extend(body);
        bytes
    }

    /// A version 1 file.
    pub fn array(kind: &str, fortran: bool, shape: &str, body: &[u8]) -> Vec<u8> {
        let fortran = if fortran { "True" } else { "False" };
        file(1, &format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}"), body)
    }

    #[test]
    fn round_trip_is_aligned_as_numpy_aligns() {
        let flow = FlowField::sparse_from_fn(Size::new(3, 4), |x, y| (x != 1).then_some((x as f32, y as f32 * 0.25)));
        let bytes = encode(&flow);
        assert_eq!((bytes.len() - 4 * 3 * 8) % 64, 0);
        assert_eq!(decode(&bytes).unwrap(), flow);
    }

    #[test]
    fn every_order_and_precision_gives_the_same_flow() {
        let wanted = FlowField::from_fn(Size::new(1, 3), |x, _| ([1.0, 2.0, -0.5][x], [-1.0, 0.0, 3.0][x]));
        let (planes, pixels) = ([1.0f64, 2.0, -0.5, -1.0, 0.0, 3.0], [1.0f64, -1.0, 2.0, 0.0, -0.5, 3.0]);
        let bytes = |v: &[f64]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let halves: Vec<u8> =
            [0x3c00u16, 0x4000, 0xb800, 0xbc00, 0, 0x4200].iter().flat_map(|v| v.to_le_bytes()).collect();
        let big: Vec<u8> = planes.iter().flat_map(|&v| (v as f32).to_be_bytes()).collect();
        for (name, file) in [
            ("version 2", file(2, "{\"shape\": (2, 1, 3), 'fortran_order': False, 'descr': '<f8'}", &bytes(&planes))),
            ("pixels", array("<f8", false, "(1, 3, 2)", &bytes(&pixels))),
            ("a batch of one", array("<f8", false, "(1, 2, 1, 3)", &bytes(&planes))),
            ("a batch of one pixels", array("<f8", false, "(1, 1, 3, 2)", &bytes(&pixels))),
            ("float16", array("<f2", false, "(2, 1, 3)", &halves)),
            ("big-endian", array(">f4", false, "(2, 1, 3)", &big)),
            // In Fortran's order, (2, 1, 3) lies as pixels do.
            ("Fortran", array("<f8", true, "(2, 1, 3)", &bytes(&pixels))),
            ("Fortran pixels", array("<f8", true, "(1, 3, 2)", &bytes(&planes))),
        ] {
            assert_eq!(decode(&file).unwrap(), wanted, "{name}");
        }
    }

    #[test]
    fn halves_are_ieee_754() {
        for (bits, value) in [(0x0001, 2f64.powi(-24)), (0x7bff, 65504.0), (0x8000, -0.0), (0x3555, 0.333_251_953_125)]
        {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn masks_are_true_where_not_zero() {
        for (kind, body) in [
            ("|b1", vec![0, 1, 0, 0, 0, 1]),
            ("|u1", vec![0, 255, 0, 0, 0, 7]),
            (">i2", vec![0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 1, 0]),
            ("<f4", [0f32, 0.5, -0.0, 0.0, 0.0, -1e-9].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ] {
            for shape in ["(2, 3)", "(1, 2, 3)", "(2, 3, 1)", "(1, 2, 3, 1)", "(1, 1, 2, 3)"] {
                let mask = decode_mask(&array(kind, false, shape, &body)).unwrap();
                let wanted = [false, true, false, false, false, true];
                assert_eq!((mask.width(), mask.data()), (3, &wanted[..]), "{kind} {shape}");
            }
        }
        assert!(decode_mask(&array("|b1", false, "(2, 3, 2)", &[0; 12])).unwrap_err().to_string().contains("(H, W)"));
    }

    #[test]
    fn other_arrays_are_refused_with_the_remedy() {
        for (kind, shape, word) in [
            ("<c8", "(1, 2, 2)", "astype"),
            ("<i2", "(1, 4, 2)", "astype"),
            ("<f4", "(4,)", "(H, W, 2)"),
            ("<f4", "(2, 2, 1, 1)", "2 flows"),
        ] {
            let error = decode(&array(kind, false, shape, &[0; 16])).unwrap_err();
            assert!(matches!(error, FormatError::Unsupported { .. }) && error.to_string().contains(word), "{error}");
        }
        for shape in ["(-1, 2, 2)", "(0, 2, 2)", "(nan, 2, 2)", "(99999, 99999, 2)", "(9", "9)"] {
            let error = decode(&array("<f4", false, shape, &[0; 16])).unwrap_err();
            assert!(matches!(error, FormatError::Malformed { .. }), "{shape}: {error}");
        }
        let huge = decode(&array("<f4", false, "(9223372036854775807, 9223372036854775807, 2)", &[])).unwrap_err();
        assert!(matches!(huge, FormatError::Limits { .. }));
        assert!(
            decode(&file(2, "", &[])).is_err() && decode(&[&MAGIC[..], &[2, 0, 255, 255, 255, 255]].concat()).is_err()
        );
    }
}
