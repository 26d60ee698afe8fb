//! Height and width in pixels, written `HxW` on the command line, in recipes and in the names of data sets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// A size of `height` rows and `width` columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Number of pixels, `height * width`.
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The size whose sides are `f` of these.
    pub fn map(self, mut f: impl FnMut(usize) -> usize) -> Self {
        Self { height: f(self.height), width: f(self.width) }
    }
}

/// A longer side is a slip of the finger.
const LONGEST: usize = 65_535;

/// The error of a text that is not `HxW`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is HEIGHTxWIDTH in pixels, each from 1 to {LONGEST}, as in 448x1024")]
pub struct ParseSizeError;

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let side = |s: &str| s.trim().parse().ok().filter(|n| (1..=LONGEST).contains(n));
        let sides = text.split_once(['x', 'X']).and_then(|(height, width)| side(height).zip(side(width)));
        sides.map(|(height, width)| Self { height, width }).ok_or(ParseSizeError)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl TryFrom<String> for Size {
    type Error = ParseSizeError;

    fn try_from(text: String) -> Result<Self, ParseSizeError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        assert_eq!("448x1024".parse(), Ok(Size { height: 448, width: 1024 }));
        assert_eq!("3 X 4".parse(), Ok(Size { height: 3, width: 4 }));
        assert_eq!(Size { height: 1, width: 2 }.to_string(), "1x2");
        assert_eq!(serde_json::from_str::<Size>("\"2x3\"").unwrap(), Size { height: 2, width: 3 });
        assert_eq!(serde_json::to_string(&Size { height: 2, width: 3 }).unwrap(), "\"2x3\"");
        for bad in ["448", "0x4", "4x", "-1x4", "70000x4", "axb", "1x2x3", ""] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
