//! Frames and masks as image files. PNG, JPEG, PNM, BMP, TIFF, WebP and GIF (its first picture) are read, recognised by their
//! content, because data sets hold PNG bytes under `.ppm`. All but GIF are written, in the format of the extension.

use std::{borrow::Cow, io::Cursor, path::Path};

pub use image::ImageFormat;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::{FlowFormat, FormatError, IoError, error, npy, npz, read_bytes, what_it_is, write_bytes};
use crate::{Frame, Mask, Size, memory};

/// Most bytes of pixels that a file may unfold to.
const MAX_PIXEL_BYTES: u64 = 1 << 30;
/// Up to this many bytes any file is believed.
const BELIEVED: u64 = 64 << 20;

/// Whether an image is rotated as its tag says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Orientation {
    /// Rotated and mirrored as an EXIF or TIFF tag says, as OpenCV and browsers do.
    #[default]
    Tagged,
    /// As stored, whatever the tags say.
    Stored,
}

/// Refuses a size that the file cannot fill, or that there is no memory for, before memory is asked for. `most` is the
/// largest number of bytes of pixels that the format makes of one byte of a file, if it has one.
pub(crate) fn check_claim(
    format: &'static str,
    size: Size,
    bytes_a_pixel: u64,
    file: usize,
    most: Option<u64>,
) -> Result<(), FormatError> {
    let pixels = size.height as u64 * size.width as u64 * bytes_a_pixel;
    if pixels <= BELIEVED {
        return Ok(());
    }
    let what = format!("{size} pixels of {bytes_a_pixel} bytes from a file of {file} bytes");
    if pixels > MAX_PIXEL_BYTES || most.is_some_and(|most| pixels / most > file as u64) {
        return Err(FormatError::limits(format, what));
    }
    // As decoded, and as turned into 8-bit colours.
    memory::check(2 * pixels).map_err(|shortage| FormatError::limits(format, format!("{what}: {shortage}")))
}

/// What [`check_claim`] asks: PNG's deflate makes at most 1032 bytes of one, each of 8 pixels of one bit; PPM and BMP
/// hardly pack. The others make any number of equal pixels of next to nothing.
fn most_of_a_byte(format: ImageFormat) -> Option<u64> {
    match format {
        ImageFormat::Png => Some(1032 * 8 * 3),
        ImageFormat::Pnm | ImageFormat::Bmp => Some(4096),
        _ => None,
    }
}

/// A frame from the bytes of an image file, rotated as its tags say.
///
/// 16-bit and float channels are reduced to 8 bits (rounded), alpha is dropped, grey and palettes are expanded.
pub fn decode(bytes: &[u8]) -> Result<Frame, FormatError> {
    decode_as(bytes, Orientation::Tagged)
}

/// As [`decode`], rotated or as stored.
pub fn decode_as(bytes: &[u8], orientation: Orientation) -> Result<Frame, FormatError> {
    let rgb = decode_any(bytes, orientation)?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Frame::new(Size { height, width }, rgb.into_raw()).map_err(|e| FormatError::malformed("image", e.to_string()))
}

/// A mask from the bytes of an image file, true where any colour channel is not zero, or of a NumPy array of shape
/// `(H, W)`, true where it is not zero.
pub fn decode_mask(bytes: &[u8]) -> Result<Mask, FormatError> {
    match FlowFormat::of_bytes(bytes) {
        Some(FlowFormat::Npy) => return npy::decode_mask(bytes),
        Some(FlowFormat::Npz) => return npz::decode_mask(bytes),
        _ => {}
    }
    // 16 bits are kept: 1/65535 is not zero.
    let rgb = decode_any(bytes, Orientation::Tagged)?.into_rgb16();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let data = rgb.pixels().map(|p| p.0 != [0; 3]).collect();
    Mask::new(Size { height, width }, data).map_err(|e| FormatError::malformed("image", e.to_string()))
}

