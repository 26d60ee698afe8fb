//! Leaves out the iterations of a recurrent network that would change its flow by little.
//!
//! The graph is unrolled. After each iteration stands a step that computes nothing and holds what the next one corrects. Where the
//! update before it is small, its values are copied to where those after the last iteration would be, and the run goes on from there.

use ferroflow_kernels::{Buffer, LANES};

use super::{
    step::{Kernel, Step},
    value::Value,
};

/// The ends of the iterations of a plan.
pub(super) struct Iterations {
    /// Steps after which an iteration is done; `inputs` of each are the flow before, the flow after, and the state.
    ends: Vec<usize>,
    /// Mean length in pixels of the frames below which an update is the last one.
    pub stop_below: Option<f32>,
    /// Pixels of the frames to a pixel of the flow, along x and y.
    scale: [f32; 2],
    /// How many iterations the last run did.
    pub done: usize,
}

impl Iterations {
    /// Of steps whose buffers are still their own, for frames of this width and height; `stays` are steps that may not be left out.
    /// `None` if there are no iterations that can be.
    pub fn of(steps: &[Step], [width, height]: [usize; 2], stays: impl Fn(usize) -> bool) -> Option<Self> {
        let ends: Vec<usize> = (0..steps.len()).filter(|&i| matches!(steps[i].kernel, Kernel::Iteration)).collect();
        let (&first, &last) = (ends.first()?, ends.last()?);
        let extent = steps[last].inputs[1].extent;
        let scale = [width as f32 / extent.w as f32, height as f32 / extent.h as f32];
        let iterations = Self { done: ends.len(), ends, stop_below: None, scale };
        let can_stop = iterations.are_alike(steps) && reads_only_ends(steps, first, last) && !(first..last).any(stays);
        can_stop.then_some(iterations)
    }

    fn are_alike(&self, steps: &[Step]) -> bool {
        let layout = |value: &Value| {
            let places: Vec<_> = value.planes.iter().map(|plane| (plane.start, plane.len)).collect();
            (value.extent, value.lanes.clone(), places)
        };
        let layouts = |&end: &usize| steps[end].inputs.iter().map(layout).collect::<Vec<_>>();
        self.ends.windows(2).all(|pair| layouts(&pair[0]) == layouts(&pair[1]))
    }

    /// Where the run goes on after step `at`: behind the last iteration, with its values in place, if `at` ends one that hardly
    /// changed the flow of any pair.
    pub fn next(&mut self, at: usize, steps: &[Step], pool: &mut [Buffer]) -> usize {
        let (Some(bound), Ok(iteration)) = (self.stop_below, self.ends.binary_search(&at)) else { return at + 1 };
        self.done = iteration + 1;
        let last = self.ends[self.ends.len() - 1];
        if at == last || self.largest_update(&steps[at], pool) >= f64::from(bound) {
            return at + 1;
        }
        // All are read before any is written: they may have buffers in common.
        let planes = |end: usize| steps[end].inputs[1..].iter().flat_map(|value| &value.planes);
        let values: Vec<Vec<f32>> = planes(at).map(|p| pool[p.buffer][p.start..][..p.len].to_vec()).collect();
        for (plane, values) in planes(last).zip(values) {
            pool[plane.buffer][plane.start..][..plane.len].copy_from_slice(&values);
        }
        last + 1
    }

    /// The largest mean length of an update, among the pairs, in pixels of the frames. Not a number is larger than all.
    fn largest_update(&self, end: &Step, pool: &[Buffer]) -> f64 {
        let [before, after] = [0, 1].map(|i| {
            let plane = end.inputs[i].planes[0];
            &pool[plane.buffer][plane.start..][..plane.len]
        });
        let extent = end.inputs[1].extent;
        let pixels = extent.h * extent.w;
        let means =
            before.chunks_exact(pixels * LANES).zip(after.chunks_exact(pixels * LANES)).map(|(before, after)| {
                let length = |(before, after): (&[f32], &[f32])| {
                    let [u, v] = [0, 1].map(|c| f64::from(self.scale[c] * (after[c] - before[c])));
                    (u * u + v * v).sqrt()
                };
                before.chunks_exact(LANES).zip(after.chunks_exact(LANES)).map(length).sum::<f64>() / pixels as f64
            });
        means.fold(0.0, |largest, mean| if mean > largest || mean.is_nan() { mean } else { largest })
    }
}

/// Whether what follows the last iteration reads only its end and what was there after the first.
fn reads_only_ends(steps: &[Step], first: usize, last: usize) -> bool {
    let buffers = |values: &mut dyn Iterator<Item = &Value>| -> Vec<usize> {
        values.flat_map(|value| &value.planes).map(|plane| plane.buffer).collect()
    };
    let between = buffers(&mut steps[first..last].iter().filter_map(|step| step.output.as_ref()));
    let handed_on = buffers(&mut steps[last].inputs[1..].iter());
    let read = buffers(&mut steps[last + 1..].iter().flat_map(|step| &step.inputs));
    read.iter().all(|buffer| !between.contains(buffer) || handed_on.contains(buffer))
}
