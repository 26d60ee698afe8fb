//! The effect of lossy compression on a frame: 8x8 blocks of brightness and colour go through the cosine transform and are quantised
//! with JPEG's tables (ITU-T T.81, Annex K). Entropy coding loses nothing and is left out, and so is the rounding of decoders.

use ferroflow_core::Frame;

use crate::math::{cos_turns, round};

const LUMINANCE: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMINANCE: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

type Block = [[f32; 8]; 8];

/// Compresses and decompresses a frame in place at a quality of 1 to 100, colour at half resolution.
pub fn compress(frame: &mut Frame, quality: u8) {
    let (w, h) = (frame.width(), frame.height());
    let (luminance, chrominance) = (table(&LUMINANCE, quality), table(&CHROMINANCE, quality));
    let cosines = cosines();
    // Whole blocks of 16x16, the last pixels repeated.
    let (wide, high) = (w.div_ceil(16) * 16, h.div_ceil(16) * 16);
    let mut planes = [vec![0.0f32; wide * high], vec![0.0f32; wide * high / 4], vec![0.0f32; wide * high / 4]];
    for y in 0..high {
        for x in 0..wide {
            let [r, g, b] = frame.pixel(x.min(w - 1), y.min(h - 1)).map(f32::from);
            planes[0][y * wide + x] = 0.299 * r + 0.587 * g + 0.114 * b - 128.0;
            let at = y / 2 * (wide / 2) + x / 2;
            planes[1][at] += 0.25 * (-0.168_736 * r - 0.331_264 * g + 0.5 * b);
            planes[2][at] += 0.25 * (0.5 * r - 0.418_688 * g - 0.081_312 * b);
        }
    }
    let [luma, blue, red] = &mut planes;
    quantise(luma, wide, &luminance, &cosines);
    quantise(blue, wide / 2, &chrominance, &cosines);
    quantise(red, wide / 2, &chrominance, &cosines);
    for (y, row) in frame.rgb_mut().chunks_exact_mut(w * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let l = luma[y * wide + x] + 128.0;
            let at = y / 2 * (wide / 2) + x / 2;
            let (b, r) = (blue[at], red[at]);
            for (out, v) in pixel.iter_mut().zip([l + 1.402 * r, l - 0.344_136 * b - 0.714_136 * r, l + 1.772 * b]) {
                *out = (v + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// The steps of a quality, scaled as the Independent JPEG Group does.
fn table(base: &[u8; 64], quality: u8) -> Block {
    let quality = f32::from(quality.clamp(1, 100));
    let scale = if quality < 50.0 { 50.0 / quality } else { 2.0 - 0.02 * quality };
    std::array::from_fn(|y| std::array::from_fn(|x| round(f32::from(base[y * 8 + x]) * scale).clamp(1.0, 255.0)))
}

/// The orthonormal cosine transform of eight values, a row for each frequency.
fn cosines() -> Block {
    std::array::from_fn(|k| {
        let norm = if k == 0 { 0.125f32.sqrt() } else { 0.5 };
        std::array::from_fn(|i| norm * cos_turns((2 * i + 1) as f32 * k as f32 / 32.0))
    })
}

/// `a b`
fn product(a: &Block, b: &Block) -> Block {
    let mut out = [[0.0; 8]; 8];
    for (row, a) in out.iter_mut().zip(a) {
        for (b, &a) in b.iter().zip(a) {
            for (o, &b) in row.iter_mut().zip(b) {
                *o += a * b;
            }
        }
    }
    out
}

fn transposed(a: &Block) -> Block {
    std::array::from_fn(|y| std::array::from_fn(|x| a[x][y]))
}

fn quantise(plane: &mut [f32], stride: usize, steps: &Block, cosines: &Block) {
    let back = transposed(cosines);
    for strip in plane.chunks_exact_mut(stride * 8) {
        for left in (0..stride).step_by(8) {
            let block: Block = std::array::from_fn(|y| std::array::from_fn(|x| strip[y * stride + left + x]));
            let mut values = product(&product(cosines, &block), &back);
            for (row, steps) in values.iter_mut().zip(steps) {
                for (v, &step) in row.iter_mut().zip(steps) {
                    *v = round(*v / step) * step;
                }
            }
            let block = product(&product(&back, &values), cosines);
            for (y, row) in block.iter().enumerate() {
                strip[y * stride + left..][..8].copy_from_slice(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_core::Size;

    use super::*;

    fn error(quality: u8) -> f64 {
        // Odd sizes, edges and a gradient.
        let frame = Frame::from_fn(Size::new(37, 53), |x, y| {
            let v = (x * 3 + y * 2) as u8;
            if (x / 9 + y / 7) % 2 == 0 { [v, v / 2, 90] } else { [200, v, 255 - v] }
        });
        let mut coded = frame.clone();
        compress(&mut coded, quality);
        let sum: f64 = frame.rgb().iter().zip(coded.rgb()).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
        sum / frame.rgb().len() as f64
    }

    #[test]
    fn lower_quality_loses_more() {
        let (fine, middle, coarse) = (error(95), error(60), error(20));
        assert!(fine < middle && middle < coarse && coarse < 40.0, "{fine} {middle} {coarse}");
        // A plain frame survives up to rounding.
        let mut plain = Frame::from_fn(Size::new(20, 20), |_, _| [100; 3]);
        compress(&mut plain, 50);
        assert!(plain.rgb().iter().all(|v| v.abs_diff(100) <= 2));
    }
}
