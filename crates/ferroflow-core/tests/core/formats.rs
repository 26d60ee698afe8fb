//! Round trips through files, every format cut at every length, hostile headers.

use ferroflow_core::{
    FlowField, Frame, Mask, Size,
    io::{self, FlowFormat, FormatError, IoError},
};

fn sparse_flow() -> FlowField {
    // Multiples of 1/64 px: KITTI's format keeps them.
    FlowField::sparse_from_fn(Size::new(5, 7), |x, y| {
        (x != y).then_some((x as f32 * 3.25 - 9.0, y as f32 / 64.0 - 0.5))
    })
}

fn gradient_frame() -> Frame {
    Frame::from_fn(Size::new(6, 9), |x, y| [x as u8 * 28, y as u8 * 50, (x * y) as u8 * 5])
}

#[test]
fn flow_survives_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for flow in [sparse_flow(), FlowField::from_fn(Size::new(4, 3), |x, y| (x as f32, -(y as f32)))] {
        for format in FlowFormat::WRITTEN {
            let path = dir.path().join("flow").with_extension(format.extension());
            io::write_flow(&path, &flow).unwrap();
            assert_eq!(io::read_flow(&path).unwrap(), flow, "{format:?}");
            // The content decides, not the name.
            let misnamed = dir.path().join("flow.dat");
            std::fs::copy(&path, &misnamed).unwrap();
            assert_eq!(io::read_flow(&misnamed).unwrap(), flow, "{format:?} under another name");
        }
    }
}

#[test]
fn frames_survive_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let frame = gradient_frame();
    for extension in ["png", "ppm", "bmp", "tiff", "tif", "webp", "jpg", "jpeg", "PNG"] {
        let path = dir.path().join("frame").with_extension(extension);
        io::write_frame(&path, &frame).unwrap();
        let back = io::read_frame(&path).unwrap();
        assert_eq!((back.width(), back.height()), (9, 6));
        if !extension.starts_with('j') {
            assert_eq!(back, frame, "{extension}");
        }
    }
    let mask = Mask::from_fn(Size::new(4, 5), |x, y| x > y);
    io::write_mask(dir.path().join("mask.png"), &mask).unwrap();
    assert_eq!(io::read_mask(dir.path().join("mask.png")).unwrap(), mask);
}

#[test]
fn names_without_a_format_are_refused_with_a_list() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["flow.jpeg", "flow", "flow."] {
        let error = io::write_flow(dir.path().join(name), &sparse_flow()).unwrap_err();
        assert!(matches!(error, IoError::Format { cause: FormatError::Unsupported { .. }, .. }));
        assert!(error.to_string().contains(".flo") && error.to_string().contains(name), "{error}");
    }
    assert!(io::write_frame(dir.path().join("a.gif"), &gradient_frame()).unwrap_err().to_string().contains(".png"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    for format in FlowFormat::WRITTEN {
        assert!(format.encode(&FlowField::zeros(Size::new(3, 0))).is_err(), "{format:?} of an empty flow");
    }
}

#[test]
fn every_flow_format_cut_at_every_length_is_refused() {
    for format in FlowFormat::WRITTEN {
        let whole = format.encode(&sparse_flow()).unwrap();
        // The last chunk of a PNG, 12 bytes, says only that the file ends: what is before it is the whole flow.
        let needed = whole.len() - if format == FlowFormat::Kitti { 12 } else { 0 };
        for length in 0..needed {
            let cut = &whole[..length];
            let error = format.decode(cut).expect_err(&format!("{format:?} cut at {length} of {}", whole.len()));
            assert!(matches!(error, FormatError::Malformed { .. }), "{format:?} cut at {length}: {error}");
            assert!(io::decode_flow(cut).is_err());
        }
        for length in needed..whole.len() {
            let _ = format.decode(&whole[..length]);
        }
        let mut longer = whole.clone();
        longer.push(0);
        // Readers of PFM that go line by line never saw what follows the values, so such files exist.
        if format == FlowFormat::Pfm {
            assert_eq!(format.decode(&longer).unwrap(), format.decode(&whole).unwrap());
        } else if !matches!(format, FlowFormat::Kitti | FlowFormat::Npz | FlowFormat::Exr) {
            assert!(format.decode(&longer).is_err(), "{format:?} with a byte too many");
        }
    }
}

#[test]
fn every_image_format_cut_at_every_length_is_refused_or_whole() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    let frame = gradient_frame();
    for format in [Png, Jpeg, Pnm, Bmp, Tiff, WebP, Gif] {
        let whole = match format {
            Gif => {
                let mut out = std::io::Cursor::new(Vec::new());
                let rgb = image::RgbImage::from_raw(9, 6, frame.rgb().to_vec()).unwrap();
                image::DynamicImage::from(rgb).write_to(&mut out, Gif).unwrap();
                out.into_inner()
            }
            _ => io::frame::encode(&frame, format).unwrap(),
        };
        let complete = io::frame::decode(&whole).unwrap();
        let mut accepted = 0;
        for length in 0..whole.len() {
            if let Ok(cut) = io::frame::decode(&whole[..length]) {
                assert_eq!((cut.width(), cut.height()), (9, 6), "{format:?} cut at {length}");
                // Only bytes after the last pixel may be absent.
                assert!(format != Jpeg && cut == complete, "{format:?} cut at {length} of {}", whole.len());
                accepted += 1;
            }
        }
        assert!(accepted <= 12, "{format:?}: {accepted} cuts of {} were read", whole.len());
    }
}

