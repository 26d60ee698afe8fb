//! The ranks of a training run: the processes that `mpirun` or a scheduler started with this one.

use std::{sync::Arc, time::Duration};

use ferroflow::train::{
    TrainError,
    peers::{Alone, Peers},
};

use crate::{
    interrupt::Stopped,
    machine,
    session::{complain, set_quiet},
    usage::{exit_code, explain},
};

/// Where those who start ranks say how many there are: Open MPI, MPICH and Intel MPI, MVAPICH, Slurm's `srun`.
const SIZES: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"];

/// This process among the ranks.
pub struct Ranks {
    /// The ranks, as the training loop sees them.
    pub peers: Arc<dyn Peers>,
    #[cfg(feature = "mpi")]
    mpi: Option<Arc<ferroflow::train::peers::Mpi>>,
}

impl Ranks {
    /// Joins the ranks that were started together, if there are several, and takes this rank's share of the processors. Only the first
    /// then says anything but errors.
    ///
    /// # Errors
    /// If this build has no MPI, or the MPI library cannot be used.
    pub fn join() -> anyhow::Result<Self> {
        let told = |variable| std::env::var(variable).ok()?.parse().ok();
        let started = SIZES.into_iter().filter_map(told).max().unwrap_or(1);
        if started <= 1 {
            return Ok(Self::alone());
        }
        let ranks = Self::join_all(started)?;
        if ranks.peers.rank() > 0 {
            set_quiet(true);
        }
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            let threads = machine::processors_of_each(ranks.peers.on_this_machine());
            // A pool that exists already is somebody's choice.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        Ok(ranks)
    }

    #[cfg(feature = "mpi")]
    fn alone() -> Self {
        Self { peers: Arc::new(Alone), mpi: None }
    }

    #[cfg(not(feature = "mpi"))]
    fn alone() -> Self {
        Self { peers: Arc::new(Alone) }
    }

    #[cfg(feature = "mpi")]
    fn join_all(_: usize) -> anyhow::Result<Self> {
        let mpi = Arc::new(ferroflow::train::peers::Mpi::join()?);
        Ok(Self { peers: mpi.clone(), mpi: Some(mpi) })
    }

    #[cfg(not(feature = "mpi"))]
    fn join_all(started: usize) -> anyhow::Result<Self> {
        crate::usage::usage!(
            "started as one of {started} processes, which this build cannot join: build the program with `--features mpi`"
        )
    }

    /// Ends the work of this rank. An error ends the other ranks too, which would wait for this one.
    pub fn end<T>(&self, worked: anyhow::Result<T>) -> anyhow::Result<T> {
        match worked {
            Err(error) if self.peers.size() > 1 && !error.is::<Stopped>() => {
                if matches!(error.downcast_ref(), Some(TrainError::Peer { .. })) {
                    // The rank that failed says why, and ends this one.
                    std::thread::sleep(Duration::from_secs(10));
                } else {
                    complain!("error on rank {}: {}", self.peers.rank(), explain(&error));
                }
                #[cfg(feature = "mpi")]
                if let Some(mpi) = &self.mpi {
                    mpi.abort(exit_code(&error));
                }
                std::process::exit(exit_code(&error).into())
            }
            other => other,
        }
    }
}
