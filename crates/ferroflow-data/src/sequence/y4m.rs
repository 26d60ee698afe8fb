//! YUV4MPEG2, an uncompressed format that video tools write to pipes.
//!
//! A line of text, `YUV4MPEG2 W640 H480 F25:1 Ip C420jpeg`, then for each frame a line that starts with `FRAME` and the
//! planes Y, U, V; samples of more than 8 bits take two bytes, the low one first. (mjpegtools' yuv4mpeg(5); the depths are
//! FFmpeg's addition, libavformat/yuv4mpegdec.c.)

use std::{
    io::{BufRead, BufReader, Read},
    sync::Arc,
};

use ferroflow_core::{
    Frame, Size,
    io::{MAX_SIDE, what_it_is},
};

use super::{Frames, NamedFrame, Note, Reading, SequenceError};

/// Most bytes that one frame may take in the stream.
const MAX_FRAME: u64 = 1 << 30;

/// The frames of a YUV4MPEG2 stream, named by their number from 000000.
///
/// All chroma formats (4:2:0, 4:1:1, 4:1:0, 4:2:2, 4:4:0, 4:4:4, 4:4:4 with alpha, which is dropped, and grey) of 8 to 16 bits are
/// read.
/// The format does not say which matrix was used: BT.601 is assumed, full range where the header says so
/// (`XCOLORRANGE=FULL`) and for `420jpeg`, else video range.
///
/// # Errors
/// If the header is no YUV4MPEG2 header. A stream that ends inside a frame is an error of the iterator.
pub fn y4m(reader: impl Read + Send + 'static, reading: &Reading) -> Result<Frames, SequenceError> {
    let mut reader = BufReader::new(reader);
    let wrong = |reason: String| SequenceError::Y4m { frame: 0, reason };
    let layout = Layout::read(&mut reader, &reading.note).map_err(wrong)?;
    let mut planes = Vec::new();
    let mut count = 0;
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match next_planes(&mut reader, layout.bytes(), &mut planes) {
            Ok(true) => {
                let name = format!("{count:06}");
                count += 1;
                Some(Ok(NamedFrame { name, frame: Arc::new(layout.rgb(&planes)) }))
            }
            end => {
                ended = true;
                end.err().map(|reason| Err(SequenceError::Y4m { frame: count, reason }))
            }
        }
    })))
}

/// Reads the planes of the next frame; `false` at the end.
fn next_planes(reader: &mut impl BufRead, bytes: u64, planes: &mut Vec<u8>) -> Result<bool, String> {
    const CUT: &str = "the stream ends inside it: the program that wrote it died, or the file was cut";
    let line = line(reader)?;
    if line.is_empty() {
        return Ok(false);
    }
    // The line may hold parameters of this frame, which change nothing here.
    let Some(line) = line.strip_suffix(b"\n") else { return Err(CUT.into()) };
    if !line.starts_with(b"FRAME") {
        return Err("it does not start with the word FRAME: the size or format in the header is wrong".into());
    }
    planes.clear();
    // As much as there is, so that a header's claim alone takes no memory.
    let read = reader.by_ref().take(bytes).read_to_end(planes).map_err(|e| e.to_string())?;
    if read as u64 == bytes { Ok(true) } else { Err(CUT.into()) }
}

/// A line with its end, as far as there is one; no line of this format is longer.
fn line(reader: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    reader.by_ref().take(4096).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
    Ok(line)
}

/// How a frame's planes are to be read.
struct Layout {
    width: usize,
    height: usize,
    chroma: Chroma,
    /// Bits of a sample, 8 to 16.
    depth: u32,
    full_range: bool,
}

/// Which planes there are beside Y.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chroma {
    None,
    /// Luma samples per chroma sample, as shifts: across and down.
    Shared(u32, u32),
    /// U, V and alpha, each as large as Y.
    Alpha,
}

/// The formats' names, without a depth.
const FORMATS: [(&str, Chroma); 11] = [
    ("420jpeg", Chroma::Shared(1, 1)),
    ("420mpeg2", Chroma::Shared(1, 1)),
    ("420paldv", Chroma::Shared(1, 1)),
    ("420", Chroma::Shared(1, 1)),
    ("411", Chroma::Shared(2, 0)),
    ("410", Chroma::Shared(2, 2)),
    ("422", Chroma::Shared(1, 0)),
    ("440", Chroma::Shared(0, 1)),
    ("444alpha", Chroma::Alpha),
    ("444", Chroma::Shared(0, 0)),
    ("mono", Chroma::None),
];

/// The chroma format and depth of a name such as `420jpeg`, `422p10` or `mono12`.
fn format(name: &str) -> Option<(Chroma, u32)> {
    let name = name.to_ascii_lowercase();
    let (base, chroma) = FORMATS.into_iter().find(|(base, _)| name.starts_with(base))?;
    let depth = match name[base.len()..].trim_start_matches('p') {
        "" => 8,
        depth => depth.parse().ok().filter(|depth| (8..=16).contains(depth))?,
    };
    Some((chroma, depth))
}

