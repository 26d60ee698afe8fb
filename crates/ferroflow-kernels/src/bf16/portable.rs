//! The product in plain Rust, summed in the order of AMX.

use super::{DEPTH, Product, TILE, TILE_LEN};
use crate::{
    Isa,
    simd::{self, Kernel, Simd},
};

/// # Safety
/// As for [`super::Multiplier::run`].
pub unsafe fn multiply(isa: Isa, product: &Product<'_>) {
    simd::run(isa, Plain(product));
}

/// Compiled for every instruction set so that the compiler vectorises with the best.
struct Plain<'a>(&'a Product<'a>);

impl Kernel for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.0;
        for (tile, &input) in p.inputs.iter().enumerate() {
            for n in 0..p.panel {
                for point in 0..TILE {
                    let mut sums = [0.0f32; TILE];
                    for (s, &offset) in p.offsets.iter().enumerate() {
                        // SAFETY: `multiply`'s caller gives as many numbers as there are points and steps.
                        let (values, weights) = unsafe {
                            let values = input.add(point * p.step).byte_add(offset as usize);
                            let weights = p.weights.add((s * p.panel + n) * TILE_LEN);
                            (&*values.cast::<[u16; DEPTH]>(), &*weights.cast::<[[u16; 2 * TILE]; DEPTH / 2]>())
                        };
                        let (mut even, mut odd) = ([0.0f32; TILE], [0.0f32; TILE]);
                        for (pair, weights) in values.chunks_exact(2).zip(weights) {
                            let (a, b) = (widen(pair[0]), widen(pair[1]));
                            for o in 0..TILE {
                                even[o] += a * widen(weights[2 * o]);
                                odd[o] += b * widen(weights[2 * o + 1]);
                            }
                        }
                        for o in 0..TILE {
                            sums[o] += even[o] + odd[o];
                        }
                    }
                    // SAFETY: the caller's sums hold every tile, panel and point.
                    unsafe {
                        p.sums.add(((tile * p.panel + n) * TILE + point) * TILE).cast::<[f32; TILE]>().write(sums)
                    };
                }
            }
        }
    }
}

#[inline(always)]
fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}
