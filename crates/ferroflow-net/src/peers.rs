//! Ranks: the processes that train a network together, each on its part of every batch.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// What a rank knows of the others and does with them.
///
/// All ranks make the same calls in the same order, with equally many values. Every result is the same on all ranks, to the last
/// bit, and again in every run: sums are taken in the order of the ranks, whoever came first.
pub trait Peers: fmt::Debug + Send + Sync {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Number of ranks on this machine, itself included.
    fn on_this_machine(&self) -> usize;

    /// Number of this rank among those of its machine, from 0.
    fn rank_on_this_machine(&self) -> usize;

    /// The values of all ranks, one rank after the other.
    fn gather(&self, own: &[f64]) -> Vec<f64>;

    /// Adds to each value those of the other ranks.
    fn sum(&self, values: &mut [f32]);

    /// Whether one thread may [sum](Self::sum) while another gathers.
    fn sums_beside(&self) -> bool {
        false
    }

    /// The sums of the values of all ranks.
    fn total(&self, own: &[f64]) -> Vec<f64> {
        let mut total = vec![0.0; own.len()];
        for of_rank in self.gather(own).chunks_exact(own.len().max(1)) {
            total.iter_mut().zip(of_rank).for_each(|(total, value)| *total += value);
        }
        total
    }

    /// Whether it is so on any rank.
    fn any(&self, own: bool) -> bool {
        self.size() > 1 && self.total(&[f64::from(u8::from(own))])[0] > 0.0 || own
    }

    /// The texts of all ranks, which may be of different lengths.
    fn texts(&self, own: &str) -> Vec<String> {
        let lengths = self.gather(&[own.len() as f64]);
        let longest = lengths.iter().fold(0.0f64, |a, b| a.max(*b)) as usize;
        let mut padded: Vec<f64> = own.bytes().map(f64::from).collect();
        padded.resize(longest, 0.0);
        let all = self.gather(&padded);
        let text = |(rank, length): (usize, &f64)| {
            let bytes: Vec<u8> = all[rank * longest..][..*length as usize].iter().map(|byte| *byte as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        lengths.iter().enumerate().map(text).collect()
    }

    /// Replaces the values by those of rank 0.
    fn follow_first(&self, values: &mut [f32]) {
        if self.rank() > 0 {
            values.fill(0.0);
        }
        self.sum(values);
    }
}

/// The only rank there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Peers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn on_this_machine(&self) -> usize {
        1
    }

    fn rank_on_this_machine(&self) -> usize {
        0
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        own.to_vec()
    }

    fn sum(&self, _: &mut [f32]) {}
}

/// Ranks that are threads of one process, for tests of what ranks do together. Each must compute on threads of its own: one that waits for
/// another keeps its own from all other work.
#[derive(Clone, Debug)]
pub struct Threads {
    rank: usize,
    /// Where they gather, and where they sum.
    meetings: [Arc<Meeting>; 2],
}

#[derive(Debug)]
struct Meeting {
    table: Mutex<Table>,
    changed: Condvar,
}

/// What the ranks have brought to this meeting, and what all had brought to the last one.
#[derive(Debug)]
struct Table {
    brought: Vec<Option<Vec<f64>>>,
    last: Arc<Vec<f64>>,
    meetings: usize,
}

impl Threads {
    /// As many ranks, each for a thread of its own.
    pub fn new(size: usize) -> Vec<Self> {
        let meetings = [(); 2].map(|()| {
            let table = Table { brought: vec![None; size], last: Arc::default(), meetings: 0 };
            Arc::new(Meeting { table: Mutex::new(table), changed: Condvar::new() })
        });
        (0..size).map(|rank| Self { rank, meetings: meetings.clone() }).collect()
    }

    /// What `work` gives on each of as many ranks.
    ///
    /// # Panics
    /// If `work` panics on one of them, unless the others wait for that one for ever.
    pub fn run<R: Send>(size: usize, work: impl Fn(Arc<dyn Peers>) -> R + Sync) -> Vec<R> {
        std::thread::scope(|scope| {
            let work = &work;
            let ranks: Vec<_> =
                Self::new(size).into_iter().map(|rank| scope.spawn(move || work(Arc::new(rank)))).collect();
            ranks.into_iter().map(|rank| rank.join().expect("a rank panicked")).collect()
        })
    }
}

impl Meeting {
    /// What all ranks bring.
    fn gather(&self, rank: usize, own: &[f64]) -> Vec<f64> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.brought[rank] = Some(own.to_vec());
        if table.brought.iter().all(Option::is_some) {
            let all = table.brought.iter_mut().filter_map(Option::take).collect::<Vec<_>>();
            assert!(all.iter().all(|values| values.len() == own.len()), "ranks brought different things");
            table.last = Arc::new(all.concat());
            table.meetings += 1;
            self.changed.notify_all();
        } else {
            // Nobody can begin the meeting after the next before all have left this one.
            let met = table.meetings;
            while table.meetings == met {
                table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
            }
        }
        table.last.to_vec()
    }
}

impl Peers for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meetings[0].table.lock().unwrap_or_else(PoisonError::into_inner).brought.len()
    }

    fn on_this_machine(&self) -> usize {
        self.size()
    }

    fn rank_on_this_machine(&self) -> usize {
        self.rank
    }

    fn sums_beside(&self) -> bool {
        true
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        self.meetings[0].gather(self.rank, own)
    }

    fn sum(&self, values: &mut [f32]) {
        let own: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let all = self.meetings[1].gather(self.rank, &own);
        values.fill(0.0);
        for of_rank in all.chunks_exact(values.len().max(1)) {
            values.iter_mut().zip(of_rank).for_each(|(sum, value)| *sum += *value as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_find_the_same_whoever_comes_first() {
        for size in [1, 2, 3] {
            let found = Threads::run(size, |peers| {
                let rank = peers.rank();
                let mut found = Vec::new();
                for round in 0..20 {
                    if (rank + round) % 2 == 0 {
                        std::thread::yield_now();
                    }
                    // Sums of such numbers depend on their order.
                    let mut values = vec![1.0 / (1 + rank) as f32, 1e8 * rank as f32, -1e8];
                    peers.sum(&mut values);
                    let total = peers.total(&[rank as f64, 1.0]);
                    assert_eq!(total, [(size * (size - 1) / 2) as f64, size as f64]);
                    assert_eq!((peers.any(false), peers.any(rank + 1 == size)), (false, true));
                    assert_eq!(peers.texts(&"é".repeat(rank))[rank], "é".repeat(rank));
                    let mut first = vec![rank as f32 + 0.5; 3];
                    peers.follow_first(&mut first);
                    assert_eq!(first, [0.5; 3]);
                    found.push(values);
                }
                found
            });
            assert!(found.iter().all(|of_rank| *of_rank == found[0]), "{found:?}");
        }
    }

    #[test]
    fn one_rank_is_alone() {
        let mut values = [1.0, f32::MIN_POSITIVE];
        Alone.sum(&mut values);
        assert_eq!((values, Alone.gather(&[2.0]), Alone.any(false)), ([1.0, f32::MIN_POSITIVE], vec![2.0], false));
        assert_eq!(Alone.texts("a"), ["a"]);
    }
}
