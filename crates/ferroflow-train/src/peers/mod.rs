//! Training by several processes, the ranks, each with its part of every batch.
//!
//! The ranks do the same in the same order: they read the samples of one endless order, a part of each batch each; normalise a batch as
//! a whole; count what a loss is a mean over together; and add their gradients. From there on each does for itself what a single process
//! would do, with the same numbers, so that all hold the same weights. Rank 0 also evaluates and writes.

mod beside;
mod metered;
#[cfg(feature = "mpi")]
mod mpi;

pub use ferroflow_net::peers::{Alone, Peers, Threads};

pub(crate) use beside::backward_and_sum;
pub(crate) use metered::{Metered, Sharing};
#[cfg(feature = "mpi")]
pub use mpi::{Mpi, MpiError};

use crate::error::TrainError;

/// What this rank found, unless one failed: then the first of those says why, and the others that it did.
pub(crate) fn agree<T>(peers: &dyn Peers, own: Result<T, TrainError>) -> Result<T, TrainError> {
    let failed = peers.gather(&[f64::from(u8::from(own.is_err()))]);
    match failed.iter().position(|failed| *failed > 0.0) {
        Some(rank) if rank != peers.rank() => Err(TrainError::Peer { rank }),
        _ => own,
    }
}

/// Fails unless all ranks hold the same numbers.
pub(crate) fn compare(peers: &dyn Peers, own: &[f64]) -> Result<(), TrainError> {
    let all = peers.gather(own);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let mut ranks = all.chunks_exact(own.len().max(1)).map(bits);
    let Some(first) = ranks.next() else { return Ok(()) };
    match ranks.position(|of_rank| of_rank != first) {
        Some(rank) => Err(TrainError::Apart { rank: rank + 1 }),
        None => Ok(()),
    }
}
