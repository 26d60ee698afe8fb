//! How many pictures a second a video shows.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    str::FromStr,
};

use crate::sequence::file_argument;

/// Pictures a second, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    seconds: u32,
}

impl Default for Rate {
    /// 25 a second, as of a folder of pictures that says nothing.
    fn default() -> Self {
        Self { count: 25, seconds: 1 }
    }
}

impl fmt::Display for Rate {
    /// As `ffmpeg` reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.seconds)
    }
}

impl Rate {
    /// As the header of YUV4MPEG2 has it.
    pub(super) fn ratio(self) -> String {
        format!("{}:{}", self.count, self.seconds)
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `30`, `29.97` (which means 30000/1001) or `30000/1001`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write pictures a second: 30, 29.97 or 30000/1001".to_string();
        if let Some((count, seconds)) = text.split_once(['/', ':']) {
            let number = |text: &str| text.parse().ok().filter(|&n: &u32| n > 0).ok_or_else(wrong);
            return Ok(Self { count: number(count)?, seconds: number(seconds)? });
        }
        let value: f64 = text.parse().ok().filter(|v| (0.001..=100_000.0).contains(v)).ok_or_else(wrong)?;
        if value.fract() == 0.0 {
            return Ok(Self { count: value as u32, seconds: 1 });
        }
        // Television's rates, rounded to two digits.
        let ntsc = (1..=240).find(|&whole| (f64::from(whole) * 1000.0 / 1001.0 - value).abs() < 0.006);
        Ok(match ntsc {
            Some(whole) => Self { count: whole * 1000, seconds: 1001 },
            None => Self { count: (value * 1000.0).round() as u32, seconds: 1000 },
        })
    }
}

/// The rate of a video; `None` where it says nothing, or cannot be asked.
pub fn rate_of(path: &Path) -> Option<Rate> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(4096).read_to_end(&mut head).ok()?;
    if head.starts_with(b"YUV4MPEG2") {
        return rate_of_y4m(&head);
    }
    rate_said(&told(path)?)
}

/// About how many frames a video has, by its length and its rate; `None` where it does not say both, or cannot be asked.
pub fn frames_of(path: &Path) -> Option<usize> {
    let said = told(path)?;
    let Rate { count, seconds } = rate_said(&said)?;
    let length = said.split("Duration: ").nth(1)?.split(',').next()?;
    let mut total = 0.0;
    for part in length.trim().split(':') {
        total = 60.0 * total + part.parse::<f64>().ok()?;
    }
    Some((total * f64::from(count) / f64::from(seconds)).round() as usize)
}

/// What ffmpeg says of a file.
fn told(path: &Path) -> Option<String> {
    // Only files: what comes from a pipe could be read once.
    if !path.is_file() {
        return None;
    }
    let child = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(file_argument(path))
        .stdin(Stdio::null())
        .output();
    // It complains of having nothing to do, after saying what the file is.
    Some(String::from_utf8_lossy(&child.ok()?.stderr).into_owned())
}

fn rate_said(said: &str) -> Option<Rate> {
    let line = said.lines().find(|line| line.contains("Video:") && !line.contains("(attached pic)"))?;
    line.split(',').find_map(|part| part.trim().strip_suffix(" fps")?.parse().ok())
}

/// The rate in the header of YUV4MPEG2, of which `head` is the beginning.
pub fn rate_of_y4m(head: &[u8]) -> Option<Rate> {
    let line = head.split(|&b| b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split(' ').find_map(|word| word.strip_prefix('F')?.parse().ok())
}
