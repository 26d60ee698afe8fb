//! Batch norm over a batch of which other processes have a part.

use std::{fmt, sync::Arc};

/// Gives the values of all processes, one process after the other, from one's own. All processes call it in the same order.
type Gather = dyn Fn(&[f64]) -> Vec<f64> + Send + Sync;

/// The processes that have a part of the batch; by default this one has all of it.
#[derive(Clone, Default)]
pub struct Everyone(Option<Arc<Gather>>);

impl fmt::Debug for Everyone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Everyone(several)" } else { "Everyone(one)" })
    }
}

impl Everyone {
    /// `gather` gives the values of all processes, one process after the other, from one's own.
    pub fn new(gather: impl Fn(&[f64]) -> Vec<f64> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(gather)))
    }

    /// Sums over all processes, in their order.
    pub(crate) fn total(&self, own: Vec<f64>) -> Vec<f64> {
        let Some(gather) = &self.0 else { return own };
        let mut total = vec![0.0; own.len()];
        for values in gather(&own).chunks_exact(own.len().max(1)) {
            total.iter_mut().zip(values).for_each(|(total, value)| *total += value);
        }
        total
    }

    /// From the number of values of each lane, their means and the sums of their squared distances from it, to those of all
    /// processes (Chan's formula).
    pub(crate) fn join(&self, count: usize, lanes: Vec<[f64; 2]>) -> (usize, Vec<[f64; 2]>) {
        let Some(gather) = &self.0 else { return (count, lanes) };
        let own: Vec<f64> = std::iter::once(count as f64).chain(lanes.iter().flatten().copied()).collect();
        let (mut count, mut joined) = (0.0, vec![[0.0; 2]; lanes.len()]);
        for values in gather(&own).chunks_exact(own.len()) {
            let n = values[0];
            for ([mean, squares], of) in joined.iter_mut().zip(values[1..].chunks_exact(2)) {
                let distance = of[0] - *mean;
                *squares += of[1] + distance * distance * count * n / (count + n);
                *mean += distance * n / (count + n);
            }
            count += n;
        }
        (count as usize, joined)
    }
}
