//! Scalar periodic fields, the raw material of textures, values in 0..1.

use super::procedural::SIZE;
use crate::math::{round, sin_turns};
use crate::random::Random;

/// A periodic `[SIZE, SIZE]` field.
pub type Field = Vec<f32>;

fn normalize(field: &mut [f32]) {
    let (low, high) = field.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let scale = 1.0 / (high - low).max(1e-6);
    for v in field {
        *v = (*v - low) * scale;
    }
}

/// Noise with a power-law spectrum: random lattices of doubling resolution, each `persistence` as strong as the one
/// before. 0.5 gives amplitude 1/f, as photographs have. The coarsest lattice is `columns` by `rows`.
pub fn fractal(random: &mut Random, columns: usize, rows: usize, persistence: f32) -> Field {
    let (mut width, mut height) = (columns, rows);
    let mut strength = 1.0;
    let mut field: Field = (0..width * height).map(|_| random.spread(1.0)).collect();
    while width < SIZE || height < SIZE {
        field = upsample(&field, width, height, width < SIZE, height < SIZE);
        (width, height) = ((width * 2).min(SIZE), (height * 2).min(SIZE));
        strength *= persistence;
        let mut bits = 0;
        for (i, v) in field.iter_mut().enumerate() {
            if i % 4 == 0 {
                bits = random.bits();
            }
            *v += strength * ((bits & 0xFFFF) as f32 * (2.0 / 65_535.0) - 1.0);
            bits >>= 16;
        }
    }
    normalize(&mut field);
    field
}

/// Doubles a periodic field along the chosen axes with the quadratic B-spline's weights (3/4, 1/4).
fn upsample(field: &[f32], width: usize, height: usize, wide: bool, high: bool) -> Field {
    let widened: Field = if wide {
        let mut out = Vec::with_capacity(field.len() * 2);
        for row in field.chunks_exact(width) {
            for x in 0..width {
                let (left, right) = (row[(x + width - 1) % width], row[(x + 1) % width]);
                out.extend([0.75 * row[x] + 0.25 * left, 0.75 * row[x] + 0.25 * right]);
            }
        }
        out
    } else {
        field.to_vec()
    };
    if !high {
        return widened;
    }
    let width = if wide { width * 2 } else { width };
    let mut out = Vec::with_capacity(widened.len() * 2);
    for y in 0..height {
        let row = |y: usize| &widened[y % height * width..][..width];
        for neighbour in [y + height - 1, y + 1] {
            out.extend(row(y).iter().zip(row(neighbour)).map(|(a, b)| 0.75 * a + 0.25 * b));
        }
    }
    out
}

/// Stripes along a lattice direction, bent by `warp` turns of a smooth field; `sharpness` above 1 makes hard edges.
pub fn stripes(random: &mut Random, warp: f32, sharpness: f32) -> Field {
    let bend = fractal(random, 4, 4, 0.35);
    let (kx, ky) = (random.spread(24.0) as i32, random.spread(24.0) as i32);
    let (kx, ky) = if kx.abs() + ky.abs() < 3 { (7, 3) } else { (kx, ky) };
    let phase = random.unit();
    let scale = 1.0 / SIZE as f32;
    (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = ((i % SIZE) as f32 * scale, (i / SIZE) as f32 * scale);
            let wave = sin_turns(kx as f32 * x + ky as f32 * y + phase + warp * bend[i]);
            (0.5 + 0.5 * sharpness * wave).clamp(0.0, 1.0)
        })
        .collect()
}

/// Two crossed sets of stripes: plaid, or a chequerboard when hard.
pub fn plaid(random: &mut Random) -> Field {
    let (kx, ky) = (random.between(3, 24) as f32, random.between(3, 24) as f32);
    let (hard, shear) = (random.range(1.0, 9.0), random.below(3) as f32);
    let multiply = random.chance(0.5);
    let scale = 1.0 / SIZE as f32;
    (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = ((i % SIZE) as f32 * scale, (i / SIZE) as f32 * scale);
            let (a, b) = (sin_turns(kx * x + shear * y), sin_turns(ky * y));
            let wave = if multiply { a * b } else { 0.5 * (a + b) };
            (0.5 + 0.5 * hard * wave).clamp(0.0, 1.0)
        })
        .collect()
}

/// Cells about jittered lattice points: the value is the cell's own level, darkened towards its border.
pub fn cells(random: &mut Random) -> Field {
    let n = random.between(8, 40) as i32;
    let (jitter, border) = (random.range(0.3, 1.0), random.range(0.0, 0.5));
    let points: Vec<(f32, f32, f32)> = (0..n * n)
        .map(|_| (0.5 + 0.5 * random.spread(jitter), 0.5 + 0.5 * random.spread(jitter), random.unit()))
        .collect();
    let step = n as f32 / SIZE as f32;
    let mut field = Vec::with_capacity(SIZE * SIZE);
    for y in 0..SIZE {
        let py = y as f32 * step;
        let cy = py as i32;
        for x in 0..SIZE {
            let px = x as f32 * step;
            let cx = px as i32;
            let (mut first, mut second, mut level) = (9.0f32, 9.0f32, 0.0);
            for dy in -1..=1 {
                let row = (cy + dy + n) % n * n;
                for dx in -1..=1 {
                    let p = points[(row + (cx + dx + n) % n) as usize];
                    let (ex, ey) = ((cx + dx) as f32 + p.0 - px, (cy + dy) as f32 + p.1 - py);
                    let d = ex * ex + ey * ey;
                    second = second.min(first.max(d));
                    if d < first {
                        (first, level) = (d, p.2);
                    }
                }
            }
            let edge = ((second.sqrt() - first.sqrt()) * 4.0).min(1.0);
            field.push((0.25 + 0.75 * level) * (1.0 - border + border * edge));
        }
    }
    field
}

/// Courses of bricks or planks with mortar between them.
pub fn bricks(random: &mut Random) -> Field {
    let rows = 2 * random.between(3, 16);
    let columns = random.between(2, 12);
    let mortar = random.range(0.01, 0.03);
    let levels: Vec<f32> = (0..rows * columns).map(|_| random.range(0.35, 1.0)).collect();
    let shift = if random.chance(0.7) { 0.5 } else { 0.0 };
    let scale = 1.0 / SIZE as f32;
    let soft = |d: f32, size: f32| ((d.min(size - d) - mortar * 0.4) * (0.6 / mortar)).clamp(0.0, 1.0);
    (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = ((i % SIZE) as f32 * scale, (i / SIZE) as f32 * scale * rows as f32);
            let row = y as usize;
            let along = x * columns as f32 + shift * (row % 2) as f32;
            let column = along as usize % columns;
            let (fx, fy) = (along - (along as usize) as f32, y - row as f32);
            let inside = soft(fx / columns as f32, 1.0 / columns as f32) * soft(fy / rows as f32, 1.0 / rows as f32);
            levels[row * columns + column] * inside
        })
        .collect()
}

/// A few terraces of a field: flat areas with contour edges.
pub fn posterize(field: &mut [f32], steps: f32) {
    for v in field {
        *v = round(*v * steps) / steps;
    }
}
