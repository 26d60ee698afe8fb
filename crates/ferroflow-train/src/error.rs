//! The error of a run.

use ferroflow_net::{device::DeviceError, weights::store::StoreError};

use crate::{
    checkpoint::CheckpointError, data::FeedError, folder::FolderError, init::InitError, log::LogError, loss::LossError,
    recipe::RecipeError, validate::ValidationError,
};

/// Why a run stopped, by cause. Its state is on the disk up to its last checkpoint.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum TrainError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Data(#[from] FeedError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Loss(#[from] LossError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Weights(#[from] StoreError),
    /// The weights of the teacher of a resumed run cannot be read.
    #[error("{}, the weights of the teacher: {source}; put the file back, or start again with --out", .path.display())]
    Teacher {
        /// Their file.
        path: std::path::PathBuf,
        /// The cause.
        source: StoreError,
    },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// TensorBoard's files could not be written.
    #[error("{0}")]
    Events(std::io::Error),
    /// The checkpoint is of another network or optimiser.
    #[error("the checkpoint does not fit the recipe: {0}; start again with --out")]
    Resume(String),
    /// The ranks cannot share the batch out.
    #[error(
        "batch is {batch}, which {ranks} ranks cannot share out evenly: it is the batch of all ranks together; choose a multiple of \
         {ranks} (--set batch={}), or start another number of processes", .batch.next_multiple_of(*.ranks)
    )]
    Ranks {
        /// Pairs of a batch.
        batch: usize,
        /// Number of ranks.
        ranks: usize,
    },
    /// Another rank failed, and says why itself.
    #[error("rank {rank} failed; its message says why")]
    Peer {
        /// The rank.
        rank: usize,
    },
    /// Ranks have not read the same.
    #[error(
        "rank {rank} begins with other weights, or at another step, than rank 0: the run's folder and the files of `init` must be \
         the same on all machines, as on a file system that they share"
    )]
    Apart {
        /// The first that differs.
        rank: usize,
    },
    /// Several steps in a row could not be taken.
    #[error(
        "{count} steps in a row could not be taken, the last one at step {step} with {}: {reason}; lower lr, clip the \
         gradients, or look at these pairs",
        .samples.join(", ")
    )]
    Diverged {
        /// Number of these steps.
        count: u64,
        /// Number of the last step.
        step: u64,
        /// What was not finite.
        reason: &'static str,
        /// Names of the pairs of the last step.
        samples: Vec<String>,
    },
}