fn decode_any(bytes: &[u8], orientation: Orientation) -> Result<DynamicImage, FormatError> {
    let format = image::guess_format(bytes).map_err(|_| {
        let what = what_it_is(bytes).map_or(String::new(), |what| format!("; it is {what}"));
        let read = "not an image that is read here: PNG, JPEG, PPM, PGM, BMP, TIFF, WebP, GIF";
        FormatError::unsupported("image", format!("{read}{what}"))
    })?;
    let name = format_name(format);
    // A decoder paints what is missing of a JPEG; a flow of painted pixels would be wrong without a word.
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(FormatError::malformed(name, "the end marker is missing"));
    }
    let pixels = if format == ImageFormat::Png { png_without_words(bytes) } else { bytes.into() };
    let mut reader = ImageReader::new(Cursor::new(&*pixels));
    reader.set_format(format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(2 * MAX_PIXEL_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| refused(name, e))?;
    let (width, height) = decoder.dimensions();
    let size = error::check_size(name, height.into(), width.into())?;
    let bytes_a_pixel = decoder.color_type().bytes_per_pixel().max(3).into();
    check_claim(name, size, bytes_a_pixel, bytes.len(), most_of_a_byte(format))?;
    let turn = match orientation {
        Orientation::Tagged => decoder.orientation().map_err(|e| refused(name, e))?,
        Orientation::Stored => image::metadata::Orientation::NoTransforms,
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| refused(name, e))?;
    image.apply_orientation(turn);
    Ok(image)
}

/// Whether the end marker is there, where segments and scans lead to it: two bytes ff d9 anywhere could be the end of the
/// thumbnail within an EXIF segment, which is a JPEG of its own.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    // In a scan, ff 00 is data and ff d0 to ff d7 are markers that restart it; neither has a length.
    let begins = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff);
    let mut at = 0;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.windows(2).position(begins)) {
        at += skipped + 2;
        if bytes[at - 1] == 0xd9 {
            return true;
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else { return false };
        at += usize::from(u16::from_be_bytes([high, low]));
    }
    false
}

/// A PNG without the chunks that hold packed text and colour profiles: they say nothing of the pixels as they are taken
/// here, and a megabyte of them unfolds to a gigabyte.
fn png_without_words(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 4] = [b"iCCP", b"zTXt", b"iTXt", b"tEXt"];
    const SIGNATURE: usize = 8;
    let chunk = |at: usize| {
        let (length, name) = bytes.get(at..at + 8)?.split_first_chunk::<4>()?;
        // Length, name, contents, checksum.
        let end = at.checked_add(12)?.checked_add(u32::from_be_bytes(*length) as usize)?;
        (end <= bytes.len()).then_some((name, end))
    };
    let mut kept = Vec::new();
    let (mut from, mut at) = (0, SIGNATURE);
    while let Some((name, end)) = chunk(at) {
        if WORDS.contains(&name) {
            kept.extend_from_slice(&bytes[from..at]);
            from = end;
        }
        at = end;
    }
    if from == 0 {
        return bytes.into();
    }
    kept.extend_from_slice(&bytes[from..]);
    kept.into()
}

/// The bytes of an image file. WebP is lossless, JPEG of quality 95, `Pnm` a binary PPM.
pub fn encode(frame: &Frame, format: ImageFormat) -> Result<Vec<u8>, FormatError> {
    encode_pixels(frame.rgb(), frame.size(), image::ExtendedColorType::Rgb8, format)
}

/// The bytes of a grey PNG: 255 where the mask is true, else 0.
pub fn encode_mask(mask: &Mask) -> Result<Vec<u8>, FormatError> {
    let grey: Vec<u8> = mask.data().iter().map(|&m| if m { 255 } else { 0 }).collect();
    encode_pixels(&grey, mask.size(), image::ExtendedColorType::L8, ImageFormat::Png)
}

