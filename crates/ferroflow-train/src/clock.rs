//! Measures how fast a run is, and how much of its time it waits for data.

use std::time::{Duration, Instant};

use crate::{data::Batches, log::Times};

/// Measures the whole run and the part since the last line of the log.
pub(crate) struct Clock {
    start: Mark,
    lap: Mark,
    epoch: Mark,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    position: u64,
    waited: Duration,
}

impl Mark {
    fn of(batches: &Batches) -> Self {
        Self { at: Instant::now(), position: batches.position(), waited: batches.waited() }
    }
}

impl Clock {
    pub fn start(batches: &Batches) -> Self {
        let now = Mark::of(batches);
        Self { start: now, lap: now, epoch: now }
    }

    /// The times since the start.
    pub fn total(&self, batches: &Batches) -> Times {
        self.between(self.start, Mark::of(batches))
    }

    /// The times since the last lap.
    pub fn lap(&mut self, batches: &Batches) -> Times {
        let now = Mark::of(batches);
        let times = self.between(self.lap, now);
        self.lap = now;
        times
    }

    /// The times since the last epoch, or since the start.
    pub fn epoch(&mut self, batches: &Batches) -> Times {
        let now = Mark::of(batches);
        let times = self.between(self.epoch, now);
        self.epoch = now;
        times
    }

    fn between(&self, from: Mark, to: Mark) -> Times {
        let seconds = (to.at - from.at).as_secs_f64().max(1e-9);
        Times {
            seconds: (to.at - self.start.at).as_secs_f64(),
            samples_per_second: (to.position - from.position) as f64 / seconds,
            waiting: ((to.waited - from.waited).as_secs_f64() / seconds).min(1.0),
        }
    }
}
