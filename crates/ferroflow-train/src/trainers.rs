//! The networks that a step trains: one for each size of frames that the passes of a criterion have.

use std::sync::Arc;

use ferroflow_core::Size;
use ferroflow_net::{
    Graph, NodeId, Op, ParamId, Weights,
    device::{Device, DeviceError},
    graph::{BothDirections, MomentsOver, Sizes},
    peers::Peers,
    training::{Census, Gradients, Resident, Trainer, TrainingOptions, Values},
};

use crate::{
    criterion::{Criterion, Whose},
    optimiser::Optimiser,
};

/// How a network comes to see pairs in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directions {
    /// It sees them in one direction only.
    One,
    /// One graph computes both directions, and the features of each frame once.
    Shared,
    /// The batch has twice as many pairs.
    Doubled,
}

/// The network ready to be trained at the sizes that were asked for.
pub(crate) struct Trainers<'a> {
    device: &'a Arc<dyn Device>,
    graph: Graph,
    outputs: Vec<NodeId>,
    directions: Directions,
    batch: usize,
    trained: &'a [bool],
    /// Who has the other parts of the batch.
    peers: Option<Arc<dyn Peers>>,
    /// Whether statistics of the batch are taken over all of its parts.
    synchronised: bool,
    /// As [`TrainingOptions::recompute`].
    pub recompute: bool,
    ready: Vec<Ready>,
}

/// The network at one size.
pub(crate) struct Ready {
    size: Size,
    trainer: Box<dyn Trainer>,
    directions: Directions,
    /// Of the trainer.
    outputs: usize,
    /// Whose weights it holds; `None` if they have changed since.
    holds: Option<Whose>,
    /// Whether the run stays on the device.
    resident: bool,
}

impl<'a> Trainers<'a> {
    /// Trainers for batches of `batch` pairs.
    pub fn new(
        device: &'a Arc<dyn Device>,
        graph: &Graph,
        criterion: &dyn Criterion,
        batch: usize,
        trained: &'a [bool],
    ) -> Self {
        let outputs = criterion.outputs().to_vec();
        let new = |graph, outputs, directions| {
            let (peers, synchronised, recompute, ready) = (None, false, false, Vec::new());
            Self { device, graph, outputs, directions, batch, trained, peers, synchronised, recompute, ready }
        };
        if !criterion.both_directions() {
            return new(graph.clone(), outputs, Directions::One);
        }
        // A graph has one flow of the size of the frames.
        if outputs.iter().any(|id| Some(*id) == graph.flow) {
            return new(graph.clone(), outputs, Directions::Doubled);
        }
        let both = BothDirections::of(graph);
        let back: Vec<NodeId> = outputs.iter().map(|&id| both.counterpart(id)).collect();
        new(both.graph, [outputs, back].concat(), Directions::Shared)
    }

    /// From now on the batch is a part of a larger one, whose statistics are taken as a whole if that is wanted.
    pub fn join(&mut self, peers: &Arc<dyn Peers>, synchronise: bool) {
        let takes_statistics = |op: &Op| match op {
            Op::BatchNorm(norm) => self.trained[norm.scale.0 as usize],
            Op::Moments(over) => *over == MomentsOver::Batch,
            _ => false,
        };
        self.peers = (peers.size() > 1).then(|| peers.clone());
        self.synchronised = synchronise && self.graph.nodes.iter().any(|node| takes_statistics(&node.op));
        self.ready.clear();
    }

    fn options(&self, size: Size) -> TrainingOptions {
        let batch = if self.directions == Directions::Doubled { 2 * self.batch } else { self.batch };
        TrainingOptions {
            sizes: Sizes::new(batch, size.height, size.width),
            outputs: self.outputs.clone(),
            trained: self.trained.to_vec(),
            recompute: self.recompute,
        }
    }

    /// About how many bytes a step with frames of this size will take, if the device knows.
    ///
    /// # Errors
    /// If the network does not take that size.
    pub fn memory(&self, size: Size) -> Result<Option<u64>, DeviceError> {
        self.device.training_memory(&self.graph, &self.options(size))
    }

