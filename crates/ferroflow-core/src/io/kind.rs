//! Recognises files of a wrong kind, for error messages.

/// What the bytes of a file are, and what to do with it, if it is of a kind that is often mistaken for a frame, a flow or a
/// video. The text follows "this is no ...,".
pub fn what_it_is(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let text = bytes.trim_ascii_start();
    let brand = bytes.get(4..12).filter(|brand| brand.starts_with(b"ftyp")).map(|brand| &brand[4..]);
    Some(match brand {
        Some(b"avif" | b"avis") => "an AVIF image: convert it to PNG",
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1") => "a HEIC image: convert it to PNG",
        Some(_) => "an MP4 or MOV video: `ferroflow estimate VIDEO -o FOLDER` takes it by itself",
        None if bytes.is_empty() => "an empty file: fetch or make it again",
        None if starts(b"\x00\x05\x16\x07") || starts(b"\x00\x05\x16\x00") => {
            "what macOS leaves beside a file (AppleDouble): the file itself has no `._` before its name"
        }
        None if starts(b"version https://git-lfs") => "a Git LFS pointer: `git lfs pull` fetches the file",
        None if [b"<!DOCTYPE".as_slice(), b"<!doctype", b"<html", b"<HTML"].iter().any(|t| text.starts_with(t)) => {
            "a web page: the download was refused or wants a login; fetch the file again"
        }
        None if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") => "a JPEG XL image: convert it to PNG",
        None if starts(b"\x76\x2f\x31\x01") => "an OpenEXR image: convert it to PNG",
        None if starts(b"\x1a\x45\xdf\xa3") => {
            "a Matroska or WebM video: `ferroflow estimate VIDEO -o FOLDER` takes it by itself"
        }
        None if starts(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") => {
            "an AVI video: `ferroflow estimate VIDEO -o FOLDER` takes it by itself"
        }
        None if starts(b"YUV4MPEG2 ") => "a YUV4MPEG2 video: `ferroflow estimate VIDEO -o FOLDER` takes it by itself",
        None if starts(b"\x89HDF\r\n\x1a\n") => "an HDF5 file: of these only Spring's .flo5 flow is read",
        None if starts(b"PIEH") => "a .flo flow, not an image",
        None if starts(b"\x93NUMPY") => "a NumPy array (.npy), not an image",
        None if starts(b"\x1f\x8b") => "a gzip file: unpack it first",
        None if starts(b"PK\x03\x04") => "a zip archive: unpack it first",
        None if starts(b"%PDF") => "a PDF document",
        None => return None,
    })
}
