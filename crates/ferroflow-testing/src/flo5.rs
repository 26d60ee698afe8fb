//! Spring's `.flo5` files, made byte by byte as HDF5 lays them out.

use std::io::Write;

/// A file under construction; parts are written before what points to them.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a part; its address.
    fn part(&mut self, parts: &[&[u8]]) -> u64 {
        let address = self.bytes.len() as u64;
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        address
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(5));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An object header: version 1, or version 2 whose checksum nobody looks at.
fn header(new: bool, messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, data) in messages {
        let size = (data.len() as u16).to_le_bytes();
        match new {
            true => body.extend([*kind, size[0], size[1], 0]),
            false => body.extend([*kind, 0, size[0], size[1], 0, 0, 0, 0]),
        }
        body.extend(data);
    }
    let size = (body.len() as u32).to_le_bytes();
    let mut out = match new {
        true => [&b"OHDR\x02\x02"[..], &size].concat(),
        false => [&[1, 0, messages.len() as u8, 0, 1, 0, 0, 0][..], &size, &[0; 4]].concat(),
    };
    out.extend(body);
    out.extend(if new { &[0; 4][..] } else { &[] });
    out
}

/// A flow of `[height, width, 2]` in chunks of 3 x 4 x 1, shuffled and deflated, in HDF5's newer or older form.
/// `value(y, x, plane)` gives the values, u in plane 0 and v in plane 1.
pub fn flo5(height: usize, width: usize, new: bool, value: impl Fn(usize, usize, usize) -> f32) -> Vec<u8> {
    let (rows, columns) = (3, 4);
    let mut file = Writer { bytes: vec![0; 96] };
    let mut tree = Vec::new();
    let mut used = 0u16;
    for top in (0..height).step_by(rows) {
        for left in (0..width).step_by(columns) {
            for plane in 0..2 {
                let at = |i: usize| (top + i / columns, left + i % columns);
                let inside = |(y, x)| y < height && x < width;
                let values: Vec<[u8; 4]> = (0..rows * columns)
                    .map(|i| if inside(at(i)) { value(at(i).0, at(i).1, plane) } else { 0.0 }.to_le_bytes())
                    .collect();
                let shuffled: Vec<u8> = (0..4).flat_map(|byte| values.iter().map(move |v| v[byte])).collect();
                let packed = deflate(&shuffled);
                tree.extend((packed.len() as u32).to_le_bytes());
                tree.extend([0; 4]);
                tree.extend(words(&[top as u64, left as u64, plane as u64, 0]));
                tree.extend(file.part(&[&packed]).to_le_bytes());
                used += 1;
            }
        }
    }
    let none = [u64::MAX; 2];
    let tree = file.part(&[b"TREE\x01\x00", &used.to_le_bytes(), &words(&none), &tree]);
    let float = [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];
    let mut layout = vec![3, 2, 4];
    layout.extend(tree.to_le_bytes());
    layout.extend([rows as u32, columns as u32, 1, 4].iter().flat_map(|side| side.to_le_bytes()));
    let space = [&[1, 3, 0, 0, 0, 0, 0, 0][..], &words(&[height as u64, width as u64, 2])].concat();
    // Shuffle and deflate, each with one value and, in version 1, its padding.
    let filters = match new {
        true => vec![2, 2, 2, 0, 1, 0, 1, 0, 4, 0, 0, 0, 1, 0, 1, 0, 1, 0, 5, 0, 0, 0],
        false => {
            let one = |id: u8, value: u8| [id, 0, 0, 0, 1, 0, 1, 0, value, 0, 0, 0, 0, 0, 0, 0];
            [&[1, 2, 0, 0, 0, 0, 0, 0][..], &one(2, 4), &one(1, 5)].concat()
        }
    };
    let set = header(new, &[(1, space), (3, float.to_vec()), (8, layout), (11, filters)]);
    let set = file.part(&[&set]);
    let signature = b"\x89HDF\r\n\x1a\n";
    let head = if new {
        let link = [&[1, 0, 4][..], b"flow", &set.to_le_bytes()].concat();
        let root = file.part(&[&header(true, &[(6, link)])]);
        let end = file.bytes.len() as u64;
        [&signature[..], &[2, 8, 8, 0], &words(&[0, u64::MAX, end, root]), &[0; 4]].concat()
    } else {
        let names = file.part(&[&words(&[0]), b"flow\0\0\0\0"]);
        let heap = file.part(&[b"HEAP\0\0\0\0", &words(&[16, 1, names])]);
        let node = file.part(&[b"SNOD\x01\x00\x01\x00", &words(&[8, set, 0, 0, 0])]);
        let group = file.part(&[b"TREE\0\0\x01\0", &words(&none), &words(&[0, node, 8])]);
        let root = file.part(&[&header(false, &[(0x11, words(&[group, heap]))])]);
        let end = file.bytes.len() as u64;
        let sizes = [0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0];
        [&signature[..], &sizes, &words(&[0, u64::MAX, end, u64::MAX, 0, root])].concat()
    };
    file.bytes[..head.len()].copy_from_slice(&head);
    file.bytes
}
