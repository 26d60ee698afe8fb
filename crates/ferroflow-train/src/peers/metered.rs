//! How much of its time a rank spends on the others.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::Peers;
use crate::data::Batches;

/// Peers that measure what is done through them.
#[derive(Debug)]
pub(crate) struct Metered {
    peers: Arc<dyn Peers>,
    /// Nanoseconds and floats of sums, nanoseconds of gathering.
    summing: AtomicU64,
    summed: AtomicU64,
    gathering: AtomicU64,
    /// Nanoseconds for which the loop had nothing to do but wait for sums.
    waiting: AtomicU64,
}

/// What a rank spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent {
    /// Seconds in sums of gradients.
    pub summing: f64,
    /// Seconds for which sums kept the loop waiting: less, where they are taken beside the backward pass.
    pub waiting: f64,
    /// Bytes that it had to add to those of the others.
    pub summed_bytes: u64,
    /// Seconds in small exchanges, mostly waiting for slower ranks: statistics of batch norm, normalisers of losses.
    pub gathering: f64,
}

impl Metered {
    pub fn new(peers: Arc<dyn Peers>) -> Self {
        let [summing, summed, gathering, waiting] = Default::default();
        Self { peers, summing, summed, gathering, waiting }
    }

    /// Does what the loop waits for.
    pub fn wait<R>(&self, work: impl FnOnce() -> R) -> R {
        timed(&self.waiting, work)
    }

    pub fn spent(&self) -> Spent {
        let seconds = |nanos: &AtomicU64| nanos.load(Ordering::Relaxed) as f64 * 1e-9;
        Spent {
            summing: seconds(&self.summing),
            summed_bytes: 4 * self.summed.load(Ordering::Relaxed),
            gathering: seconds(&self.gathering),
            waiting: seconds(&self.waiting),
        }
    }
}

impl std::ops::Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            summing: self.summing - before.summing,
            summed_bytes: self.summed_bytes - before.summed_bytes,
            gathering: self.gathering - before.gathering,
            waiting: self.waiting - before.waiting,
        }
    }
}

fn timed<R>(nanos: &AtomicU64, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}

impl Peers for Metered {
    fn rank(&self) -> usize {
        self.peers.rank()
    }

    fn size(&self) -> usize {
        self.peers.size()
    }

    fn on_this_machine(&self) -> usize {
        self.peers.on_this_machine()
    }

    fn rank_on_this_machine(&self) -> usize {
        self.peers.rank_on_this_machine()
    }

    fn sums_beside(&self) -> bool {
        self.peers.sums_beside()
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        timed(&self.gathering, || self.peers.gather(own))
    }

    fn sum(&self, values: &mut [f32]) {
        self.summed.fetch_add(values.len() as u64, Ordering::Relaxed);
        timed(&self.summing, || self.peers.sum(values));
    }
}

/// How much of its time each rank spends on the others, for the log.
pub(crate) struct Sharing {
    at: Instant,
    waited: Duration,
    spent: Spent,
}

impl Sharing {
    pub fn start(metered: &Metered) -> Self {
        Self { at: Instant::now(), waited: Duration::ZERO, spent: metered.spent() }
    }

    /// What each rank has spent since the last line, in seconds.
    pub fn lap(&mut self, step: u64, metered: &Metered, batches: &Batches) -> serde_json::Value {
        let now = Self { at: Instant::now(), waited: batches.waited(), spent: metered.spent() };
        let Spent { summing, waiting, summed_bytes, gathering } = now.spent - self.spent;
        let seconds = (now.at - self.at).as_secs_f64();
        let data = now.waited.saturating_sub(self.waited).as_secs_f64();
        let compute = seconds - data - waiting - gathering;
        *self = now;
        let own = [seconds, compute, data, gathering, waiting, summing, summed_bytes as f64];
        const NAMES: [&str; 7] = ["seconds", "compute", "data", "gathering", "waiting", "summing", "summed_bytes"];
        let of_rank = |of: &[f64]| NAMES.iter().copied().zip(of.iter().copied()).collect::<BTreeMap<_, _>>();
        let ranks: Vec<_> = metered.gather(&own).chunks_exact(own.len()).map(of_rank).collect();
        json!({ "step": step, "time": { "ranks": ranks } })
    }
}
