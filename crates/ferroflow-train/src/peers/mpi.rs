//! Ranks of MPI, as `mpirun` or a scheduler starts them.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    thread,
};

use mpi::{
    Threading,
    environment::Universe,
    point_to_point::send_receive_into,
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives},
};

use super::Peers;

/// Floats that are added at a time, 4 MB: large enough that the network is used well, and small beside the gradients.
const BUCKET: usize = 1 << 20;

/// Floats whose sums are kept apart from what is added, in the nearest cache.
const SUMMED_AT_ONCE: usize = 1 << 10;

/// All processes that were started together.
///
/// MPI ends them all when one of them dies, or [fails](Self::abort).
pub struct Mpi {
    rank: usize,
    size: usize,
    /// Their number, and which of them this is.
    on_this_machine: [usize; 2],
    sums_beside: bool,
    /// Of the other ranks, while a sum is taken.
    received: Mutex<Vec<f32>>,
    // Ends MPI when it is dropped, which waits for the other ranks.
    _universe: Universe,
}

/// Why MPI cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// A process joins once.
    #[error("this process has already joined the ranks of MPI")]
    Twice,
    /// The library does not let the threads of a training run call it.
    #[error(
        "this MPI library offers its functions to one thread only: use one built with threads (MPI_THREAD_SERIALIZED)"
    )]
    Threads,
}

impl Mpi {
    /// Joins the ranks that this process was started with; waits for all of them.
    ///
    /// # Errors
    /// If it has joined before, or the library was built without threads.
    pub fn join() -> Result<Self, MpiError> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple).ok_or(MpiError::Twice)?;
        if threading < Threading::Serialized {
            return Err(MpiError::Threads);
        }
        let world = universe.world();
        let machine = world.split_shared(world.rank());
        Ok(Self {
            rank: world.rank() as usize,
            size: world.size() as usize,
            on_this_machine: [machine.size(), machine.rank()].map(|number| number as usize),
            sums_beside: threading == Threading::Multiple,
            received: Mutex::default(),
            _universe: universe,
        })
    }

    /// Ends the processes of all ranks at once, with this exit code.
    pub fn abort(&self, code: u8) -> ! {
        SimpleCommunicator::world().abort(code.into())
    }

    /// The others, as each rank meets them in turn, in pairs: whom it gives something to, and whom it gets something from.
    fn rounds(&self) -> impl Iterator<Item = [usize; 2]> {
        (1..self.size).map(|distance| [self.rank + distance, self.rank + self.size - distance].map(|r| r % self.size))
    }

    /// Adds to the values those of the other ranks. `received` is for what comes from them.
    fn sum_bucket(&self, values: &mut [f32], received: &mut [f32]) {
        let world = SimpleCommunicator::world();
        let exchange = |[to, from]: [usize; 2], given: &[f32], got: &mut [f32]| {
            let [destination, source] = [to, from].map(|rank| world.process_at_rank(rank as i32));
            send_receive_into(given, &destination, got, &source);
        };
        let len = values.len();
        let share = len.div_ceil(self.size);
        let of = |rank: usize| (rank * share).min(len)..((rank + 1) * share).min(len);
        let own = of(self.rank);
        for round in self.rounds() {
            exchange(round, &values[of(round[0])], &mut received[round[1] * share..][..own.len()]);
        }
        sum_in_order(&mut values[own.clone()], received, share, self.rank, self.size);
        for round in self.rounds() {
            // (Shares do not overlap.)
            if let Ok([sums, got]) = values.get_disjoint_mut([own.clone(), of(round[1])]) {
                exchange(round, sums, got);
            }
        }
    }
}

/// Adds what was received of each other rank to a rank's own values, rank by rank from 0: `received` has `share` values of each.
fn sum_in_order(own: &mut [f32], received: &[f32], share: usize, rank: usize, size: usize) {
    for (block, own) in own.chunks_mut(SUMMED_AT_ONCE).enumerate() {
        let of_rank = |from: usize| &received[from * share + block * SUMMED_AT_ONCE..][..own.len()];
        let mut sums = [0.0; SUMMED_AT_ONCE];
        let sums = &mut sums[..own.len()];
        for from in 0..size {
            let values = if from == rank { &*own } else { of_rank(from) };
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        own.copy_from_slice(sums);
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Leaving in good order would wait for ranks that wait for this one.
        if thread::panicking() {
            self.abort(101);
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Peers for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn on_this_machine(&self) -> usize {
        self.on_this_machine[0]
    }

    fn rank_on_this_machine(&self) -> usize {
        self.on_this_machine[1]
    }

    fn sums_beside(&self) -> bool {
        self.sums_beside
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; self.size * own.len()];
        if !own.is_empty() {
            SimpleCommunicator::world().all_gather_into(own, &mut all[..]);
        }
        all
    }

    /// Every rank gets a share of the values of all ranks, adds them in the order of the ranks, and gives the sums to all. So no more is
    /// sent than in the best algorithms of MPI's own sum, whose order is the library's affair; and messages, unlike sums, may pass beside
    /// what another thread gathers.
    fn sum(&self, values: &mut [f32]) {
        let longest = values.len().min(BUCKET).div_ceil(self.size);
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() < longest * self.size {
            received.resize(longest * self.size, 0.0);
        }
        values.chunks_mut(BUCKET).for_each(|bucket| self.sum_bucket(bucket, &mut received));
    }
}
