//! Whole files, and files damaged everywhere.

use ferroflow_testing::flo5;

use super::*;

fn value(y: usize, x: usize, plane: usize) -> f32 {
    if (y, x) == (2, 4) { f32::NAN } else { (y * 100 + x) as f32 / 4.0 - plane as f32 }
}

#[test]
fn every_second_value_is_taken_and_nan_is_unknown() {
    for new in [false, true] {
        let flow = decode(&flo5(8, 10, new, value)).unwrap();
        assert_eq!((flow.width(), flow.height()), (5, 4));
        for y in 0..4 {
            for x in 0..5 {
                let expected = (value(2 * y, 2 * x, 0), value(2 * y, 2 * x, 1));
                assert_eq!(flow.known(x, y), ((y, x) != (1, 2)).then_some(expected));
            }
        }
        assert!(decode(&flo5(3, 5, new, |_, _, _| 1.0)).unwrap().validity().is_none());
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_trusted() {
    for new in [false, true] {
        let bytes = flo5(4, 6, new, value);
        for length in 0..bytes.len() - 8 {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for wrong in [0, 0x7f, 0xff, bytes[at] ^ 1] {
                let mut damaged = bytes.clone();
                damaged[at] = wrong;
                // Any result will do: no panic, no endless walk, no allocation beyond what the file can hold.
                let _ = decode(&damaged);
            }
        }
    }
    let mut missing = flo5(4, 6, false, value);
    let tree = missing.windows(6).position(|w| w == b"TREE\x01\x00").unwrap();
    missing[tree + 6] -= 1;
    assert!(decode(&missing).unwrap_err().to_string().contains("missing"));
    let latest = {
        let mut bytes = flo5(4, 6, true, value);
        let layout = bytes.windows(3).position(|w| w == [3, 2, 4]).unwrap();
        bytes[layout] = 4;
        bytes
    };
    assert!(decode(&latest).unwrap_err().to_string().contains("latest format"));
    assert!(decode(b"PIEH").is_err());
}
