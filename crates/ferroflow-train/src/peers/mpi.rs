//! Ranks of MPI, as `mpirun` or a scheduler starts them.

use std::{fmt, thread};

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

/// All processes that were started together.
///
/// MPI ends them all when one of them dies, or [fails](Self::abort).
pub struct Mpi {
    rank: usize,
    size: usize,
    /// Their number, and which of them this is.
    on_this_machine: [usize; 2],
    sums_beside: bool,
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
            _universe: universe,
        })
    }

    /// Ends the processes of all ranks at once, with this exit code.
    pub fn abort(&self, code: u8) -> ! {
        SimpleCommunicator::world().abort(code.into())
    }

    /// Every rank gives each other one a part of what it has, and gets one from it: `parts(rank)` is what goes to a rank, and `received`
    /// holds a part of each.
    fn exchange<'a>(&self, parts: impl Fn(usize) -> &'a [f32], received: &mut [f32]) {
        let world = SimpleCommunicator::world();
        let len = received.len() / self.size;
        for distance in 1..self.size {
            let (to, from) = ((self.rank + distance) % self.size, (self.rank + self.size - distance) % self.size);
            let [destination, source] = [to, from].map(|rank| world.process_at_rank(rank as i32));
            send_receive_into(parts(to), &destination, &mut received[from * len..][..len], &source);
        }
        received[self.rank * len..][..len].copy_from_slice(parts(self.rank));
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
        let (mut own, mut received) = (vec![0.0; longest * self.size], vec![0.0; longest * self.size]);
        let mut sums = vec![0.0; longest];
        for bucket in values.chunks_mut(BUCKET) {
            let share = bucket.len().div_ceil(self.size);
            let (own, received) = (&mut own[..share * self.size], &mut received[..share * self.size]);
            let sums = &mut sums[..share];
            own[..bucket.len()].copy_from_slice(bucket);
            own[bucket.len()..].fill(0.0);
            self.exchange(|rank| &own[rank * share..][..share], received);
            sums.fill(0.0);
            for of_rank in received.chunks_exact(share) {
                sums.iter_mut().zip(of_rank).for_each(|(sum, value)| *sum += value);
            }
            self.exchange(|_| sums, received);
            bucket.copy_from_slice(&received[..bucket.len()]);
        }
    }
}
