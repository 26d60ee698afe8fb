//! What a plan keeps from run to run: values that one frame alone decides, for a run that sees the frame again.
//!
//! Both directions of a pair see the same frames, and successive pairs of a video have one in common. What the rest of the network
//! reads of a frame's values stays in buffers that nothing else uses; where the frame is on the other side now, both sides exchange
//! them.

use std::{collections::HashMap, mem::discriminant, sync::Arc};

use ferroflow_kernels::{Buffer, lend, pack::Pixels};
use ferroflow_net::NodeId;

use super::{
    step::{Kernel, Step},
    value::{Plane, Value},
};

/// The steps of a plan, by the frames that decide what they compute.
pub(super) struct Reuse {
    roles: Vec<Role>,
    /// Per step: the steps whose values it reads.
    reads: Vec<Vec<usize>>,
    /// Per step: whether its value stays.
    kept: Vec<bool>,
    /// Planes of kept values of frame 1 and of frame 2 that are the same function of their frame.
    twins: Vec<[Plane; 2]>,
    /// The frames of the last run.
    seen: [Seen; 2],
    /// Whether the last run came to its end.
    ended: bool,
    /// Per step: whether this run needs it.
    needed: Vec<bool>,
}

/// What decides a step's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Frame 0 or 1, and the other side has a twin.
    Twin(usize),
    /// Frame 0 or 1.
    Own(usize),
    /// Both, none, or what the caller gives: it is computed in every run.
    Always,
}

/// Pixels of a frame.
enum Seen {
    Planar(Vec<f32>),
    Rgb(Vec<u8>),
}

impl Seen {
    /// Copies the pixels into the memory that is there.
    fn set(&mut self, pixels: Pixels<'_>) {
        match (&mut *self, pixels) {
            (Self::Planar(seen), Pixels::Planar(values)) => values.clone_into(seen),
            (Self::Rgb(seen), Pixels::Rgb([image])) => (*image).clone_into(seen),
            (_, Pixels::Planar(values)) => *self = Self::Planar(values.to_vec()),
            (_, Pixels::Rgb(images)) => *self = Self::Rgb(images.concat()),
        }
    }

    fn is(&self, pixels: Pixels<'_>) -> bool {
        match (self, pixels) {
            (Self::Planar(seen), Pixels::Planar(values)) => seen[..] == *values,
            (Self::Rgb(seen), Pixels::Rgb([image])) => seen[..] == **image,
            _ => false,
        }
    }
}

impl Reuse {
    /// Of the steps of a plan for one pair, each of whose buffers is still its own. `twins` are nodes of frame 1 and of frame 2 that
    /// are the same function of their frame.
    pub fn of(steps: &mut [Step], buffers: usize, twins: &[[NodeId; 2]]) -> Self {
        let mut writer: Vec<Option<usize>> = vec![None; buffers];
        let mut reads: Vec<Vec<usize>> = Vec::with_capacity(steps.len());
        let mut frames: Vec<[bool; 2]> = Vec::with_capacity(steps.len());
        for (i, step) in steps.iter_mut().enumerate() {
            let mut sees = [matches!(step.kernel, Kernel::Initial) || step.output.is_none(); 2];
            let mut read: Vec<usize> = step.inputs.iter().flat_map(|v| &v.planes).map(|p| p.buffer).collect();
            for pixel in step.pixels_mut() {
                sees[pixel.frame] = true;
                read.extend(pixel.mean.map(|(plane, ..)| plane.buffer));
            }
            let mut from: Vec<usize> = read.into_iter().filter_map(|buffer| writer[buffer]).collect();
            from.sort_unstable();
            from.dedup();
            from.iter().for_each(|&j| (0..2).for_each(|frame| sees[frame] |= frames[j][frame]));
            step.output.iter().flat_map(|v| &v.planes).for_each(|plane| writer[plane.buffer] = Some(i));
            reads.push(from);
            frames.push(sees);
        }
        let role = |sees: &[bool; 2]| match sees {
            [true, false] => Role::Own(0),
            [false, true] => Role::Own(1),
            _ => Role::Always,
        };
        let mut roles: Vec<Role> = frames.iter().map(role).collect();
        let pairs = twin_steps(steps, &roles, twins);
        for &[first, second] in &pairs {
            (roles[first], roles[second]) = (Role::Twin(0), Role::Twin(1));
        }
        // What steps of another role read stays, unless it is the frame itself in blocks, which is soon written again.
        let mut kept = vec![false; steps.len()];
        for (i, from) in reads.iter().enumerate() {
            for &j in from.iter().filter(|&&j| roles[j] != roles[i] && roles[j] != Role::Always) {
                kept[j] = !matches!(steps[j].kernel, Kernel::Pack(_) | Kernel::PackNarrow(_));
            }
        }
        for &[first, second] in &pairs {
            let either = kept[first] || kept[second];
            (kept[first], kept[second]) = (either, either);
        }
        let kept_pairs = pairs.iter().filter(|pair| kept[pair[0]]);
        let twins = kept_pairs.flat_map(|&[a, b]| planes(&steps[a]).zip(planes(&steps[b])).map(|(a, b)| [a, b]));
        let (twins, needed) = (twins.collect(), vec![true; steps.len()]);
        let seen = [(); 2].map(|()| Seen::Rgb(Vec::new()));
        Self { roles, reads, kept, twins, seen, ended: false, needed }
    }

    /// Whether a step's value stays.
    pub fn keeps(&self, step: usize) -> bool {
        self.kept[step]
    }