fn encode_pixels(
    pixels: &[u8],
    size: Size,
    colour: image::ExtendedColorType,
    format: ImageFormat,
) -> Result<Vec<u8>, FormatError> {
    use image::{
        ImageEncoder,
        codecs::pnm::{PnmSubtype, SampleEncoding},
    };
    let mut out = Cursor::new(Vec::new());
    let (width, height) = (size.width as u32, size.height as u32);
    let written = match format {
        ImageFormat::Jpeg => {
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95).write_image(pixels, width, height, colour)
        }
        // Left to itself the encoder writes PAM, which few readers of `.ppm` know.
        ImageFormat::Pnm => image::codecs::pnm::PnmEncoder::new(&mut out)
            .with_subtype(PnmSubtype::Pixmap(SampleEncoding::Binary))
            .write_image(pixels, width, height, colour),
        _ => image::write_buffer_with_format(&mut out, pixels, width, height, colour, format),
    };
    written.map_err(|e| refused(format_name(format), e))?;
    Ok(out.into_inner())
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Pnm => "PPM/PGM",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => "image",
    }
}

fn refused(format: &'static str, cause: ImageError) -> FormatError {
    match cause {
        ImageError::Limits(e) => FormatError::limits(format, e.to_string()),
        ImageError::Unsupported(e) => FormatError::unsupported(format, format!("{e}; convert it to an 8-bit PNG")),
        e => FormatError::malformed(format, e.to_string()),
    }
}

/// A frame from an image file, whatever its extension, rotated as its tags say.
pub fn read_frame(path: impl AsRef<Path>) -> Result<Frame, IoError> {
    read_frame_as(path, Orientation::Tagged)
}

/// A frame from an image file, whatever its extension, rotated or as stored.
pub fn read_frame_as(path: impl AsRef<Path>, orientation: Orientation) -> Result<Frame, IoError> {
    let path = path.as_ref();
    decode_as(&read_bytes(path)?, orientation).map_err(|cause| IoError::Format { path: path.into(), cause })
}

/// A mask from an image file, true where it is not black, or a NumPy array, true where it is not zero.
pub fn read_mask(path: impl AsRef<Path>) -> Result<Mask, IoError> {
    let path = path.as_ref();
    decode_mask(&read_bytes(path)?).map_err(|cause| IoError::Format { path: path.into(), cause })
}

/// Writes a frame in the format of the extension: png, jpg, jpeg, ppm, bmp, tif, tiff, webp.
pub fn write_frame(path: impl AsRef<Path>, frame: &Frame) -> Result<(), IoError> {
    let path = path.as_ref();
    let encoded = format_of(path).and_then(|format| encode(frame, format));
    write_bytes(path, &encoded.map_err(|cause| IoError::Format { path: path.into(), cause })?)
}

/// Checks before the work that [`write_frame`] knows the format of the extension.
pub fn check_frame_name(path: impl AsRef<Path>) -> Result<(), FormatError> {
    format_of(path.as_ref()).map(drop)
}

fn format_of(path: &Path) -> Result<ImageFormat, FormatError> {
    match super::extension(path).as_str() {
        "png" => Ok(ImageFormat::Png),
        "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        "ppm" => Ok(ImageFormat::Pnm),
        "bmp" => Ok(ImageFormat::Bmp),
        "tif" | "tiff" => Ok(ImageFormat::Tiff),
        "webp" => Ok(ImageFormat::WebP),
        other => Err(FormatError::unsupported(
            "image",
            format!("frames are not written as '.{other}'; use .png, .jpg, .ppm, .bmp, .tiff or .webp"),
        )),
    }
}

