//! Dense Inverse Search from two decoded frames to flow at their resolution.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ferroflow_core::{Frame, Size};
use ferroflow_infer::dis::{Dis, Preset};

/// A texture of many scales, as natural images have: noise on grids of 4 to 64 pixels, smoothly interpolated.
fn texture(x: f32, y: f32) -> [u8; 3] {
    let noise = |column: f32, row: f32| {
        let mixed = (column as i32 as u32).wrapping_mul(0x9e37_79b1) ^ (row as i32 as u32).wrapping_mul(0x85eb_ca77);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((mixed ^ (mixed >> 13)) & 0xffff) as f32 / 65535.0 - 0.5
    };
    let mut grey = 127.5;
    for (period, height) in [(4.0, 30.0), (8.0, 45.0), (16.0, 60.0), (32.0, 60.0), (64.0, 60.0)] {
        let (x, y) = (x / period, y / period);
        let (column, row) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (fx, fy) = (smooth(x - column), smooth(y - row));
        let across = |row: f32| noise(column, row) * (1.0 - fx) + noise(column + 1.0, row) * fx;
        grey += height * (across(row) * (1.0 - fy) + across(row + 1.0) * fy);
    }
    [grey, 0.9 * grey, 255.0 - grey].map(|c| c.round() as u8)
}

/// The texture seen through a slight zoom and shift.
fn frame(width: usize, height: usize, zoom: f32, shift: f32) -> Frame {
    Frame::from_fn(Size { height, width }, |x, y| texture(x as f32 * zoom + shift, y as f32 * zoom - shift))
}

fn dis(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dis");
    group.sample_size(10);
    for (width, height) in [(1024, 448), (1920, 1080)] {
        let (first, second) = (frame(width, height, 1.0, 0.0), frame(width, height, 1.01, 3.5));
        for (name, preset) in [("fast", Preset::Fast), ("medium", Preset::Medium)] {
            let dis = Dis::new(preset);
            group.bench_function(format!("{name}/{height}x{width}"), |bencher| {
                bencher.iter(|| dis.estimate(black_box(&first), black_box(&second)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, dis);
criterion_main!(benches);