    /// Buffers that nothing else may use.
    pub fn held(&self, steps: &[Step]) -> Vec<usize> {
        steps.iter().zip(&self.kept).filter(|(_, kept)| **kept).flat_map(|(step, _)| written(step)).collect()
    }

    /// The buffers lie in one now, each from its place in `starts` on.
    pub fn moved(&mut self, starts: &[usize]) {
        self.twins.iter_mut().flatten().for_each(|plane| *plane = plane.within(starts));
    }

    /// Decides what a run on these frames needs, and brings what there is of them to its side. Nothing is known until [`Self::end`].
    pub fn begin(&mut self, frames: [Pixels<'_>; 2], pool: &mut [Buffer]) {
        let ended = std::mem::take(&mut self.ended);
        let is = |known: usize, now: usize| ended && self.seen[known].is(frames[now]);
        let count = |there: [bool; 2]| there.into_iter().filter(|&there| there).count();
        let stays = [is(0, 0), is(1, 1)];
        let comes = [is(1, 0), is(0, 1)];
        let changes = count(comes) > count(stays);
        if changes {
            for twins in &self.twins {
                let (mut planes, _) = lend(pool, &twins.map(|plane| plane.part()), &[]);
                if let [a, b] = &mut planes[..] {
                    a.swap_with_slice(b);
                }
            }
        }
        let twin_stays = if changes { comes } else { stays };
        let Self { roles, reads, kept, needed, .. } = self;
        let is_there = |i: usize| {
            kept[i]
                && match roles[i] {
                    Role::Twin(frame) => twin_stays[frame],
                    Role::Own(frame) => stays[frame],
                    Role::Always => false,
                }
        };
        for (i, needed) in needed.iter_mut().enumerate() {
            *needed = roles[i] == Role::Always || (kept[i] && !is_there(i));
        }
        for i in (0..reads.len()).rev() {
            if needed[i] {
                reads[i].iter().filter(|&&j| !is_there(j)).for_each(|&j| needed[j] = true);
            }
        }
    }

    /// Whether this run needs a step.
    pub fn needs(&self, step: usize) -> bool {
        self.needed[step]
    }

    /// Remembers the frames of a run that has come to its end.
    pub fn end(&mut self, frames: [Pixels<'_>; 2]) {
        self.seen.iter_mut().zip(frames).for_each(|(seen, pixels)| seen.set(pixels));
        self.ended = true;
    }

    /// Forgets the frames.
    pub fn forget(&mut self) {
        self.ended = false;
    }
}

/// The planes that a step writes.
fn planes(step: &Step) -> impl Iterator<Item = Plane> {
    step.output.iter().flat_map(|value| &value.planes).copied()
}

/// The buffers that a step writes.
fn written(step: &Step) -> impl Iterator<Item = usize> {
    step.output.iter().flat_map(|value| &value.planes).map(|plane| plane.buffer)
}

/// Steps of frame 1 and of frame 2 that compute the same of their frame.
fn twin_steps(steps: &[Step], roles: &[Role], twins: &[[NodeId; 2]]) -> Vec<[usize; 2]> {
    let first_of: HashMap<NodeId, NodeId> = twins.iter().map(|&[first, second]| (second, first)).collect();
    let mut steps_of: HashMap<NodeId, Vec<usize>> = HashMap::new();
    for (i, step) in steps.iter().enumerate().filter(|(i, _)| roles[*i] == Role::Own(0)) {
        steps_of.entry(step.node).or_default().push(i);
    }
    let mut met: HashMap<NodeId, usize> = HashMap::new();
    let mut buffers: HashMap<usize, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (i, step) in steps.iter().enumerate().filter(|(i, _)| roles[*i] == Role::Own(1)) {
        let Some(candidates) = first_of.get(&step.node).and_then(|first| steps_of.get(first)) else { continue };
        // A node may take several steps, in the same order on both sides.
        let nth = met.entry(step.node).or_default();
        *nth += 1;
        let Some(&first) = candidates.get(*nth - 1) else { continue };
        let other = &steps[first];
        let buffer = |of: usize| buffers.get(&of).copied().unwrap_or(of);
        let reads_the_same = other.inputs.len() == step.inputs.len()
            && other.inputs.iter().zip(&step.inputs).all(|(a, b)| {
                is_laid_out_as(a, b) && a.planes.iter().zip(&b.planes).all(|(a, b)| a.buffer == buffer(b.buffer))
            });
        let writes_the_same = match (&other.output, &step.output) {
            (Some(a), Some(b)) => is_laid_out_as(a, b),
            _ => false,
        };
        if is_kernel_of(&other.kernel, &step.kernel) && reads_the_same && writes_the_same {
            buffers.extend(written(step).zip(written(other)));
            pairs.push([first, i]);
        }
    }
    pairs
}

fn is_laid_out_as(a: &Value, b: &Value) -> bool {
    let places = |value: &Value| value.planes.iter().map(|p| (p.start, p.len)).collect::<Vec<_>>();
    (a.extent, &a.lanes, places(a)) == (b.extent, &b.lanes, places(b))
}

/// Whether kernels of twin nodes with inputs of the same layout compute the same to the last bit.
fn is_kernel_of(a: &Kernel, b: &Kernel) -> bool {
    match (a, b) {
        (Kernel::Conv(a), Kernel::Conv(b)) => Arc::ptr_eq(a, b),
        _ => discriminant(a) == discriminant(b),
    }
}
