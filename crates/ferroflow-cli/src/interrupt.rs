//! Signals that ask a long run to save and stop.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use ferroflow::train::peers::Peers;

use crate::session::note;

/// A run was stopped by a signal, after saving.
#[derive(Debug)]
pub struct Stopped {
    /// Number of the signal; SIGINT is 2, SIGTERM 15.
    pub signal: u8,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.signal)
    }
}

impl std::error::Error for Stopped {}

/// The signals that have come so far.
#[derive(Clone, Default)]
pub struct Interrupt {
    /// Whether to save and stop.
    pub stop: Arc<AtomicBool>,
    signal: Arc<AtomicU8>,
}

impl Interrupt {
    /// The error with which the program ends after a run was stopped early.
    /// Of several ranks not all may have heard a signal.
    pub fn stopped(&self, peers: &dyn Peers) -> Stopped {
        let heard = peers.gather(&[self.signal.load(Ordering::Relaxed).into()]);
        Stopped { signal: heard.into_iter().fold(0.0, f64::max) as u8 }
    }

    /// The first signal asks the run to save and stop; another one a second or more later ends the program. `timeout` and job
    /// schedulers signal the process and then its whole group, which is one request, not two.
    fn heard(&self, signal: u8, first: &mut Option<Instant>) {
        match *first {
            None => {
                *first = Some(Instant::now());
                self.signal.store(signal, Ordering::Relaxed);
                self.stop.store(true, Ordering::Relaxed);
                note!("\nsaving after this step; press Ctrl-C again to stop at once");
            }
            Some(first) if first.elapsed() < Duration::from_secs(1) => {}
            Some(_) => std::process::exit(128 + i32::from(signal)),
        }
    }

    /// Starts to listen. Call it before any other thread is started, because threads inherit which signals are blocked.
    #[cfg(unix)]
    pub fn listen() -> anyhow::Result<Self> {
        use nix::sys::signal::{SigSet, Signal};

        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        // What `mpirun` passes on to its processes, and schedulers send before time is up.
        signals.add(Signal::SIGUSR1);
        // Under `nohup` a closed terminal is not to stop anything.
        if !crate::machine::ignores_hangup() {
            signals.add(Signal::SIGHUP);
        }
        // Held back everywhere, so that each waits for the one thread that asks for it and can say which it was.
        signals.thread_block()?;
        let interrupt = Self::default();
        let listener = interrupt.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut first = None;
            while let Ok(signal) = signals.wait() {
                listener.heard(signal as i32 as u8, &mut first);
            }
        })?;
        Ok(interrupt)
    }

    /// Listens from now on.
    #[cfg(not(unix))]
    pub fn listen() -> anyhow::Result<Self> {
        const SIGINT: u8 = 2;
        let interrupt = Self::default();
        let listener = interrupt.clone();
        let mut first = None;
        ctrlc::set_handler(move || listener.heard(SIGINT, &mut first))?;
        Ok(interrupt)
    }
}
