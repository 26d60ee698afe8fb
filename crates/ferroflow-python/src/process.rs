//! What belongs to one process. A fork copies memory but no threads: a pool of threads, and locks that they held, are dead in the
//! child. So everything with threads or locks knows its process and is made anew in another.

use std::{
    mem, process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use ferroflow::net::device::DeviceError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::raise;

/// A value that must be neither used nor dropped in a fork of the process that made it.
pub struct Owned<T> {
    process: u32,
    value: Option<T>,
}

impl<T> Owned<T> {
    /// A value of this process.
    pub fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value) }
    }

    /// The value, unless this is a fork.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process == process::id())
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            mem::forget(self.value.take());
        }
    }
}

/// A value that each process makes for itself when it first needs it. It is looked up by threads that are attached to Python, and a
/// thread forks while it is attached, so that no other thread is within when it does.
pub struct EachProcess<T>(Mutex<Option<Owned<Arc<T>>>>);

impl<T> EachProcess<T> {
    /// None so far.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// This process has the value already.
    pub fn with(value: T) -> Self {
        Self(Mutex::new(Some(Owned::new(Arc::new(value)))))
    }

    /// The value of this process, made by `make` if there is none. `make` stays attached to Python: a thread that waits for it is.
    pub fn get(&self, _: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<Arc<T>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = place.as_ref().and_then(Owned::get) {
            return Ok(value.clone());
        }
        let value = Arc::new(make()?);
        *place = Some(Owned::new(value.clone()));
        Ok(value)
    }
}

/// The process that uses rayon's global pool, or 0 as long as none does.
static GLOBAL: AtomicU32 = AtomicU32::new(0);

static POOL: EachProcess<ThreadPool> = EachProcess::new();

/// Whether this process has rayon's global pool. A fork of a process that has used it never has.
pub fn has_global_pool() -> bool {
    let here = process::id();
    match GLOBAL.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => true,
        Err(user) => user == here,
    }
}

/// Threads for what the library computes: the global pool, as in a program in Rust, or in a fork one of its own.
fn pool(py: Python<'_>) -> PyResult<Option<Arc<ThreadPool>>> {
    if has_global_pool() {
        return Ok(None);
    }
    let pool = POOL.get(py, || {
        ThreadPoolBuilder::new().build().map_err(|error| {
            let reason = format!("cannot start threads: {error}");
            raise(DeviceError::Failed { device: "the CPU".into(), reason })
        })
    })?;
    Ok(Some(pool))
}

/// Runs `work` with the threads of this process, attached to Python.
pub fn prepared<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> PyResult<R> {
    Ok(match pool(py)? {
        None => work(),
        Some(pool) => pool.install(work),
    })
}

/// Runs `work` with the threads of this process, while other threads of Python run.
pub fn computed<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> PyResult<R> {
    let pool = pool(py)?;
    Ok(py.detach(|| match pool {
        None => work(),
        Some(pool) => pool.install(work),
    }))
}