impl Layout {
    /// Reads the header.
    fn read(reader: &mut impl BufRead, note: &Note) -> Result<Self, String> {
        let line = line(reader)?;
        let Some(rest) = line.strip_prefix(b"YUV4MPEG2") else {
            let what = what_it_is(&line).map_or(String::new(), |what| format!(" but {what}"));
            return Err(format!(
                "this is no YUV4MPEG2{what}; `ffmpeg -v error -i VIDEO -f yuv4mpegpipe -strict -1 -` writes it"
            ));
        };
        let Some(rest) = rest.strip_suffix(b"\n") else { return Err("the header is cut short".into()) };
        let rest = String::from_utf8_lossy(rest);
        let (mut width, mut height, mut named, mut vendor) = (0, 0, None, None);
        let mut full_range = None;
        for parameter in rest.split_ascii_whitespace() {
            let (tag, value) = parameter.split_at_checked(1).unwrap_or_default();
            let side = || {
                let side = value.parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
                side.ok_or_else(|| format!("the header says {parameter}: sides are of 1 to {MAX_SIDE} pixels"))
            };
            match tag {
                "W" => width = side()?,
                "H" => height = side()?,
                "C" => named = Some(value.to_string()),
                "I" if ["t", "b", "m"].contains(&value) => note(
                    "the stream says that it is interlaced: each frame mixes two moments, and its flow is wrong where \
                     things move; `ffmpeg -i VIDEO -vf bwdif ...` takes them apart",
                ),
                // What FFmpeg calls a format that C has no word for.
                "X" => {
                    if let Some(name) = value.strip_prefix("YSCSS=") {
                        vendor = Some(name.to_string());
                    } else if let Some(range) = value.strip_prefix("COLORRANGE=") {
                        full_range = Some(range.eq_ignore_ascii_case("FULL"));
                    }
                }
                _ => {}
            }
        }
        if width == 0 || height == 0 {
            return Err("the header gives no width and height (W and H)".into());
        }
        let name = named.or(vendor).unwrap_or_else(|| "420".into());
        let (chroma, depth) = format(&name).ok_or_else(|| {
            format!("the format C{name} is not known; `-pix_fmt yuv444p` makes one that every program reads")
        })?;
        let full_range = full_range.unwrap_or(name.eq_ignore_ascii_case("420jpeg"));
        let layout = Self { width, height, chroma, depth, full_range };
        if layout.bytes() > MAX_FRAME {
            return Err(format!("a frame of {height}x{width} takes {} MiB, more than are read", layout.bytes() >> 20));
        }
        Ok(layout)
    }

    /// Size of a chroma plane.
    fn chroma_size(&self) -> Size {
        let (height, width) = match self.chroma {
            Chroma::None => (0, 0),
            Chroma::Shared(across, down) => (self.height.div_ceil(1 << down), self.width.div_ceil(1 << across)),
            Chroma::Alpha => (self.height, self.width),
        };
        Size { height, width }
    }

    /// Bytes of a sample.
    fn sample(&self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }

    /// Bytes of a frame. Sides are bounded, so nothing wraps.
    fn bytes(&self) -> u64 {
        let chroma = self.chroma_size();
        let planes = if self.chroma == Chroma::Alpha { 3 } else { 2 };
        (self.width as u64 * self.height as u64 + planes * chroma.pixels() as u64) * self.sample() as u64
    }

    /// The frame of `bytes()` bytes of planes.
    fn rgb(&self, planes: &[u8]) -> Frame {
        let chroma = self.chroma_size();
        let size = self.sample();
        let (luma, rest) = planes.split_at(self.width * self.height * size);
        let (blue, rest) = rest.split_at(chroma.pixels() * size);
        let red = &rest[..chroma.pixels() * size];
        // Every depth is brought to the 8-bit scale, keeping its fraction. Full range ends at 255 in each.
        let exact = if self.full_range { 255.0 / ((1u32 << self.depth) - 1) as f32 } else { 1.0 };
        let shifted = 1.0 / (1u32 << (self.depth - 8)) as f32;
        let sample = |plane: &[u8], at: usize| match size {
            1 => f32::from(plane[at]),
            _ => f32::from(u16::from_le_bytes([plane[2 * at], plane[2 * at + 1]])),
        };
        let (across, down) = match self.chroma {
            Chroma::Shared(across, down) => (across, down),
            Chroma::None | Chroma::Alpha => (0, 0),
        };
        let (black, luma_scale, chroma_scale) =
            if self.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        let bright = if self.full_range { exact } else { shifted };
        Frame::from_fn(Size { height: self.height, width: self.width }, |x, y| {
            let l = (sample(luma, y * self.width + x) * bright - black) * luma_scale;
            if self.chroma == Chroma::None {
                return [quantise(l); 3];
            }
            let at = (y >> down) * chroma.width + (x >> across);
            let [b, r] = [blue, red].map(|plane| (sample(plane, at) * shifted - 128.0) * chroma_scale);
            [l + 1.402 * r, l - 0.344_136 * b - 0.714_136 * r, l + 1.772 * b].map(quantise)
        })
    }
}

