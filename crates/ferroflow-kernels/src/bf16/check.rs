//! One product with a known result: the instructions are only used once they have given it.

use super::{Bf16, DEPTH, Multiplier, PANEL, Product, TILE, TILE_LEN, TILES, Unit, round};

/// Whether products are those of plain Rust, bit for bit. All numbers are integers of up to eight digits and all sums
/// below 2^24, so that every order of summing gives the same.
pub fn is_right(bf16: Bf16) -> bool {
    // Steps that overlap, and points and tiles apart by odd distances, so that no address can be wrong unseen.
    const OFFSETS: [u32; 3] = [0, 74, 22];
    const STEP: usize = 35;
    const LEN: usize = (TILES * TILE - 1) * STEP + 74 / 2 + DEPTH + 1;
    let integers = |len: usize, seed: usize| -> Vec<u16> {
        (0..len).map(|i| round((((i + seed) * 7919 % 64_007) % 255) as f32 - 127.0)).collect()
    };
    let inputs = integers(LEN, 1);
    let weights = integers(OFFSETS.len() * PANEL * TILE_LEN, 2);
    let products = |bf16: Bf16, panel: usize| {
        let mut sums = vec![f32::NAN; TILES * panel * TILE * TILE];
        let first = inputs.as_ptr();
        let product = Product {
            inputs: [first.wrapping_add(1), first.wrapping_add(TILE * STEP)],
            step: STEP,
            offsets: &OFFSETS,
            weights: weights.as_ptr(),
            panel,
            sums: sums.as_mut_ptr(),
        };
        // SAFETY: the only multiplier meanwhile; inputs, weights and sums are as long as the product says.
        unsafe { Multiplier::new(bf16).run(&product) };
        sums
    };
    (1..=PANEL).all(|panel| {
        let (got, want) = (products(bf16, panel), products(Bf16(Unit::Portable), panel));
        got.iter().zip(&want).all(|(got, want)| got.to_bits() == want.to_bits())
    })
}
