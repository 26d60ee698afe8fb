//! How fast a data set can be read, and who waits for whom.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{Capacity, Loader, Order};
use crate::{DataError, Sample, Source};

/// Speed of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Worker threads.
    pub workers: usize,
    /// Samples read.
    pub samples: usize,
    /// Wall-clock time, s.
    pub seconds: f64,
    /// Samples in a second.
    pub per_second: f64,
    /// Share of the time that the consumer waited: near 1 when reading is what takes the time.
    pub consumer_waited: f64,
    /// Share of the time that the workers waited: near 1 when the consumer is slow.
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
