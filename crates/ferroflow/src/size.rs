//! `HxW` on the command line.

use std::{fmt, str::FromStr};

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |s: &str| s.trim().parse().ok().filter(|n| (1..=65_535).contains(n));
        let (height, width) = text.split_once(['x', 'X']).ok_or("write HEIGHTxWIDTH, as in 448x1024")?;
        match (side(height), side(width)) {
            (Some(height), Some(width)) => Ok(Self { height, width }),
            _ => Err("write HEIGHTxWIDTH in pixels, each from 1 to 65535, as in 448x1024".into()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        assert_eq!("448x1024".parse(), Ok(Size { height: 448, width: 1024 }));
        assert_eq!(Size { height: 1, width: 2 }.to_string(), "1x2");
        for bad in ["448", "0x4", "4x", "-1x4", "70000x4", "axb", ""] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
