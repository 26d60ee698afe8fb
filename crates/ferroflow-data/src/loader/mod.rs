//! The loader for training: worker threads read and augment samples, which come out in an order that depends on the seed alone,
//! not on the number of threads.

mod bench;
mod order;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use bench::{Bench, bench};
pub use order::{Order, Visit};

use crate::{DataError, Sample, Source};

/// An iterator over samples in order; dropping it stops its threads.
#[derive(Debug)]
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    started: Instant,
}

/// Threads and memory of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of worker threads.
    pub workers: NonZeroUsize,
    /// Most results that are being made or waiting at a time; this bounds the memory.
    pub ahead: NonZeroUsize,
}

impl Default for Capacity {
    /// A worker for each core, and two samples for each worker.
    fn default() -> Self {
        let workers = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { workers, ahead: workers.saturating_mul(NonZeroUsize::MIN.saturating_add(1)) }
    }
}

/// How long the consumer and the workers waited for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waits {
    /// Time since the loader was made.
    pub elapsed: Duration,
    /// Time the consumer waited for a sample.
    pub consumer: Duration,
    /// Time the workers waited for the consumer, averaged over them.
    pub workers: Duration,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// A result was added.
    made: Condvar,
    /// A result was taken, or all is over.
    taken: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Position of the next sample to make, and of the next to give.
    next: u64,
    give: u64,
    end: Option<u64>,
    ready: BTreeMap<u64, thread::Result<Result<T, DataError>>>,
    stopped: bool,
    consumer_waited: Duration,
    workers_waited: Duration,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// Visits `source` in the given order. `transform` gets each sample with a seed of its own; the same visit has the same seed in
    /// every run.
    pub fn new(
        source: Arc<dyn Source>,
        order: Order,
        capacity: Capacity,
        transform: impl Fn(Sample, u64) -> Result<T, DataError> + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            next: order.start(),
            give: order.start(),
            end: order.end(),
            ready: BTreeMap::new(),
            stopped: false,
            consumer_waited: Duration::ZERO,
            workers_waited: Duration::ZERO,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), made: Condvar::new(), taken: Condvar::new() });
        let make = Arc::new(move |position| {
            let Visit { index, seed } = order.at(position);
            transform(source.get(index)?, seed)
        });
        let workers = (0..capacity.workers.get())
            .map(|_| {
                let (shared, make) = (shared.clone(), make.clone());
                thread::spawn(move || work(&shared, capacity.ahead.get() as u64, &*make))
            })
            .collect();
        Self { shared, workers, started: Instant::now() }
    }

    /// Position of the next sample, with which [`Order::start_at`] continues from here.
    pub fn position(&self) -> u64 {
        self.shared.lock().give
    }

    /// How long the consumer and the workers have waited so far.
    pub fn waits(&self) -> Waits {
        let state = self.shared.lock();
        Waits {
            elapsed: self.started.elapsed(),
            consumer: state.consumer_waited,
            workers: state.workers_waited / self.workers.len() as u32,
        }
    }
}

