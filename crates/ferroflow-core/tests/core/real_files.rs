//! Real files of the field, where they are present.

use std::path::Path;

use ferroflow_core::io;

use crate::shared;

fn files(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

#[test]
fn the_pairs_read_with_the_sizes_and_validity_of_their_table() {
    let Some(table) = shared("data/pairs.tsv") else { return };
    let root = table.parent().unwrap();
    let text = std::fs::read_to_string(&table).unwrap();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let mut pairs = 0;
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |name: &str| cells[columns.iter().position(|c| *c == name).unwrap()];
        let size = (cell("width").parse().unwrap(), cell("height").parse().unwrap());
        for image in ["image1", "image2"] {
            let frame = io::read_frame(root.join(cell(image))).unwrap();
            assert_eq!((frame.width(), frame.height()), size, "{line}");
        }
        let flow = io::read_flow(root.join(cell("flow"))).unwrap();
        assert_eq!((flow.width(), flow.height()), size, "{line}");
        let pixels = size.0 * size.1;
        let known = flow.validity().map_or(pixels, |m| m.count());
        let scored = match cell("invalid") {
            "" => known,
            invalid => pixels - io::read_mask(root.join(invalid)).unwrap().count(),
        };
        let fraction: f64 = cell("valid_fraction").parse().unwrap();
        assert!((scored as f64 / pixels as f64 - fraction).abs() < 6e-5, "{line}: {scored} of {pixels}");
        let largest =
            flow.u().iter().zip(flow.v()).map(|(u, v)| f64::from(*u).hypot(f64::from(*v))).fold(0.0, f64::max);
        if cell("invalid").is_empty() {
            let claimed: f64 = cell("max_magnitude").parse().unwrap();
            assert!((largest - claimed).abs() < 6e-3, "{line}: {largest}");
        }
        pairs += 1;
    }
    assert_eq!(pairs, 31);
}

#[test]
fn pixels_agree_with_those_of_a_known_file() {
    // PNG bytes under the name .ppm, and a true P6, beside their neighbours.
    let Some(folder) = shared("data/flyingchairs") else { return };
    let mut all = Vec::new();
    files(&folder, &mut all);
    let mut kinds = std::collections::BTreeMap::new();
    for path in all.iter().filter(|p| p.extension().is_some_and(|e| e == "ppm")) {
        let bytes = io::read_bytes(path).unwrap();
        *kinds.entry(bytes.starts_with(b"P6")).or_insert(0) += 1;
        let frame = io::frame::decode(&bytes).unwrap();
        assert_eq!((frame.width(), frame.height()), (512, 384), "{}", path.display());
        if bytes.starts_with(b"P6") {
            assert!(bytes.ends_with(frame.rgb()), "{}", path.display());
        }
    }
    println!("{kinds:?} (true: P6, false: other bytes under .ppm)");
    assert_eq!(kinds.values().sum::<i32>(), 16);
}

#[test]
fn flo_files_survive_byte_by_byte() {
    let Some(folder) = shared("data/format-samples/mmflow") else { return };
    let mut all = Vec::new();
    files(&folder, &mut all);
    let (mut flows, mut maps) = (0, 0);
    for path in all {
        let bytes = io::read_bytes(&path).unwrap();
        match path.extension().unwrap().to_str().unwrap() {
            "flo" => {
                let flow = io::read_flow(&path).unwrap();
                assert_eq!(io::flo::encode(&flow), bytes, "{}", path.display());
                flows += 1;
            }
            "pfm" => {
                let map = io::pfm::decode_map(&bytes).unwrap();
                assert_eq!((map.width, map.height, map.channels), (50, 50, 1), "{}", path.display());
                assert!(map.data.iter().all(|v| (0.0..=1.0).contains(v)), "{}", path.display());
                let again = io::pfm::decode_map(&io::pfm::encode_map(&map).unwrap()).unwrap();
                assert_eq!(again, map);
                maps += 1;
            }
            _ => assert_eq!(io::read_frame(&path).unwrap().width(), 50, "{}", path.display()),
        }
    }
    assert_eq!((flows, maps), (3, 2));
}
