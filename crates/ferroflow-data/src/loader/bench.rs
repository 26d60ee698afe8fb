//! Measures how fast a data set can be read, and whether readers or consumer wait.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{Capacity, Loader, Order};
use crate::{DataError, Sample, Source};

/// Speed of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Number of worker threads.
    pub workers: usize,
    /// Number of samples read.
    pub samples: usize,
    /// Wall-clock time, seconds.
    pub seconds: f64,
    /// Samples per second.
    pub per_second: f64,
    /// Share of the time that the consumer waited, from 0 to 1; it is near 1 if reading is slow.
    pub consumer_waited: f64,
    /// Share of the time that the workers waited, from 0 to 1; it is near 1 if the consumer is slow.
    pub workers_waited: f64,
}

/// Reads `count` samples, or as many as the order has, and does nothing with them.
///
/// # Errors
/// The first error of the source or of `transform`.
pub fn bench<T: Send + 'static>(
    source: Arc<dyn Source>,
    order: Order,
    capacity: Capacity,
    count: usize,
    transform: impl Fn(Sample, u64) -> Result<T, DataError> + Send + Sync + 'static,
) -> Result<Bench, DataError> {
    let mut loader = Loader::new(source, order, capacity, transform);
    let mut samples = 0;
    for result in loader.by_ref().take(count) {
        result?;
        samples += 1;
    }
    let waits = loader.waits();
    let seconds = waits.elapsed.as_secs_f64().max(1e-9);
    Ok(Bench {
        workers: capacity.workers.get(),
        samples,
        seconds,
        per_second: samples as f64 / seconds,
        consumer_waited: (waits.consumer.as_secs_f64() / seconds).min(1.0),
        workers_waited: (waits.workers.as_secs_f64() / seconds).min(1.0),
    })
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.1} samples/s ({} in {:.2} s, {} workers)",
            self.per_second, self.samples, self.seconds, self.workers
        )?;
        let percent = |share: f64| 100.0 * share;
        let (consumer, workers) = (percent(self.consumer_waited), percent(self.workers_waited));
        writeln!(f, "the consumer waited {consumer:.0} % of the time, the workers {workers:.0} %")
    }
}