/// Writes a mask as a grey PNG of 0 and 255.
pub fn write_mask(path: impl AsRef<Path>, mask: &Mask) -> Result<(), IoError> {
    let path = path.as_ref();
    let encoded = encode_mask(mask);
    write_bytes(path, &encoded.map_err(|cause| IoError::Format { path: path.into(), cause })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageBuffer};

    fn stored(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn other_depths_and_channels_become_8_bit_rgb() {
        let deep = ImageBuffer::from_pixel(1, 1, image::Rgb([257u16 * 7, 65535, 128]));
        assert_eq!(decode(&stored(deep.into(), ImageFormat::Png)).unwrap().rgb(), [7, 255, 0]);
        let alpha = ImageBuffer::from_pixel(1, 1, image::Rgba([9u8, 8, 7, 0]));
        assert_eq!(decode(&stored(alpha.into(), ImageFormat::Png)).unwrap().rgb(), [9, 8, 7]);
        let grey = ImageBuffer::from_pixel(1, 1, image::Luma([77u8]));
        assert_eq!(decode(&stored(grey.into(), ImageFormat::Pnm)).unwrap().rgb(), [77; 3]);
        assert_eq!(decode(b"P6 # comment\n2 1 # sizes\n255\n\n12345").unwrap().rgb(), b"\n12345");
        assert_eq!(decode(b"P5 1 1 65535\n\xff\xff").unwrap().rgb(), [255; 3]);
    }

    #[test]
    fn a_ppm_is_a_ppm() {
        let bytes = encode(&Frame::new(Size::new(1, 2), b"\nabcde".to_vec()).unwrap(), ImageFormat::Pnm).unwrap();
        assert!(bytes.starts_with(b"P6\n2 1") && bytes.ends_with(b"255\n\nabcde"), "{bytes:?}");
    }

    #[test]
    fn masks_are_true_where_not_black() {
        let mask = Mask::new(Size::new(1, 3), vec![true, false, true]).unwrap();
        assert_eq!(decode_mask(&encode_mask(&mask).unwrap()).unwrap(), mask);
        let faint = ImageBuffer::from_fn(2, 1, |x, _| image::Luma([x as u16]));
        assert_eq!(decode_mask(&stored(faint.into(), ImageFormat::Png)).unwrap().data(), [false, true]);
    }

    #[test]
    fn a_small_file_may_not_claim_a_large_picture() {
        let mut bmp = encode(&Frame::new(Size::new(1, 1), vec![0; 3]).unwrap(), ImageFormat::Bmp).unwrap();
        bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&5_000u32.to_le_bytes());
        assert!(matches!(decode(&bmp), Err(FormatError::Limits { .. })), "{:?}", decode(&bmp));
        assert!(matches!(decode(b"P6 100000 1 255\n"), Err(FormatError::Limits { .. })));
        assert!(decode(b"P6 4294967295 4294967295 255\n").is_err());
        assert!(decode(b"P6 -1 1 255\n").is_err());
        assert!(matches!(decode(b"not an image"), Err(FormatError::Unsupported { .. })));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_whole() {
        let frame = Frame::from_fn(Size::new(29, 37), |x, y| [(7 * x + y) as u8, (x * y) as u8, (x ^ (3 * y)) as u8]);
        use ImageFormat as F;
        for format in [F::Png, F::Jpeg, F::Pnm, F::Bmp, F::Tiff, F::WebP, F::Gif] {
            let bytes = encode(&frame, format).unwrap();
            let whole = decode(&bytes).unwrap();
            for end in (0..bytes.len()).filter(|end| end % 7 == 0 || bytes.len() - end < 64) {
                let cut = decode(&bytes[..end]);
                assert!(cut.as_ref().map_or(true, |cut| *cut == whole), "{format:?} cut at {end} of {}", bytes.len());
            }
        }
    }

    /// An EXIF block that says orientation `turn`: one entry of the first directory, little-endian.
    fn exif(turn: u8) -> Vec<u8> {
        let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, turn, 0, 0, 0];
        [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat()
    }

    #[test]
    fn orientation_is_as_opencv_and_browsers_have_it() {
        // 2x1 pixels, black then white, stored; where the two go for each value of the tag.
        let stored = Frame::new(Size::new(1, 2), vec![0, 0, 0, 255, 255, 255]).unwrap();
        let png = encode(&stored, ImageFormat::Png).unwrap();
        let after_header = 8 + 25;
        for (turn, size, whites) in [
            (1, (2, 1), (1, 0)),
            (2, (2, 1), (0, 0)),
            (3, (2, 1), (0, 0)),
            (4, (2, 1), (1, 0)),
            (5, (1, 2), (0, 1)),
            (6, (1, 2), (0, 1)),
            (7, (1, 2), (0, 0)),
            (8, (1, 2), (0, 0)),
        ] {
            let chunk = [&b"eXIf"[..], &exif(turn)].concat();
            let mut tagged = png[..after_header].to_vec();
            tagged.extend((chunk.len() as u32 - 4).to_be_bytes());
            tagged.extend(&chunk);
            tagged.extend(crc(&chunk).to_be_bytes());
            tagged.extend(&png[after_header..]);
            let frame = decode(&tagged).unwrap();
            assert_eq!((frame.width(), frame.height()), size, "{turn}");
            assert_eq!(frame.pixel(whites.0, whites.1), [255; 3], "{turn}");
            assert_eq!(decode_as(&tagged, Orientation::Stored).unwrap(), stored);
        }
        let grey = Frame::from_fn(Size::new(8, 16), |x, _| [if x < 8 { 0 } else { 255 }; 3]);
        let jpeg = encode(&grey, ImageFormat::Jpeg).unwrap();
        let body = [&b"Exif\0\0"[..], &exif(6)].concat();
        let segment = [&[0xff, 0xe1][..], &(body.len() as u16 + 2).to_be_bytes(), &body].concat();
        let frame = decode(&[&jpeg[..2], &segment, &jpeg[2..]].concat()).unwrap();
        // A quarter to the right: the left half comes to the top.
        assert_eq!((frame.width(), frame.height()), (8, 16));
        assert!(frame.pixel(4, 2)[0] < 30 && frame.pixel(4, 13)[0] > 225);
    }

    /// PNG's checksum (CRC-32).
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }

    #[test]
    fn a_thumbnail_is_not_the_end_of_a_jpeg() {
        let jpeg =
            |n| encode(&Frame::from_fn(Size::new(n, n), |x, y| [(9 * x + y) as u8; 3]), ImageFormat::Jpeg).unwrap();
        let (thumbnail, main) = (jpeg(8), jpeg(64));
        let body = [&b"Exif\0\0"[..], &exif(1), &thumbnail].concat();
        let segment = [&[0xff, 0xe1][..], &(body.len() as u16 + 2).to_be_bytes(), &body].concat();
        let whole = [&main[..2], &segment, &main[2..]].concat();
        assert_eq!(decode(&whole).unwrap(), decode(&main).unwrap());
        // A camera's second picture behind the first is no part of it.
        assert_eq!(decode(&[&whole[..], &thumbnail[..30]].concat()).unwrap(), decode(&main).unwrap());
        for end in [whole.len() / 2, whole.len() - 2, 2 + segment.len()] {
            let error = decode(&whole[..end]).unwrap_err().to_string();
            assert!(error.contains("end marker"), "{error}");
        }
    }

    #[test]
    fn packed_profiles_are_not_unfolded_and_plain_masks_are_read() {
        // 1 bit a pixel, all black: deflate packs it a thousand times.
        let mask = png_of(7680, 4320, &[]);
        assert!(mask.len() < 10_000, "{}", mask.len());
        assert_eq!(decode_mask(&mask).unwrap().count(), 0);
        let profile = [&b"p\0\0"[..], b"no zlib stream at all"].concat();
        assert_eq!(decode(&png_of(8, 8, &[(b"iCCP", &profile), (b"zTXt", &profile)])).unwrap().rgb(), [0; 192]);
    }

    /// A black PNG of one bit with further chunks.
    fn png_of(width: u32, height: u32, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header().unwrap();
        for (name, contents) in chunks {
            writer.write_chunk(png::chunk::ChunkType(**name), contents).unwrap();
        }
        writer.write_image_data(&vec![0; width.div_ceil(8) as usize * height as usize]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn other_files_are_named_as_what_they_are() {
        for (bytes, word) in [
            (&b"\x00\x05\x16\x07\0\x02\0\0Mac OS X"[..], "AppleDouble"),
            (b"", "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "MP4"),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
