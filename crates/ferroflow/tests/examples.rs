//! The example of a pair runs, with what comes along.
#![cfg(feature = "rill")]

use std::path::Path;

use ferroflow_core::Size;

use ferroflow::{Frame, core::io};

#[path = "../examples/pair.rs"]
#[allow(dead_code)] // Its `main`.
mod pair;

#[test]
fn a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, second, drawing) = (path("1.png"), path("2.png"), path("flow.png"));
    // Waves that move right by 3 pixels.
    for (file, shift) in [(&first, 0.0), (&second, 3.0)] {
        let frame = Frame::from_fn(Size::new(128, 192), |x, y| {
            let (x, y) = (x as f32 - shift, y as f32);
            let wave = (0.31 * x).sin() + (0.27 * y + 0.05 * x).cos() + (0.11 * (x + 2.0 * y)).sin();
            [(128.0 + 40.0 * wave) as u8, (128.0 - 40.0 * wave) as u8, (100.0 + 30.0 * wave) as u8]
        });
        io::write_frame(file, &frame).unwrap();
    }
    let flow = pair::estimate([&first, &second, &drawing].map(Path::new), None).unwrap();
    let (u, v) = flow.get(96, 64);
    assert!((u - 3.0).abs() < 0.5 && v.abs() < 0.5, "({u}, {v})");
    assert_eq!(io::read_flow(path("flow.flo")).unwrap(), flow);
    assert_eq!(io::read_frame(&drawing).unwrap().width(), 192);
}
