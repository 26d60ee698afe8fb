//! Training on the plain interpreter, which keeps every value and computes every gradient from its definition.

use std::collections::BTreeMap;

use ferroflow_net::device::DeviceError;
use ferroflow_net::graph::{Frame, Graph, NodeId, Op, Shape};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::weights::Weights;

use super::gradient::{self, BatchStatistics, Context};
use super::{Real, Tensor, evaluate};

/// Trains on the plain interpreter, in single or double precision. It is slow; faster trainers are tested against it.
pub struct Training<T> {
    graph: Graph,
    options: TrainingOptions,
    shapes: Vec<Shape>,
    /// Per node: whether a trained parameter decides it.
    wanted: Vec<bool>,
    weights: Option<Weights>,
    values: Vec<Tensor<T>>,
    statistics: BTreeMap<usize, BatchStatistics>,
}

impl<T: Real> Training<T> {
    /// Prepares a graph for training.
    pub fn new(graph: &Graph, options: TrainingOptions) -> Result<Self, DeviceError> {
        let shapes = graph.shapes(&options.sizes)?;
        let mut wanted: Vec<bool> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let own = node.op.params().iter().any(|id| options.trained[id.0 as usize]);
            wanted.push(own || node.inputs.iter().any(|id| wanted[id.0 as usize]));
        }
        Ok(Self {
            graph: graph.clone(),
            options,
            shapes,
            wanted,
            weights: None,
            values: Vec::new(),
            statistics: BTreeMap::new(),
        })
    }

    /// The value of a node after a forward pass.
    pub fn value(&self, id: NodeId) -> Option<&Tensor<T>> {
        self.values.get(id.0 as usize)
    }
}

fn single<T: Real>(x: &Tensor<T>) -> Values {
    Values { shape: x.shape, data: x.data.iter().map(|v| v.f64() as f32).collect() }
}

impl<T: Real> Trainer for Training<T> {
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError> {
        weights.check(&self.graph)?;
        self.weights = Some(weights.clone());
        Ok(())
    }

    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        let weights = self.weights.as_ref().ok_or(DeviceError::Order("load weights before the first forward pass"))?;
        self.values.clear();
        for (i, (node, &shape)) in self.graph.nodes.iter().zip(&self.shapes).enumerate() {
            let inputs: Vec<&Tensor<T>> = node.inputs.iter().map(|id| &self.values[id.0 as usize]).collect();
            let value = match &node.op {
                Op::Frame(frame) => {
                    let data = frames[usize::from(*frame == Frame::Second)];
                    Tensor::from_f32(shape, data).ok_or(DeviceError::Length {
                        what: "a batch of frames",
                        expected: shape.iter().product(),
                        got: data.len(),
                    })?
                }
                Op::BatchNorm(b) if self.options.trained[b.scale.0 as usize] => {
                    let [scale, shift] = [b.scale, b.shift].map(|id| weights.get(id));
                    let (value, statistics) = gradient::batch_norm(inputs[0], scale, shift, b.epsilon);
                    self.statistics.insert(i, statistics);
                    value
                }
                op => evaluate(op, &inputs, weights, &self.options.sizes, shape),
            };
            self.values.push(value);
        }
        Ok(self.options.outputs.iter().map(|id| single(&self.values[id.0 as usize])).collect())
    }

    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        let Some(weights) = self.weights.as_ref().filter(|_| !self.values.is_empty()) else {
            return Err(DeviceError::Order("run the network forward before its gradient"));
        };
        let mut pending: Vec<Option<Tensor<T>>> = vec![None; self.graph.nodes.len()];
        for (id, d) in self.options.outputs.iter().zip(gradients) {
            let expected = self.shapes[id.0 as usize].iter().product();
            let d = Tensor::from_f32(self.shapes[id.0 as usize], &d.data).ok_or(DeviceError::Length {
                what: "the gradient of an output",
                expected,
                got: d.data.len(),
            })?;
            accumulate(&mut pending[id.0 as usize], d);
        }
        for (i, node) in self.graph.nodes.iter().enumerate().rev() {
            let Some(d) = pending[i].take().filter(|_| self.wanted[i]) else { continue };
            let inputs: Vec<&Tensor<T>> = node.inputs.iter().map(|id| &self.values[id.0 as usize]).collect();
            let wanted: Vec<bool> = node.inputs.iter().map(|id| self.wanted[id.0 as usize]).collect();
            let context = Context {
                op: &node.op,
                inputs: &inputs,
                weights,
                sizes: &self.options.sizes,
                wanted: &wanted,
                statistics: self.statistics.get(&i),
            };
            let gradients = gradient::backward(&context, &d, sum);
            for (id, d) in node.inputs.iter().zip(gradients) {
                if let Some(d) = d {
                    accumulate(&mut pending[id.0 as usize], d);
                }
            }
        }
        Ok(())
    }

    fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        for (&i, s) in &self.statistics {
            let Op::BatchNorm(b) = &self.graph.nodes[i].op else { continue };
            let unbiased = s.count as f64 / (s.count.max(2) - 1) as f64;
            let values =
                |moments: &[f64], factor: f64| moments.iter().map(|m| (m * factor) as f32).collect::<Vec<f32>>();
            weights.move_statistics(b, [&values(&s.mean, 1.0), &values(&s.variance, unbiased)], momentum);
        }
    }
}

fn accumulate<T: Real>(sum: &mut Option<Tensor<T>>, d: Tensor<T>) {
    match sum {
        None => *sum = Some(d),
        Some(sum) => sum.data.iter_mut().zip(d.data).for_each(|(s, d)| *s += d),
    }
}
