//! Decides which values share memory: a place is reused as soon as no later step reads its value.

use std::{cmp::Reverse, ops::RangeInclusive};

use ferroflow_kernels::LANES;

use super::step::Step;

/// Floats between neighbours: planes of one size would else begin at equal places of the caches.
const APART: usize = 9 * LANES;

/// Where a buffer lies, and the steps from the one that writes it to the last that reads it.
struct Placed {
    start: usize,
    end: usize,
    alive: RangeInclusive<usize>,
}

/// Lays all buffers out in one, which every plane then lies in. Returns its floats and the first float of each buffer.
///
/// `lens` are the lengths of the buffers before, each of which is written by one step; those in `kept` hold nothing else from run to run.
pub(super) fn lay_out(steps: &mut [Step], lens: &[usize], kept: &[usize]) -> (usize, Vec<usize>) {
    let (mut first, mut last) = (vec![usize::MAX; lens.len()], vec![0; lens.len()]);
    for (i, step) in steps.iter_mut().enumerate() {
        step.for_planes(|plane| {
            first[plane.buffer] = first[plane.buffer].min(i);
            last[plane.buffer] = i;
        });
    }
    for &buffer in kept {
        (first[buffer], last[buffer]) = (0, usize::MAX);
    }
    let alive: Vec<_> = first.into_iter().zip(last).map(|(first, last)| first..=last).collect();
    let (len, starts) = starts(lens, &alive);
    for step in steps {
        step.for_planes(|plane| *plane = plane.within(&starts));
    }
    (len, starts)
}

/// The largest first, each at the first place that is free all its life: what is small fits between what is large.
fn starts(lens: &[usize], alive: &[RangeInclusive<usize>]) -> (usize, Vec<usize>) {
    let mut order: Vec<usize> = (0..lens.len()).filter(|&buffer| !alive[buffer].is_empty()).collect();
    order.sort_by_key(|&buffer| Reverse(lens[buffer]));
    // By where they begin.
    let mut placed: Vec<Placed> = Vec::with_capacity(order.len());
    let mut starts = vec![0; lens.len()];
    let mut all = 0;
    for buffer in order {
        let alive = &alive[buffer];
        let len = lens[buffer].next_multiple_of(LANES) + APART;
        let mut start = 0;
        for other in &placed {
            if other.alive.end() < alive.start() || alive.end() < other.alive.start() {
                continue;
            }
            if other.start >= start + len {
                break;
            }
            start = start.max(other.end);
        }
        let end = start + len;
        let at = placed.partition_point(|other| other.start < start);
        placed.insert(at, Placed { start, end, alive: alive.clone() });
        starts[buffer] = start;
        all = all.max(end);
    }
    (all, starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_live_at_once_lie_apart_and_others_share() {
        let lens = [100 * LANES, 40 * LANES, 100 * LANES, 40 * LANES, 7, 40 * LANES];
        let alive = [0..=1, 1..=2, 2..=3, 3..=4, 0..=usize::MAX, 4..=9];
        let (all, starts) = starts(&lens, &alive);
        for a in 0..lens.len() {
            assert!(starts[a] % LANES == 0 && starts[a] + lens[a] <= all);
            for b in 0..a {
                let at_once = alive[a].start() <= alive[b].end() && alive[b].start() <= alive[a].end();
                let apart = starts[a] + lens[a] <= starts[b] || starts[b] + lens[b] <= starts[a];
                assert!(!at_once || apart, "{a} and {b}");
            }
        }
        // At no step more than a large and a small value live, and the one that stays.
        assert!(all <= 141 * LANES + 3 * APART, "{all}");
    }
}
