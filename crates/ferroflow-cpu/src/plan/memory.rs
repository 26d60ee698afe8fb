//! Decides which values share memory: a buffer is reused as soon as no later step reads its value.

use super::step::Step;

/// Replaces the buffer of every plane by one of a pool and returns the lengths of the pool's buffers in floats.
///
/// `lens` are the lengths of the buffers before, each of which is written by one step; those in `kept` hold nothing else from run to run.
pub(super) fn lay_out(steps: &mut [Step], lens: &[usize], kept: &[usize]) -> (Vec<usize>, Vec<usize>) {
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
    let mut born = vec![Vec::new(); steps.len()];
    let mut dies = vec![Vec::new(); steps.len()];
    for buffer in 0..lens.len() {
        if first[buffer] != usize::MAX {
            born[first[buffer]].push(buffer);
            if last[buffer] != usize::MAX {
                dies[last[buffer]].push(buffer);
            }
        }
    }
    let mut pool: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut place = vec![usize::MAX; lens.len()];
    for i in 0..steps.len() {
        for &buffer in &born[i] {
            let len = lens[buffer];
            // The smallest that is large enough, else the largest there is, made larger.
            let fits = (0..free.len()).filter(|&f| pool[free[f]] >= len).min_by_key(|&f| pool[free[f]]);
            let found = fits.or_else(|| (0..free.len()).max_by_key(|&f| pool[free[f]]));
            place[buffer] = match found {
                Some(f) => free.swap_remove(f),
                None => {
                    pool.push(0);
                    pool.len() - 1
                }
            };
            let slot = &mut pool[place[buffer]];
            *slot = (*slot).max(len);
        }
        free.extend(dies[i].iter().map(|&buffer| place[buffer]));
    }
    for step in steps {
        step.for_planes(|plane| plane.buffer = place[plane.buffer]);
    }
    (pool, place)
}
