//! Threads that stay awake from one layer to the next.
//!
//! A layer of a small network takes a tenth of a millisecond. A pool whose threads fall asleep between layers, and whose
//! caller sleeps meanwhile, spends a good part of that on waking. Inside [`together`] the threads of the current rayon
//! pool wait for the next layer in a loop, and the caller works with them: handing a layer over takes one store.

use std::{
    any::Any,
    cell::{Cell, RefCell, UnsafeCell},
    hint, mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rayon::prelude::*;

use crate::machine::team::{PATIENCE, PATIENCE_WITH_OTHERS};

use crate::disjoint::Disjoint;

/// What a thread is to a team.
#[derive(Clone)]
enum Role {
    /// Nothing: what it shares out is the pool's.
    Free,
    /// What it shares out is the team's.
    Leads(Arc<Team>),
    /// It does a task while the others do the like: there is nobody to share with.
    Works,
}

thread_local! {
    static ROLE: RefCell<Role> = const { RefCell::new(Role::Free) };
    /// Whether this thread serves a team, perhaps with other work on top.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` on this thread. What it shares out by [`for_each`] is done by all threads of the current pool, which wait for it
/// until `f` ends; where they are busy otherwise, fewer come, and the caller does what is left. Waiting threads take other
/// work of the pool, so that `f` and other teams may use it too.
pub fn together<R>(f: impl FnOnce() -> R) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || ROLE.with_borrow(|role| !matches!(role, Role::Free)) {
        return f();
    }
    let team = &Arc::new(Team::new(1 + others));
    rayon::in_place_scope(|scope| {
        for member in 1..=others {
            scope.spawn(move |_| team.serve(member));
        }
        let _dismiss = Dismiss(team);
        let _leading = Acting::new(Role::Leads(Arc::clone(team)));
        f()
    })
}

/// Calls `task` with every number below `count` on the threads of the team that this thread leads ([`together`]), or else
/// of the current pool. A thread gets numbers that follow each other, as far as all are busy to the end.
pub fn for_each(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 {
        return (0..count).for_each(task);
    }
    match ROLE.with_borrow(Clone::clone) {
        Role::Free => (0..count).into_par_iter().with_max_len(1).for_each(task),
        Role::Leads(team) => team.run(count, &task),
        Role::Works => (0..count).for_each(task),
    }
}

/// Calls `task` with every piece of `len` values, the last one perhaps shorter, and its number, as [`for_each`].
///
/// # Panics
/// If `len` is 0.
pub fn for_chunks_mut<T: Send>(values: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync + Send) {
    let values = Disjoint::new(values);
    for_each(values.len().div_ceil(len), |i| {
        // SAFETY: every number comes once, and pieces of different numbers do not overlap.
        let piece = unsafe { values.piece(i * len, len.min(values.len() - i * len)) };
        task(i, piece);
    });
}

/// Calls `task` with every item, as [`for_each`].
pub fn for_all<T: Send>(items: impl IntoIterator<Item = T>, task: impl Fn(T) + Sync + Send) {
    let mut cells: Vec<Option<T>> = items.into_iter().map(Some).collect();
    for_chunks_mut(&mut cells, 1, |_, cell| cell[0].take().into_iter().for_each(&task));
}

/// What `task` makes of every item, in their order, as [`for_each`].
pub fn map<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    task: impl Fn(T) -> R + Sync + Send,
) -> impl Iterator<Item = R> {
    let mut cells: Vec<(Option<T>, Option<R>)> = items.into_iter().map(|item| (Some(item), None)).collect();
    for_chunks_mut(&mut cells, 1, |_, cell| cell[0].1 = cell[0].0.take().map(&task));
    cells.into_iter().filter_map(|(_, result)| result)
}

/// Gives this thread another role until it is dropped.
struct Acting(Role);

impl Acting {
    fn new(role: Role) -> Self {
        Self(ROLE.replace(role))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        ROLE.replace(mem::replace(&mut self.0, Role::Free));
    }
}

/// Sends the members back to their pool.
struct Dismiss<'a>(&'a Team);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        self.0.dismissed.store(true, Ordering::Release);
    }
}

