//! Dense Inverse Search from two decoded frames to flow at their resolution.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ferroflow_core::Frame;
use ferroflow_infer::dis::{Dis, Preset};

/// A textured frame seen through a slight zoom and shift.
fn frame(width: usize, height: usize, zoom: f32, shift: f32) -> Frame {
    Frame::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 * zoom + shift, y as f32 * zoom - shift);
        let wave = |a: f32, b: f32| (a * x + b * y).sin();
        let grey = 128.0 + 25.0 * (wave(0.11, 0.07) + wave(-0.19, 0.23) + wave(0.37, -0.05) + wave(0.53, 0.61));
        [grey as u8, (0.8 * grey) as u8, (255.0 - grey) as u8]
    })
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
