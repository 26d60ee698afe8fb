//! YUV4MPEG2: what every video tool can write to a pipe.

use std::{io::Read, sync::Arc};

use ::y4m::{Colorspace, Decoder};
use ferroflow_core::Frame;

use super::{Frames, NamedFrame, SequenceError};

/// The frames of a YUV4MPEG2 stream, named by their number from 000000.
///
/// 4:2:0, 4:2:2, 4:4:4 and grey, 8 to 12 bits. The format does not say which matrix was used: BT.601 is assumed, full
/// range where the header says so (`XCOLORRANGE=FULL`) and for `420jpeg`, else video range.
///
/// # Errors
/// If the header is no YUV4MPEG2 header. Damaged frames are errors of the iterator.
pub fn y4m(reader: impl Read + Send + 'static) -> Result<Frames, SequenceError> {
    let mut decoder = Decoder::new(reader)
        .map_err(|e| SequenceError::Y4m { frame: 0, reason: format!("no valid header ({e:?})") })?;
    let layout = Layout::of(&decoder);
    let mut count = 0;
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match decoder.read_frame() {
            Ok(frame) => {
                let rgb = layout.rgb([frame.get_y_plane(), frame.get_u_plane(), frame.get_v_plane()]);
                let name = format!("{count:06}");
                count += 1;
                Some(Ok(NamedFrame { name, frame: Arc::new(rgb) }))
            }
            Err(::y4m::Error::EOF) => None,
            Err(error) => {
                ended = true;
                Some(Err(SequenceError::Y4m { frame: count, reason: format!("{error:?}") }))
            }
        }
    })))
}

/// How a frame's planes are to be read.
struct Layout {
    width: usize,
    height: usize,
    /// Chroma samples per luma sample, as shifts.
    shift: (u32, u32),
    grey: bool,
    wide_samples: bool,
    depth: usize,
    full_range: bool,
}

impl Layout {
    fn of<R: Read>(decoder: &Decoder<R>) -> Self {
        use Colorspace as C;
        let space = decoder.get_colorspace();
        let (shift, grey) = match space {
            C::Cmono | C::Cmono12 => ((0, 0), true),
            C::C422 | C::C422p10 | C::C422p12 => ((1, 0), false),
            C::C444 | C::C444p10 | C::C444p12 => ((0, 0), false),
            _ => ((1, 1), false),
        };
        let declared_full = decoder.get_raw_params().windows(16).any(|w| w == b"XCOLORRANGE=FULL");
        Self {
            width: decoder.get_width(),
            height: decoder.get_height(),
            shift,
            grey,
            wide_samples: decoder.get_bytes_per_sample() == 2,
            depth: decoder.get_bit_depth(),
            full_range: declared_full || matches!(space, C::C420jpeg) && !has_range(decoder.get_raw_params()),
        }
    }

    fn rgb(&self, planes: [&[u8]; 3]) -> Frame {
        let chroma_width = self.width.div_ceil(1 << self.shift.0);
        // Every depth is brought to the 8-bit scale, keeping its fraction.
        let scale = 1.0 / f32::from(1u16 << (self.depth - 8));
        let sample = |plane: &[u8], at: usize| {
            scale
                * if self.wide_samples {
                    f32::from(u16::from_le_bytes([plane[2 * at], plane[2 * at + 1]]))
                } else {
                    f32::from(plane[at])
                }
        };
        let (black, luma, chroma) =
            if self.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        Frame::from_fn(self.width, self.height, |x, y| {
            let l = (sample(planes[0], y * self.width + x) - black) * luma;
            if self.grey {
                return [quantise(l); 3];
            }
            let at = (y >> self.shift.1) * chroma_width + (x >> self.shift.0);
            let (b, r) = ((sample(planes[1], at) - 128.0) * chroma, (sample(planes[2], at) - 128.0) * chroma);
            [l + 1.402 * r, l - 0.344_136 * b - 0.714_136 * r, l + 1.772 * b].map(quantise)
        })
    }
}

fn has_range(params: &[u8]) -> bool {
    params.windows(11).any(|w| w == b"XCOLORRANGE")
}

fn quantise(value: f32) -> u8 {
    // The cast saturates, so this also clips.
    (value + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn stream(colorspace: &str, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("YUV4MPEG2 W3 H2 F25:1 Ip A1:1 C{colorspace}\n").into_bytes();
        for frame in frames {
            bytes.extend_from_slice(b"FRAME\n");
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    #[test]
    fn primary_colours_come_out() {
        // BT.601 video range: red is (81, 90, 240).
        let red = [vec![81; 6], vec![90; 2], vec![240; 2]].concat();
        let frames: Vec<_> = y4m(Cursor::new(stream("420mpeg2", &[red.clone(), red]))).unwrap().collect();
        assert_eq!(frames.len(), 2);
        let frame = frames[1].as_ref().unwrap();
        assert_eq!(frame.name, "000001");
        for (found, wanted) in frame.frame.pixel(2, 1).into_iter().zip([255u8, 0, 0]) {
            assert!(found.abs_diff(wanted) <= 1, "{:?}", frame.frame.pixel(2, 1));
        }
    }

    #[test]
    fn grey_full_range_is_copied() {
        let mut bytes = b"YUV4MPEG2 W3 H2 F25:1 Cmono XCOLORRANGE=FULL\n".to_vec();
        bytes.extend_from_slice(b"FRAME\n\x00\x01\x7f\x80\xfe\xff");
        let frame = y4m(Cursor::new(bytes)).unwrap().next().unwrap().unwrap().frame;
        assert_eq!(frame.rgb().iter().step_by(3).copied().collect::<Vec<_>>(), [0, 1, 127, 128, 254, 255]);
    }

    #[test]
    fn every_truncation_ends_in_a_clean_stop_or_an_error() {
        let bytes = stream("444", &[vec![128; 18], vec![128; 18]]);
        for end in 0..bytes.len() {
            let Ok(frames) = y4m(Cursor::new(bytes[..end].to_vec())) else { continue };
            let results: Vec<_> = frames.collect();
            assert!(results.len() <= 2 && results.iter().rev().skip(1).all(Result::is_ok));
        }
    }

    #[test]
    fn a_huge_header_is_refused() {
        let huge = b"YUV4MPEG2 W4000000000 H4000000000 F25:1 C444\nFRAME\n".to_vec();
        assert!(y4m(Cursor::new(huge)).map(|f| f.collect::<Result<Vec<_>, _>>()).is_err_or_failed());
    }

    trait Failed {
        fn is_err_or_failed(&self) -> bool;
    }

    impl<T> Failed for Result<Result<T, SequenceError>, SequenceError> {
        fn is_err_or_failed(&self) -> bool {
            !matches!(self, Ok(Ok(_)))
        }
    }
}