    fn of(&mut self, size: Size) -> Result<&mut Ready, DeviceError> {
        let known = self.ready.iter().position(|ready| ready.size == size);
        let index = match known {
            Some(index) => index,
            None => {
                let options = self.options(size);
                let mut trainer = self.device.trainer(&self.graph, options)?;
                if let (Some(peers), true) = (&self.peers, self.synchronised) {
                    trainer.synchronise(peers)?;
                }
                let (directions, outputs) = (self.directions, self.outputs.len());
                self.ready.push(Ready { size, trainer, directions, outputs, holds: None, resident: false });
                self.ready.len() - 1
            }
        };
        Ok(&mut self.ready[index])
    }

    /// Prepares the network for frames of this size, if that has not been done.
    ///
    /// # Errors
    /// If the device cannot train it.
    pub fn prepare(&mut self, size: Size) -> Result<(), DeviceError> {
        self.of(size).map(|_| ())
    }

    /// The network for frames of this size, with the weights of the student or the teacher.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn with(&mut self, size: Size, whose: Whose, weights: &Weights) -> Result<&mut Ready, DeviceError> {
        let ready = self.of(size)?;
        if ready.holds != Some(whose) {
            ready.holds = None;
            ready.trainer.load(weights)?;
            ready.holds = Some(whose);
        }
        Ok(ready)
    }

    /// The network for frames of this size, with weights for a single pass.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn with_odd(&mut self, size: Size, weights: &Weights) -> Result<&mut Ready, DeviceError> {
        let ready = self.of(size)?;
        ready.holds = None;
        ready.trainer.load(weights)?;
        Ok(ready)
    }

    /// Notes that the student's weights have changed.
    pub fn forget_student(&mut self) {
        self.ready.iter_mut().for_each(|ready| ready.holds = ready.holds.filter(|whose| *whose == Whose::Teacher));
    }

    /// Leaves a run to the device, whose passes all have frames of this size, if it can optimise by itself. Says whether it does, and how
    /// it adds its gradients to those of other ranks if it has just begun to.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn leave(
        &mut self,
        size: Size,
        weights: &Weights,
        optimiser: &Optimiser,
    ) -> Result<(bool, Option<String>), DeviceError> {
        let peers = self.peers.clone();
        let ready = self.of(size)?;
        let mut way = None;
        if let (false, Some(run)) = (ready.resident, ready.trainer.resident()) {
            run.take(weights, optimiser.memory(), optimiser.decay())?;
            way = peers.map(|peers| run.join(&peers)).transpose()?;
            (ready.resident, ready.holds) = (true, Some(Whose::Student));
        }
        Ok((ready.resident, way))
    }

    /// The run that was left to the device.
    pub fn resident(&mut self) -> Option<&mut dyn Resident> {
        self.ready.iter_mut().find(|ready| ready.resident)?.trainer.resident()
    }

    /// Brings weights and optimiser up to date with a run that was left to the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fetch(&mut self, weights: &mut Weights, optimiser: &mut Optimiser) -> Result<(), DeviceError> {
        match self.resident() {
            Some(run) => run.give(weights, optimiser.memory_mut()),
            None => Ok(()),
        }
    }

    /// Frees the memory of all networks.
    pub fn clear(&mut self) {
        self.ready.clear();
    }
}