fn quantise(value: f32) -> u8 {
    // The cast saturates, so this also clips.
    (value + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn stream(header: &str, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("YUV4MPEG2 W3 H2 F25:1 A1:1 {header}\n").into_bytes();
        for frame in frames {
            bytes.extend_from_slice(b"FRAME\n");
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<NamedFrame>, SequenceError> {
        y4m(Cursor::new(bytes), &Reading::default())?.collect()
    }

    #[test]
    fn red_is_red_in_every_chroma_and_depth() {
        // BT.601 video range: red is (81, 90, 240). Planes of 3x2 pixels.
        for (name, chroma, planes) in [
            ("420mpeg2", 2, 2),
            ("420paldv", 2, 2),
            ("420", 2, 2),
            ("411", 2, 2),
            ("410", 1, 2),
            ("422", 4, 2),
            ("440", 3, 2),
            ("444", 6, 2),
            ("444alpha", 6, 3),
        ] {
            for depth in [8, 9, 10, 12, 14, 16] {
                let samples = [vec![81u16; 6], vec![90; chroma], vec![240; chroma], vec![255; chroma * (planes - 2)]];
                let samples = samples.concat().into_iter().map(|v| v << (depth - 8));
                let frame: Vec<u8> = match depth {
                    8 => samples.map(|v| v as u8).collect(),
                    _ => samples.flat_map(u16::to_le_bytes).collect(),
                };
                let name = if depth == 8 { format!("C{name}") } else { format!("C{name}p{depth}") };
                let frames = read(stream(&name, &[frame.clone(), frame])).unwrap();
                assert_eq!((frames.len(), frames[1].name.as_str()), (2, "000001"), "{name}");
                for (found, wanted) in frames[1].frame.pixel(2, 1).into_iter().zip([255u8, 0, 0]) {
                    assert!(found.abs_diff(wanted) <= 1, "{name}: {:?}", frames[1].frame.pixel(2, 1));
                }
            }
        }
    }

    #[test]
    fn grey_full_range_is_copied_and_its_depths_end_at_white() {
        let grey = |frame: &Frame| frame.rgb().iter().step_by(3).copied().collect::<Vec<_>>();
        let frames = read(stream("Cmono XCOLORRANGE=FULL", &[vec![0, 1, 127, 128, 254, 255]])).unwrap();
        assert_eq!(grey(&frames[0].frame), [0, 1, 127, 128, 254, 255]);
        for depth in [9, 10, 12, 16] {
            let top = u16::MAX >> (16 - depth);
            let frame: Vec<u8> = [0, top, 0, top, 0, top].into_iter().flat_map(u16::to_le_bytes).collect();
            let frames = read(stream(&format!("Cmono{depth} XCOLORRANGE=FULL"), &[frame])).unwrap();
            assert_eq!(grey(&frames[0].frame), [0, 255, 0, 255, 0, 255], "{depth}");
        }
    }

    #[test]
    fn a_stream_cut_inside_a_frame_is_an_error_at_every_byte() {
        let bytes = stream("C444", &[vec![128; 18], vec![128; 18]]);
        let header = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        for end in 0..=bytes.len() {
            let whole = end >= header && (end - header).is_multiple_of(24);
            let read = read(bytes[..end].to_vec());
            assert_eq!(read.is_ok(), whole, "{end}: {read:?}");
        }
        let cut = read(bytes[..bytes.len() - 1].to_vec()).unwrap_err().to_string();
        assert!(cut.contains("frame 1") && cut.contains("ends inside"), "{cut}");
    }

    #[test]
    fn interlaced_streams_are_told_and_unknown_ones_refused() {
        let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = told.clone();
        let note: Note = Arc::new(move |_: &str| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        let reading = Reading { note, ..Reading::default() };
        for (field, wanted) in [("Ip", 0), ("It", 1), ("I?", 1), ("Ib", 2)] {
            y4m(Cursor::new(stream(field, &[])), &reading).map(|_| ()).unwrap();
            assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), wanted, "{field}");
        }
        for (bytes, word) in [
            (stream("C999", &[]), "C999"),
            (stream("C420p99", &[]), "C420p99"),
            (b"YUV4MPEG2 W4000000000 H4000000000 F25:1 C444\nFRAME\n".to_vec(), "W4000000000"),
            (b"YUV4MPEG2 W90000 H90000 C444\nFRAME\n".to_vec(), "MiB"),
            (b"YUV4MPEG2 C444\nFRAME\n".to_vec(), "width"),
            (b"\0\0\0\x20ftypisom\0\0\0\0".to_vec(), "MP4"),
            (Vec::new(), "empty"),
            (stream("C444", &[b"FRAMS\n".to_vec()]), "ends inside"),
            ([stream("C444", &[vec![1; 18]]), b"NOISE".to_vec()].concat(), "ends inside"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
