//! Animated GIF, WebP and PNG files as videos.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
    sync::{Arc, mpsc},
};

use ferroflow_core::{
    Frame, Size,
    io::{FormatError, IoError, MAX_SIDE},
};
use image::{
    AnimationDecoder, ImageDecoder, ImageResult, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
};

use super::{Frames, NamedFrame, SequenceError};

/// Most bytes that a decoder may take.
const MAX_BYTES: u64 = 1 << 30;

/// The pictures of an animated GIF, WebP or PNG in order, as a viewer shows them, named by their number from 000000. What a
/// picture leaves unchanged is filled in from those before. Their times are ignored and alpha is dropped. `None` for any other
/// file, including one with a single picture.
///
/// # Errors
/// If the file cannot be read, or its header is damaged; later damage is an error of the iterator.
pub fn animation(path: &Path) -> Result<Option<Frames>, SequenceError> {
    let Some(mut pictures) = open(path)? else { return Ok(None) };
    // Whatever is wrong with the only picture of a file is said when it is read as an image.
    if pictures.nth(1).is_none() {
        return Ok(None);
    }
    // The decoders cannot be sent to another thread, so they stay on one of their own, a picture ahead. It ends when
    // nobody listens any more.
    let (sender, receiver) = mpsc::sync_channel(0);
    let path = path.to_owned();
    std::thread::spawn(move || {
        let pictures = match open(&path) {
            Ok(pictures) => pictures.into_iter().flatten(),
            Err(error) => return drop(sender.send(Err(error))),
        };
        for (count, picture) in pictures.enumerate() {
            let frame = picture.and_then(|picture| {
                let (width, height) = picture.dimensions();
                let rgb = picture.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect();
                Frame::new(Size { height: height as usize, width: width as usize }, rgb)
                    .map_err(|e| damaged(&path, e.to_string()))
            });
            let ended = frame.is_err();
            let frame = frame.map(|frame| NamedFrame { name: format!("{count:06}"), frame: Arc::new(frame) });
            if sender.send(frame).is_err() || ended {
                return;
            }
        }
    });
    Ok(Some(Box::new(receiver.into_iter())))
}

type Pictures = Box<dyn Iterator<Item = Result<image::RgbaImage, SequenceError>>>;

/// The pictures of a file that may hold several.
fn open(path: &Path) -> Result<Option<Pictures>, SequenceError> {
    let io = |source| SequenceError::Io { path: path.into(), source };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut magic = Vec::new();
    file.by_ref().take(12).read_to_end(&mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    let frames = match &magic[..] {
        [b'G', b'I', b'F', b'8', ..] => limited(GifDecoder::new(file)).map(|gif| Some(gif.into_frames())),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => {
            limited(WebPDecoder::new(file)).map(|webp| webp.has_animation().then(|| webp.into_frames()))
        }
        [0x89, b'P', b'N', b'G', ..] => {
            PngDecoder::with_limits(file, limits()).and_then(|png| match png.is_apng()? {
                true => Ok(Some(png.apng()?.into_frames())),
                false => Ok(None),
            })
        }
        _ => return Ok(None),
    };
    let path = path.to_owned();
    let frames = frames.map_err(|e| damaged(&path, e.to_string()))?;
    Ok(frames.map(|frames| {
        let pictures = frames.map(move |f| f.map(|f| f.into_buffer()).map_err(|e| damaged(&path, e.to_string())));
        Box::new(pictures) as Pictures
    }))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    // As for single images: a file of 200 bytes may claim a canvas of millions of rows.
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits
}

fn limited<D: ImageDecoder>(decoder: ImageResult<D>) -> ImageResult<D> {
    let mut decoder = decoder?;
    decoder.set_limits(limits())?;
    Ok(decoder)
}

fn damaged(path: &Path, what: String) -> SequenceError {
    let cause = FormatError::Malformed { format: "animation", what };
    IoError::Format { path: path.into(), cause }.into()
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage, codecs::gif::GifEncoder};

    use super::*;

    fn gif(path: &Path, colours: &[u8]) {
        let mut encoder = GifEncoder::new(File::create(path).unwrap());
        let picture = |&c| image::Frame::new(RgbaImage::from_pixel(8, 6, Rgba([c, 0, 255, 255])));
        encoder.encode_frames(colours.iter().map(picture)).unwrap();
    }

    #[test]
    fn an_animated_gif_is_a_video_and_a_single_picture_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        gif(&path, &[0, 255, 0]);
        let frames: Vec<_> = animation(&path).unwrap().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(frames.iter().map(|f| f.frame.rgb()[0]).collect::<Vec<_>>(), [0, 255, 0]);
        assert_eq!((frames[2].name.as_str(), frames[2].frame.width()), ("000002", 8));
        // Looking at the first picture only leaves nothing behind.
        assert!(animation(&path).unwrap().unwrap().next().is_some());
        gif(&path, &[7]);
        assert!(animation(&path).unwrap().is_none());
    }

    #[test]
    fn an_animation_that_is_cut_ends_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        gif(&path, &[0, 80, 160, 255]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
        let frames: Vec<_> = animation(&path).unwrap().unwrap().collect();
        assert!(frames.last().unwrap().is_err() && frames.len() > 2, "{}", frames.len());
    }

    #[test]
    fn animated_webp_and_png_are_videos() {
        let dir = tempfile::tempdir().unwrap();
        // Two whole lossless pictures of 8x6 between the chunks that make an animation of them.
        let chunk = |name: &[u8], body: &[u8]| {
            let padding = vec![0; body.len() % 2];
            [name, &(body.len() as u32).to_le_bytes(), body, &padding].concat()
        };
        let picture = |value: u8| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            let image = image::RgbImage::from_pixel(8, 6, image::Rgb([value; 3]));
            image.write_to(&mut bytes, image::ImageFormat::WebP).unwrap();
            // The frame's place and size, less one, in 24 bits, its time, and that it covers what was there before, which
            // blending would not leave to the last digit; then its own chunk.
            let header = [&[0u8; 6][..], &[7, 0, 0, 5, 0, 0, 40, 0, 0, 2]].concat();
            chunk(b"ANMF", &[&header[..], &bytes.into_inner()[12..]].concat())
        };
        let body = [chunk(b"VP8X", &[2, 0, 0, 0, 7, 0, 0, 5, 0, 0]), chunk(b"ANIM", &[0; 6]), picture(10), picture(20)]
            .concat();
        let webp = [b"RIFF", &(body.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &body].concat();
        let path = dir.path().join("a.webp");
        std::fs::write(&path, &webp).unwrap();
        let read =
            |path: &Path| -> Vec<u8> { animation(path).unwrap().unwrap().map(|f| f.unwrap().frame.rgb()[0]).collect() };
        assert_eq!(read(&path), [10, 20]);
        // A canvas of millions of rows (found by fuzzing): in the header, after RIFF's and the chunk's own.
        let mut tall = webp;
        tall[27..30].copy_from_slice(&[2, 0, 98]);
        std::fs::write(&path, tall).unwrap();
        assert!(animation(&path).is_err());

        let path = dir.path().join("a.png");
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 8, 6);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_animated(2, 0).unwrap();
        let mut writer = encoder.write_header().unwrap();
        [10, 20].iter().for_each(|&value| writer.write_image_data(&[value; 8 * 6 * 3]).unwrap());
        writer.finish().unwrap();
        assert_eq!(read(&path), [10, 20]);
    }
}