/// The leader opens a region, all take numbers until they run out, the leader closes it and waits for those inside.
struct Team {
    /// Odd while a region is open.
    epoch: Line<AtomicUsize>,
    /// The next number of each member's share.
    next: Vec<Line<AtomicUsize>>,
    /// Members who may use the region.
    inside: Line<AtomicUsize>,
    dismissed: AtomicBool,
    /// Members who have come.
    arrived: AtomicUsize,
    /// What a task panicked with on a member, for the leader.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Written while no region is open and nobody is inside.
    region: UnsafeCell<Option<Region>>,
}

/// A cache line of its own, and the one that is fetched with it.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

type Task<'a> = dyn Fn(usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Region {
    task: &'static Task<'static>,
    count: usize,
}

// SAFETY: `region` is written by the leader alone, before it opens the region, and read by members who have entered
// `inside` and then seen it open; the leader closes it and waits for `inside` to be 0 before it writes again. All four
// accesses are sequentially consistent, so that either the member sees it closed or the leader sees the member.
unsafe impl Sync for Team {}
// SAFETY: as above.
unsafe impl Send for Team {}

impl Team {
    fn new(members: usize) -> Self {
        Self {
            epoch: Line::default(),
            next: (0..members).map(|_| Line::default()).collect(),
            inside: Line::default(),
            dismissed: AtomicBool::new(false),
            arrived: AtomicUsize::new(0),
            panic: Mutex::new(None),
            region: UnsafeCell::new(None),
        }
    }

    /// Shares out the task; only the leader may call this.
    fn run(&self, count: usize, task: &Task<'_>) {
        // SAFETY: members use it only inside the region, and `Close` waits for them before `task` can end, panic or not.
        let task = unsafe { mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // One that came together with the leader's own, which was caught.
        self.panic().take();
        // SAFETY: no region is open and nobody inside: see `Sync`.
        unsafe { *self.region.get() = Some(Region { task, count }) };
        for (member, next) in self.next.iter().enumerate() {
            next.0.store(self.share(member, count), Ordering::Relaxed);
        }
        self.epoch.0.fetch_add(1, Ordering::SeqCst);
        let close = Close(self);
        self.work(0, Region { task, count });
        drop(close);
        // What the member was to do is not done: nobody must go on as if it were.
        if let Some(panic) = self.panic().take() {
            panic::resume_unwind(panic);
        }
    }

    fn panic(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the share of a member begins.
    fn share(&self, member: usize, count: usize) -> usize {
        member * count / self.next.len()
    }

    /// Does the member's own share, then what is left of the others'.
    fn work(&self, member: usize, region: Region) {
        let _working = Acting::new(Role::Works);
        let members = self.next.len();
        for member in (member..members).chain(0..member) {
            let end = self.share(member + 1, region.count);
            loop {
                let number = self.next[member].0.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                (region.task)(number);
            }
        }
    }

    /// Works in every region until the team is dismissed.
    fn serve(&self, member: usize) {
        // A thread that came by this while it waited for another team would keep that one from ending.
        let Some(_serving) = Serving::begin() else { return };
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let (mut done, mut waited) = (0, 0);
        while !self.dismissed.load(Ordering::Acquire) {
            let epoch = self.epoch.0.load(Ordering::SeqCst);
            if epoch == done || epoch.is_multiple_of(2) {
                wait(&mut waited);
                // Other work of the pool; but not what calls another member, who is on the way.
                let all = self.arrived.load(Ordering::Relaxed) + 1 >= self.next.len();
                if waited >= if all { PATIENCE } else { PATIENCE_WITH_OTHERS } {
                    rayon::yield_now();
                }
                continue;
            }
            let _inside = Inside::enter(&self.inside.0);
            if self.epoch.0.load(Ordering::SeqCst) == epoch {
                // SAFETY: this member is inside and has seen the region open: see `Sync`.
                if let Some(region) = unsafe { *self.region.get() } {
                    let work = AssertUnwindSafe(|| self.work(member, region));
                    if let Err(panic) = panic::catch_unwind(work) {
                        self.panic().get_or_insert(panic);
                    }
                }
            }
            (done, waited) = (epoch, 0);
        }
    }
}

/// Closes the region and waits until nobody is inside.
struct Close<'a>(&'a Team);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.epoch.0.fetch_add(1, Ordering::SeqCst);
        let mut waited = 0;
        while self.0.inside.0.load(Ordering::SeqCst) > 0 {
            wait(&mut waited);
        }
    }
}