#[test]
fn damaged_files_never_panic() {
    use image::ImageFormat::{Bmp, Jpeg, Png, Pnm, Tiff, WebP};
    let mut files: Vec<Vec<u8>> = FlowFormat::WRITTEN.iter().map(|f| f.encode(&sparse_flow()).unwrap()).collect();
    files.extend([Png, Jpeg, Pnm, Bmp, Tiff, WebP].map(|f| io::frame::encode(&gradient_frame(), f).unwrap()));
    // A linear congruential generator: the same damage every time.
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    for file in &files {
        for _ in 0..1500 {
            let mut damaged = file.clone();
            for _ in 0..1 + below(3) {
                let at = below(file.len());
                damaged[at] = [0, 255, damaged[at] ^ (1 << below(8)), below(256) as u8][below(4)];
            }
            let _ = io::decode_flow(&damaged);
            let _ = io::frame::decode(&damaged);
        }
    }
}

/// Peak of the address space in KiB: counts memory that was asked for and never touched.
fn peak_address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmPeak:"))?.split_whitespace().next()?.parse().ok()
}

#[test]
fn hostile_headers_are_refused_without_a_large_allocation() {
    let flo = |w: i32, h: i32| [&b"PIEH"[..], &w.to_le_bytes(), &h.to_le_bytes(), &[0; 64]].concat();
    let mut hostile = vec![
        flo(i32::MAX, i32::MAX),
        flo(99_999, 99_999),
        flo(-1, 5),
        flo(0, 0),
        flo(i32::MIN, i32::MIN),
        b"PF\n99999 99999\n-1\n0000".to_vec(),
        b"PF\nnan nan\nnan\n".to_vec(),
        b"PF\n1e9 1e9\n-1\n".to_vec(),
        b"Pf\n-5 -5\n-1\n".to_vec(),
        b"P6 60000 60000 255\n".to_vec(),
        b"P5\n20000 20000\n65535\n".to_vec(),
        b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 4\nMAXVAL 65535\nTUPLTYPE RGB_ALPHA\nENDHDR\n".to_vec(),
    ];
    for shape in
        ["(99999, 99999, 2)", "(2, 99999, 99999)", "(-1, -1, 2)", "(1e30, 2, 2)", "(184467440737095516160, 2, 2)"]
    {
        let dict = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        hostile.push([b"\x93NUMPY\x01\0", &(dict.len() as u16).to_le_bytes()[..], dict.as_bytes()].concat());
        hostile.push([b"\x93NUMPY\x02\0", &u32::MAX.to_le_bytes()[..], dict.as_bytes()].concat());
    }
    // Real encoders' files with the size of 30000 x 30000 written over the true one, checksums made good.
    let mut png = FlowFormat::Kitti.encode(&sparse_flow()).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    hostile.push(png);
    let mut picture = io::frame::encode(&gradient_frame(), image::ImageFormat::Png).unwrap();
    picture[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let sum = crc32(&picture[12..29]);
    picture[29..33].copy_from_slice(&sum.to_be_bytes());
    hostile.push(picture);

    let before = peak_address_space();
    for (i, bytes) in hostile.iter().enumerate() {
        assert!(io::decode_flow(bytes).is_err(), "flow {i} was read");
        assert!(io::frame::decode(bytes).is_err(), "image {i} was read");
        assert!(io::frame::decode_mask(bytes).is_err(), "mask {i} was read");
    }
    if let (Some(before), Some(after)) = (before, peak_address_space()) {
        // Other tests run beside this one, hence the wide limit; the smallest claim above is 0.8 GB.
        assert!(after - before < 400 << 10, "{} KiB were asked for", after - before);
    }
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}