impl Ready {
    /// The outputs for N pairs of frames; with both directions for 2N, all forward and then all backward.
    ///
    /// # Errors
    /// As [`Trainer::forward`].
    pub fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        let [first, second] = frames;
        match self.directions {
            Directions::One => self.trainer.forward(frames),
            Directions::Doubled => self.trainer.forward([&[first, second].concat(), &[second, first].concat()]),
            Directions::Shared => {
                let mut forward = self.trainer.forward(frames)?;
                let backward = forward.split_off(forward.len() / 2);
                for (values, back) in forward.iter_mut().zip(backward) {
                    values.shape[0] += back.shape[0];
                    values.data.extend_from_slice(&back.data);
                }
                Ok(forward)
            }
        }
    }

    /// The census loss of the first output of the last forward pass, if the device computes it.
    ///
    /// # Errors
    /// As [`Trainer::census`].
    pub fn census(&mut self, census: &Census<'_>, scale: f64) -> Result<Option<f64>, DeviceError> {
        match self.directions {
            Directions::Shared => self.trainer.census(census, [0, self.outputs / 2], scale),
            Directions::One | Directions::Doubled => Ok(None),
        }
    }

    /// Adds to `sum`, or to that on the device, the gradient of a loss whose gradients with respect to the last outputs are given.
    ///
    /// # Errors
    /// As [`Trainer::backward`].
    pub fn backward(&mut self, gradients: Vec<Values>, sum: &mut Gradients) -> Result<(), DeviceError> {
        let gradients = self.by_direction(gradients);
        match self.trainer.resident() {
            Some(run) if self.resident => run.backward(&gradients),
            _ => self.trainer.backward(&gradients, sum),
        }
    }

    /// The same, calling `done` as [`Trainer::backward_telling`] does.
    ///
    /// # Errors
    /// As [`Trainer::backward_telling`].
    pub fn backward_telling(
        &mut self,
        gradients: Vec<Values>,
        sum: &mut Gradients,
        done: &mut (dyn FnMut(&Gradients, ParamId) + Send),
    ) -> Result<(), DeviceError> {
        self.trainer.backward_telling(&self.by_direction(gradients), sum, done)
    }

    /// Gradients as the outputs of the trainer are.
    fn by_direction(&self, mut gradients: Vec<Values>) -> Vec<Values> {
        if self.directions == Directions::Shared {
            let backward = |d: &mut Values| {
                let half = d.data.split_off(d.data.len() / 2);
                d.shape[0] /= 2;
                Values { shape: d.shape, data: half }
            };
            let backward: Vec<Values> = gradients.iter_mut().map(backward).collect();
            gradients.extend(backward);
        }
        gradients
    }

    /// As [`Trainer::update_statistics`].
    pub fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        self.trainer.update_statistics(momentum, weights);
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use ferroflow_cpu::{Cpu, CpuOptions};
    use ferroflow_data::random::Random;
    use ferroflow_net::{Model, graph::Shape};

    use super::*;
    use crate::{
        criterion::{Grading, Needs, Pass},
        data::Batch,
        loss::{Graded, LossError, Tally},
    };

    struct Outputs(Vec<NodeId>, bool);

    impl Criterion for Outputs {
        fn outputs(&self) -> &[NodeId] {
            &self.0
        }

        fn both_directions(&self) -> bool {
            self.1
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        fn passes(&self, _: u64) -> Vec<Pass> {
            Vec::new()
        }

        fn frames<'a>(&self, _: u64, _: &Pass, _: &'a Batch) -> Result<[Cow<'a, [f32]>; 2], LossError> {
            Ok([Cow::Borrowed(&[]), Cow::Borrowed(&[])])
        }

        fn tally(&self, _: &[Shape], _: Option<&[Values]>, _: &Batch) -> Result<Vec<Tally>, LossError> {
            Ok(Vec::new())
        }

        fn grade(&self, _: Grading<'_>) -> Result<Graded, LossError> {
            Ok(Graded { value: 0.0, terms: Vec::new(), epe: None, gradients: Vec::new() })
        }
    }

    /// Both ways of seeing both directions, against two runs of the network with the frames exchanged.
    #[test]
    fn both_directions_are_two_runs_of_the_network() {
        let device: Arc<dyn Device> = Arc::new(Cpu::new(CpuOptions { exact: true, ..CpuOptions::default() }).unwrap());
        for name in ["uflow", "pwcnet-sm", "rill", "flownet2-s"] {
            let model = Model::named(name).unwrap();
            let graph = &model.graph;
            let trained: Vec<bool> = graph.params.iter().map(|p| p.used && p.role.is_trained()).collect();
            let weights = Weights::random(graph, 5);
            let size = Size { height: 64, width: 128 };
            let [first, second] = [1u64, 2].map(|seed| {
                let mut random = Random::new(seed, &[]);
                (0..2 * 3 * size.height * size.width).map(|_| random.range(0.0, 255.0)).collect::<Vec<f32>>()
            });
            let levels = vec![graph.pyramid[0], *graph.pyramid.last().unwrap()];
            for outputs in [levels, vec![graph.flow.unwrap()]] {
                let run = |both: bool, frames: [&[f32]; 2], slopes: Option<&[Values]>, sum: &mut Gradients| {
                    let criterion = Outputs(outputs.clone(), both);
                    let mut trainers = Trainers::new(&device, graph, &criterion, 2, &trained);
                    let ready = trainers.with(size, Whose::Student, &weights).unwrap();
                    let values = ready.forward(frames).unwrap();
                    let slope = |(i, v): (usize, &Values)| {
                        let mut random = Random::new(i as u64, &[9]);
                        Values { shape: v.shape, data: v.data.iter().map(|_| random.range(-1.0, 1.0)).collect() }
                    };
                    let slopes = match slopes {
                        Some(slopes) => slopes.to_vec(),
                        None => values.iter().enumerate().map(slope).collect(),
                    };
                    ready.backward(slopes.clone(), sum).unwrap();
                    (values, slopes)
                };
                let [mut together, mut apart] = [(); 2].map(|()| Gradients::zeros(graph, &trained));
                let (values, slopes) = run(true, [&first, &second], None, &mut together);
                let half = |all: &[Values], second: bool| -> Vec<Values> {
                    let part = |v: &Values| {
                        let (a, b) = v.data.split_at(v.data.len() / 2);
                        let [n, c, h, w] = v.shape;
                        Values { shape: [n / 2, c, h, w], data: if second { b } else { a }.to_vec() }
                    };
                    all.iter().map(part).collect()
                };
                for (back, frames) in [(false, [&first, &second]), (true, [&second, &first])] {
                    let frames = frames.map(|f| &f[..]);
                    let (alone, _) = run(false, frames, Some(&half(&slopes, back)), &mut apart);
                    for (ours, theirs) in half(&values, back).iter().zip(&alone) {
                        assert_eq!(ours.shape, theirs.shape);
                        let worst = ours.data.iter().zip(&theirs.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        let largest = theirs.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                        assert!(worst <= 1e-4 * largest, "{name}: {worst} of {largest}");
                    }
                }
                let largest = apart.values().iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let worst =
                    together.values().iter().zip(apart.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-3 * largest, "{name}: {worst} of {largest}");
            }
        }
    }

    /// `cargo test --release -p ferroflow-train --lib -- --ignored --nocapture milliseconds`
    #[test]
    #[ignore = "measures time"]
    fn milliseconds_that_shared_features_save() {
        let device: Arc<dyn Device> = Arc::new(Cpu::new(CpuOptions::default()).unwrap());
        let size = Size { height: 384, width: 512 };
        let [first, second] = [1u64, 2].map(|seed| {
            let mut random = Random::new(seed, &[]);
            (0..3 * size.height * size.width).map(|_| random.range(0.0, 255.0)).collect::<Vec<f32>>()
        });
        for name in ["uflow", "pwcnet", "lightflow", "rill"] {
            let model = Model::named(name).unwrap();
            let graph = &model.graph;
            let trained: Vec<bool> = graph.params.iter().map(|p| p.used && p.role.is_trained()).collect();
            let weights = Weights::random(graph, 5);
            let criterion = Outputs(vec![*graph.pyramid.last().unwrap()], true);
            let median = |directions: Directions| {
                let mut trainers = Trainers::new(&device, graph, &criterion, 1, &trained);
                if directions == Directions::Doubled {
                    trainers.graph = graph.clone();
                    trainers.outputs = criterion.0.clone();
                    trainers.directions = directions;
                }
                let ready = trainers.with(size, Whose::Student, &weights).unwrap();
                let mut sum = Gradients::zeros(graph, &trained);
                let mut times: Vec<f64> = (0..10)
                    .map(|_| {
                        let start = std::time::Instant::now();
                        let slopes = ready.forward([&first, &second]).unwrap();
                        ready.backward(slopes, &mut sum).unwrap();
                        1e3 * start.elapsed().as_secs_f64()
                    })
                    .skip(1)
                    .collect();
                times.sort_by(f64::total_cmp);
                times[4]
            };
            let [shared, doubled] = [Directions::Shared, Directions::Doubled].map(median);
            eprintln!("{name}: both directions {shared:.1} ms, as two pairs {doubled:.1} ms");
        }
    }
}