fn work<T>(shared: &Shared<T>, ahead: u64, make: &impl Fn(u64) -> Result<T, DataError>) {
    let mut state = shared.lock();
    loop {
        if state.stopped || state.end.is_some_and(|end| state.next >= end) {
            return;
        }
        if state.next >= state.give.saturating_add(ahead) {
            let since = Instant::now();
            state = shared.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.workers_waited += since.elapsed();
            continue;
        }
        let position = state.next;
        state.next = state.next.saturating_add(1);
        drop(state);
        // A panic is the consumer's to see; here it would leave it waiting for ever.
        let result = catch_unwind(AssertUnwindSafe(|| make(position)));
        state = shared.lock();
        state.ready.insert(position, result);
        shared.made.notify_all();
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.lock();
        loop {
            let position = state.give;
            if state.end.is_some_and(|end| position >= end) {
                return None;
            }
            if let Some(result) = state.ready.remove(&position) {
                state.give = state.give.saturating_add(1);
                drop(state);
                self.shared.taken.notify_all();
                return Some(result.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            let since = Instant::now();
            state = self.shared.made.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.consumer_waited += since.elapsed();
        }
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.taken.notify_all();
        for worker in self.workers.drain(..) {
            // Workers hand panics over; there is nothing to learn from joining.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use ferroflow_core::{Frame, Size};

    struct Numbers(Option<usize>);

    impl Source for Numbers {
        fn name(&self) -> String {
            "numbers".into()
        }

        fn len(&self) -> Option<usize> {
            self.0
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            // Uneven work, so that threads finish out of order.
            thread::sleep(Duration::from_micros((index * 7919 % 400) as u64));
            let frame = Frame::from_fn(Size::new(1, 1), |_, _| [0; 3]);
            Ok(Sample {
                first: frame.clone(),
                second: frame,
                flow: None,
                occlusion: None,
                original: None,
                surround: None,
                id: index.to_string(),
            })
        }
    }

    fn capacity(workers: usize, ahead: usize) -> Capacity {
        let some = |n| NonZeroUsize::new(n).unwrap();
        Capacity { workers: some(workers), ahead: some(ahead) }
    }

    fn visits(order: Order, workers: usize) -> Vec<(String, u64)> {
        let source = Arc::new(Numbers(order.len()));
        let loader = Loader::new(source, order, capacity(workers, 5), |sample, seed| Ok((sample.id, seed)));
        loader.map(Result::unwrap).collect()
    }

    #[test]
    fn order_and_seeds_do_not_depend_on_threads() {
        let order = || Order::new(Some(50), 3).epochs(2);
        let one = visits(order(), 1);
        assert_eq!(one.len(), 100);
        assert_eq!(visits(order(), 4), one);
        assert_eq!(visits(order().start_at(37), 3), one[37..]);
        assert_ne!(
            one[..50].iter().map(|v| &v.0).collect::<Vec<_>>(),
            one[50..].iter().map(|v| &v.0).collect::<Vec<_>>()
        );
    }

    #[test]
    fn memory_is_bounded_and_dropping_early_ends_the_threads() {
        let alive = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        struct Held(Arc<AtomicUsize>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        let (count, peak) = (alive.clone(), most.clone());
        let mut loader = Loader::new(Arc::new(Numbers(None)), Order::new(None, 1), capacity(4, 6), move |_, _| {
            peak.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
            Ok(Held(count.clone()))
        });
        for _ in 0..200 {
            drop(loader.next().unwrap().unwrap());
        }
        assert_eq!(loader.position(), 200);
        drop(loader);
        assert_eq!(alive.load(SeqCst), 0);
        // Six made or waiting, and the one that the consumer holds.
        assert!(most.load(SeqCst) <= 7, "{most:?}");
    }

    #[test]
    fn errors_and_panics_come_out_in_their_place() {
        let order = Order::new(Some(4), 1).in_order().epochs(1);
        let mut loader =
            Loader::new(Arc::new(Numbers(Some(4))), order, capacity(2, 2), |sample, _| match sample.id.as_str() {
                "1" => Err(DataError::content("one", "damaged")),
                "2" => panic!("two"),
                id => Ok(id.to_string()),
            });
        assert_eq!(loader.next().unwrap().unwrap(), "0");
        assert!(loader.next().unwrap().is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| loader.next())).is_err());
        assert_eq!(loader.next().unwrap().unwrap(), "3");
        assert!(loader.next().is_none());
    }

    #[test]
    fn bench_counts_what_it_read() {
        let source: Arc<dyn Source> = Arc::new(Numbers(Some(10)));
        let bench = bench(source, Order::new(Some(10), 1), capacity(2, 4), 30, |sample, _| Ok(sample)).unwrap();
        assert_eq!(bench.samples, 30);
        assert!(bench.per_second > 0.0 && (0.0..=1.0).contains(&bench.consumer_waited));
        assert!((0.0..=1.0).contains(&bench.workers_waited) && bench.to_string().contains("samples/s"));
    }
}