/// A thread that serves, until it is dropped.
struct Serving;

impl Serving {
    /// `None` if the thread serves already.
    fn begin() -> Option<Self> {
        (!SERVES.replace(true)).then_some(Self)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVES.set(false);
    }
}

/// One member in a region.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits a moment.
fn wait(waited: &mut u32) {
    *waited = waited.saturating_add(1);
    if *waited < PATIENCE {
        hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    }

    #[test]
    fn every_number_comes_once() {
        for threads in [1, 2, 5] {
            on(threads, || {
                together(|| {
                    for count in (0..40).chain([1000]) {
                        let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                        for_each(count, |i| {
                            seen[i].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1), "{count} on {threads}");
                    }
                });
            });
        }
    }

    #[test]
    fn a_region_sees_what_the_one_before_wrote() {
        on(3, || {
            let mut values = vec![0usize; 64];
            together(|| {
                for round in 0..500 {
                    let before = values.clone();
                    for_chunks_mut(&mut values, 5, |_, piece| piece.iter_mut().for_each(|v| *v += 1));
                    assert!(values.iter().zip(&before).all(|(a, b)| *a == b + 1), "round {round}");
                }
            });
            assert_eq!(values, vec![500; 64]);
        });
    }

    #[test]
    fn members_share_the_work() {
        on(2, || {
            together(|| {
                // Each number waits for the other: only two threads can end this.
                let here = AtomicUsize::new(0);
                for_each(2, |_| {
                    here.fetch_add(1, Ordering::SeqCst);
                    while here.load(Ordering::SeqCst) < 2 {
                        thread::yield_now();
                    }
                });
            });
        });
    }

    #[test]
    fn teams_and_regions_nest() {
        let sum = AtomicUsize::new(0);
        on(2, || {
            (0..6).into_par_iter().for_each(|_| {
                together(|| {
                    together(|| {
                        for_each(4, |i| {
                            for_each(3, |j| {
                                sum.fetch_add(10 * i + j, Ordering::Relaxed);
                            });
                        });
                    });
                });
            });
        });
        assert_eq!(sum.into_inner(), 6 * (3 * 60 + 4 * 3));
    }

    #[test]
    fn the_pool_may_be_used_in_a_team_from_outside_it_and_by_two_at_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let barrier = std::sync::Barrier::new(2);
        let sum = || pool.install(|| (0..100usize).into_par_iter().map(|i| i + 1).sum::<usize>());
        // As many teams as threads, each leader outside the pool: all the pool's threads serve.
        let lead = || {
            let team = &Arc::new(Team::new(2));
            pool.in_place_scope(|scope| {
                scope.spawn(|_| team.serve(1));
                let _dismiss = Dismiss(team);
                barrier.wait();
                thread::sleep(std::time::Duration::from_millis(20));
                sum()
            })
        };
        thread::scope(|s| {
            let teams = [s.spawn(lead), s.spawn(lead)];
            assert_eq!(teams.map(|t| t.join().unwrap()), [5050; 2]);
        });
        assert_eq!(on(2, || together(|| (0..100usize).into_par_iter().map(|i| i + 1).sum::<usize>())), 5050);
    }

    #[test]
    fn a_team_works_after_a_panic_was_caught() {
        on(3, || {
            together(|| {
                for culprit in [0, 40, 63] {
                    let panic = || for_each(64, |i| assert!(i != culprit, "number {i}"));
                    assert!(std::panic::catch_unwind(panic).is_err());
                }
            });
        });
    }

    #[test]
    fn a_panic_ends_the_team_and_reaches_the_caller() {
        for culprit in [0, 7, 63] {
            let caught = std::panic::catch_unwind(|| {
                on(3, || {
                    together(|| for_each(64, |i| assert!(i != culprit, "number {i}")));
                });
            });
            assert!(caught.is_err(), "number {culprit}");
        }
        assert!(ROLE.with_borrow(|role| matches!(role, Role::Free)));
    }
}
