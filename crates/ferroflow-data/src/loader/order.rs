//! The order in which samples are visited, by one of several machines and from any point on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::random::{Random, permutation};

/// The order of a run. Every epoch has its own permutation of the data set, which is dealt out to the ranks in turn.
///
/// If the number of ranks does not divide the data set, the first samples of an epoch are visited again, so that all ranks have
/// equally many. An endless data set is visited from index 0 on.
#[derive(Clone, Debug)]
pub struct Order {
    len: Option<usize>,
    seed: u64,
    shuffled: bool,
    start: u64,
    epochs: Option<u64>,
    rank: u64,
    world: u64,
    /// The permutations in use: at the turn of an epoch, two.
    permutations: Arc<Mutex<Vec<(u64, Arc<Vec<u32>>)>>>,
}

/// One visit to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Index of the sample in the source.
    pub index: usize,
    /// Seed for everything random in this visit.
    pub seed: u64,
}

impl Order {
    /// Endless shuffled epochs over `len` samples, or the order of an endless source if that is `None`.
    pub fn new(len: Option<usize>, seed: u64) -> Self {
        let permutations = Arc::default();
        Self { len, seed, shuffled: true, start: 0, epochs: None, rank: 0, world: 1, permutations }
    }

    /// Visits samples as they are stored, without shuffling.
    pub fn in_order(mut self) -> Self {
        self.shuffled = false;
        self
    }

    /// Ends after `epochs` passes over the data set; an endless one never ends.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = Some(epochs);
        self
    }

    /// Begins at this position of the rank, as if the positions before had been visited.
    pub fn start_at(mut self, position: u64) -> Self {
        self.start = position;
        self
    }

    /// The part of machine `rank` out of `world` machines. A rank of `world` or more is taken modulo `world`.
    pub fn shard(mut self, rank: usize, world: usize) -> Self {
        self.world = world.max(1) as u64;
        self.rank = rank as u64 % self.world;
        self
    }

    /// Number of samples in the whole data set; `None` if it is endless.
    pub fn len(&self) -> Option<usize> {
        self.len
    }

    /// Whether there is nothing to visit.
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// Number of visits of this rank in an epoch; `None` if the data set is endless.
    pub fn epoch_len(&self) -> Option<u64> {
        self.len.map(|len| (len as u64).div_ceil(self.world))
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The position past the last one.
    pub(super) fn end(&self) -> Option<u64> {
        match self.epoch_len()? {
            0 => Some(0),
            epoch => self.epochs.map(|epochs| epochs.saturating_mul(epoch)),
        }
    }

    /// The visit at a position of this rank.
    pub fn at(&self, position: u64) -> Visit {
        let (epoch, within) = match self.epoch_len() {
            None | Some(0) => (0, position),
            Some(epoch) => (position / epoch, position % epoch),
        };
        let place = within * self.world + self.rank;
        let seed = Random::new(self.seed, &[0x10AD, epoch, place]).bits();
        let index = match self.len {
            None | Some(0) => place as usize,
            Some(len) => {
                let place = place as usize % len;
                if self.shuffled { self.permutation(len, epoch)[place] as usize } else { place }
            }
        };
        Visit { index, seed }
    }

    fn permutation(&self, len: usize, epoch: u64) -> Arc<Vec<u32>> {
        let mut known = self.permutations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = known.iter().find(|(e, _)| *e == epoch) {
            return order.clone();
        }
        let order = Arc::new(permutation(len, self.seed, epoch));
        known.push((epoch, order.clone()));
        if known.len() > 2 {
            known.remove(0);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_dealt_out_to_the_ranks() {
        let whole = Order::new(Some(10), 5);
        let mut seen = Vec::new();
        for rank in 0..3 {
            let order = whole.clone().shard(rank, 3);
            assert_eq!(order.epoch_len(), Some(4));
            seen.extend((0..4).map(|p| order.at(p)));
        }
        let mut indices: Vec<usize> = seen.iter().map(|v| v.index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices, (0..10).collect::<Vec<_>>());
        let mut seeds: Vec<u64> = seen.iter().map(|v| v.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 12);
        // One rank sees what the three see, in turn.
        assert_eq!(whole.at(1), whole.clone().shard(1, 3).at(0));
    }

    #[test]
    fn ends_and_endless_sources() {
        assert_eq!(Order::new(Some(7), 1).epochs(3).shard(1, 2).end(), Some(12));
        assert_eq!(Order::new(Some(0), 1).end(), Some(0));
        let endless = Order::new(None, 1).shard(1, 4);
        assert_eq!((endless.end(), endless.at(2).index), (None, 9));
        assert_eq!(Order::new(Some(3), 9).in_order().at(4).index, 1);
    }
}
