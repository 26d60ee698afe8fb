//! The norm of all gradients together.

use ferroflow_net::training::Gradients;
use rayon::prelude::*;

use super::CHUNK;

/// The Euclidean norm of all gradients as one vector, which is not finite if one of them is not. Chunks are summed in their order,
/// so the result is the same, bit for bit, for any number of threads.
pub fn norm(gradients: &Gradients) -> f64 {
    let chunks: Vec<&[f32]> = gradients.iter().flat_map(|g| g.chunks(CHUNK)).collect();
    let squares: Vec<f64> = chunks.into_par_iter().map(squares).collect();
    squares.into_iter().sum::<f64>().sqrt()
}

/// The sum of squares, as eight sums that a processor adds at once.
fn squares(values: &[f32]) -> f64 {
    let (whole, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for eight in whole {
        for (sum, &v) in sums.iter_mut().zip(eight) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
}
