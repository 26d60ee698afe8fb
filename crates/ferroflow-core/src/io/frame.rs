//! Frames and masks as PNG, JPEG, PPM/PGM, BMP, TIFF, WebP or GIF (its first picture): by content when reading, because
//! data sets hold PNG bytes under `.ppm`; by extension when writing.

use std::{io::Cursor, path::Path};

pub use image::ImageFormat;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::{FormatError, IoError, error, read_bytes, write_bytes};
use crate::{Frame, Mask};

/// Most bytes of pixels that a file may unfold to.
const MAX_PIXEL_BYTES: u64 = 1 << 30;
/// Up to this many bytes any file is believed; beyond, it must hold at least one byte for each [`MAX_RATIO`] of them.
const BELIEVED: u64 = 64 << 20;
const MAX_RATIO: u64 = 4096;

/// Refuses a size that the file could hardly fill, before memory is asked for.
pub(crate) fn check_claim(
    format: &'static str,
    width: usize,
    height: usize,
    bytes_a_pixel: u64,
    file: usize,
) -> Result<(), FormatError> {
    let pixels = width as u64 * height as u64 * bytes_a_pixel;
    if pixels > MAX_PIXEL_BYTES || (pixels > BELIEVED && pixels / MAX_RATIO > file as u64) {
        let what = format!("{width}x{height} pixels of {bytes_a_pixel} bytes from a file of {file} bytes");
        return Err(FormatError::limits(format, what));
    }
    Ok(())
}

/// A frame from the bytes of an image file.
///
/// 16-bit and float channels are reduced to 8 bits (rounded), alpha is dropped, grey and palettes are expanded. The
/// pixels are taken as stored: an orientation tag is not applied.
pub fn decode(bytes: &[u8]) -> Result<Frame, FormatError> {
    let rgb = decode_any(bytes)?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Frame::new(width, height, rgb.into_raw()).map_err(|e| FormatError::malformed("image", e.to_string()))
}

/// A mask from the bytes of an image file: true where any colour channel is not zero.
pub fn decode_mask(bytes: &[u8]) -> Result<Mask, FormatError> {
    // 16 bits are kept: 1/65535 is not zero.
    let rgb = decode_any(bytes)?.into_rgb16();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let data = rgb.pixels().map(|p| p.0 != [0; 3]).collect();
    Mask::new(width, height, data).map_err(|e| FormatError::malformed("image", e.to_string()))
}

fn decode_any(bytes: &[u8]) -> Result<DynamicImage, FormatError> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    let format = image::guess_format(bytes).map_err(|_| {
        FormatError::unsupported("image", "not an image that is read here: PNG, JPEG, PPM, PGM, BMP, TIFF, WebP, GIF")
    })?;
    let name = format_name(format);
    // A decoder paints what is missing of a JPEG; a flow of painted pixels would be wrong without a word.
    if format == ImageFormat::Jpeg && !bytes.windows(2).rev().any(|marker| marker == [0xff, 0xd9]) {
        return Err(FormatError::malformed(name, "the end marker is missing"));
    }
    reader.set_format(format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(2 * MAX_PIXEL_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| refused(name, e))?;
    let (width, height) = decoder.dimensions();
    let (width, height) = error::check_size(name, width.into(), height.into())?;
    check_claim(name, width, height, decoder.color_type().bytes_per_pixel().max(3).into(), bytes.len())?;
    DynamicImage::from_decoder(decoder).map_err(|e| refused(name, e))
}

/// The bytes of an image file. WebP is lossless, JPEG of quality 95, `Pnm` a binary PPM.
pub fn encode(frame: &Frame, format: ImageFormat) -> Result<Vec<u8>, FormatError> {
    encode_pixels(frame.rgb(), frame.width(), frame.height(), image::ExtendedColorType::Rgb8, format)
}

/// The bytes of a grey PNG: 255 where the mask is true, else 0.
pub fn encode_mask(mask: &Mask) -> Result<Vec<u8>, FormatError> {
    let grey: Vec<u8> = mask.data().iter().map(|&m| if m { 255 } else { 0 }).collect();
    encode_pixels(&grey, mask.width(), mask.height(), image::ExtendedColorType::L8, ImageFormat::Png)
}

fn encode_pixels(
    pixels: &[u8],
    width: usize,
    height: usize,
    colour: image::ExtendedColorType,
    format: ImageFormat,
) -> Result<Vec<u8>, FormatError> {
    use image::{
        ImageEncoder,
        codecs::pnm::{PnmSubtype, SampleEncoding},
    };
    let mut out = Cursor::new(Vec::new());
    let (width, height) = (width as u32, height as u32);
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

/// A frame from an image file, whatever its name.
pub fn read_frame(path: impl AsRef<Path>) -> Result<Frame, IoError> {
    let path = path.as_ref();
    decode(&read_bytes(path)?).map_err(|cause| IoError::Format { path: path.into(), cause })
}

/// A mask from an image file: true where it is not black.
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

/// Whether [`write_frame`] knows the format that a name asks for: to be asked before the work.
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
        let bytes = encode(&Frame::new(2, 1, b"\nabcde".to_vec()).unwrap(), ImageFormat::Pnm).unwrap();
        assert!(bytes.starts_with(b"P6\n2 1") && bytes.ends_with(b"255\n\nabcde"), "{bytes:?}");
    }

    #[test]
    fn masks_are_true_where_not_black() {
        let mask = Mask::new(3, 1, vec![true, false, true]).unwrap();
        assert_eq!(decode_mask(&encode_mask(&mask).unwrap()).unwrap(), mask);
        let faint = ImageBuffer::from_fn(2, 1, |x, _| image::Luma([x as u16]));
        assert_eq!(decode_mask(&stored(faint.into(), ImageFormat::Png)).unwrap().data(), [false, true]);
    }

    #[test]
    fn a_small_file_may_not_claim_a_large_picture() {
        let mut bmp = encode(&Frame::new(1, 1, vec![0; 3]).unwrap(), ImageFormat::Bmp).unwrap();
        bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&5_000u32.to_le_bytes());
        assert!(matches!(decode(&bmp), Err(FormatError::Limits { .. })), "{:?}", decode(&bmp));
        assert!(matches!(decode(b"P6 100000 1 255\n"), Err(FormatError::Limits { .. })));
        assert!(decode(b"P6 4294967295 4294967295 255\n").is_err());
        assert!(decode(b"P6 -1 1 255\n").is_err());
        assert!(matches!(decode(b"not an image"), Err(FormatError::Unsupported { .. })));
    }
}
