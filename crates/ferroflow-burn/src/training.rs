//! A network on a device, to be trained.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ferroflow_net::device::DeviceError;
#[cfg(feature = "cube")]
use ferroflow_net::graph::Size;
use ferroflow_net::graph::{BatchNorm, Graph, Shape, ShapeError};
use ferroflow_net::peers::Peers;
#[cfg(feature = "cube")]
use ferroflow_net::training::Census;
use ferroflow_net::training::{AdamStep, Gradients, Resident, Trainer, TrainingOptions, Values};
use ferroflow_net::weights::Weights;

use crate::all_reduce::AllReduce;
use crate::device::{Precision, caught};
use crate::interpret::{BatchStatistics, Interpreter, Normalisation, Parameters};
use crate::ops;

/// A network differentiated by Burn. Batch norm normalises by the statistics of the batch, by its running ones where its
/// scale is frozen.
pub struct Training {
    graph: Graph,
    options: TrainingOptions,
    device: Device,
    precision: Precision,
    shapes: Vec<Shape>,
    /// Where they are trained.
    parameters: Option<Parameters>,
    /// What the last forward pass left for the backward pass.
    pass: Option<Vec<Tensor<4>>>,
    /// Of that pass, what the device itself computed of the loss, `[1]` each.
    losses: Vec<Tensor<1>>,
    /// What each batch norm saw in the last forward pass.
    statistics: Vec<Statistics>,
    /// Of a run that stays on the device.
    run: Vec<Held>,
    /// With whom it shares the batches of that run.
    ranks: Option<AllReduce>,
}

/// What Adam keeps of a parameter.
struct Held {
    /// `None` if it is not trained.
    moments: Option<[Tensor<1>; 2]>,
    decay: f32,
    /// Of the gradients since the last step.
    sum: Option<Tensor<1>>,
}

/// [`BatchStatistics`] in main memory.
struct Statistics {
    norm: BatchNorm,
    mean: Vec<f32>,
    variance: Vec<f32>,
    count: usize,
}

impl Training {
    /// Prepares to train a graph on a device. One that is already set to differentiate keeps how it does so (gradient
    /// checkpointing).
    pub fn new(graph: &Graph, options: TrainingOptions, device: Device) -> Result<Self, DeviceError> {
        let shapes = graph.shapes(&options.sizes)?;
        if options.trained.len() != graph.params.len() {
            return Err(DeviceError::Length {
                what: "`trained`",
                expected: graph.params.len(),
                got: options.trained.len(),
            });
        }
        if let Some(id) = options.outputs.iter().find(|id| id.0 as usize >= graph.nodes.len()) {
            let node = format!("{id:?}");
            return Err(ShapeError { node, inputs: Vec::new(), reason: "the graph has no such node".into() }.into());
        }
        Ok(Self {
            graph: graph.clone(),
            options,
            device: device.autodiff(),
            precision: Precision::F32,
            shapes,
            parameters: None,
            pass: None,
            losses: Vec::new(),
            statistics: Vec::new(),
            run: Vec::new(),
            ranks: None,
        })
    }

    /// With convolutions in this precision, which the device must have.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn upload<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device)
    }

    fn read_statistics(&self, statistics: Vec<BatchStatistics>) -> Result<Vec<Statistics>, DeviceError> {
        if statistics.is_empty() {
            return Ok(Vec::new());
        }
        let tensors = statistics.iter().flat_map(|s| [s.mean.clone(), s.variance.clone()]).collect();
        let mut values = self.download_all(tensors)?.into_iter();
        let mut take = |tensor: Tensor<1>| values.by_ref().take(tensor.dims()[0]).collect();
        let read = |s: BatchStatistics| Statistics {
            norm: s.norm,
            mean: take(s.mean),
            variance: take(s.variance),
            count: s.count,
        };
        Ok(statistics.into_iter().map(read).collect())
    }

    /// One tensor after the other, in one transfer: each waits for the device.
    fn download_all(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<f32>, DeviceError> {
        if tensors.is_empty() {
            return Ok(Vec::new());
        }
        Tensor::cat(tensors, 0).try_into_vec_as::<f32>().map_err(|error| self.failed(error))
    }

    fn failed(&self, reason: impl ToString) -> DeviceError {
        DeviceError::Failed { device: format!("{:?}", self.device), reason: reason.to_string() }
    }
}

impl Training {
    fn pass_forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        let sizes = &self.options.sizes;
        let shape = [sizes.batch, 3, sizes.input.height, sizes.input.width];
        let expected = shape.iter().product();
        if let Some(got) = frames.iter().map(|f| f.len()).find(|&len| len != expected) {
            return Err(DeviceError::Length { what: "a frame", expected, got });
        }
        self.pass = None;
        self.losses.clear();
        let parameters =
            self.parameters.as_ref().ok_or(DeviceError::Order("load weights before the first forward pass"))?;
        let interpreter = Interpreter {
            graph: &self.graph,
            sizes,
            shapes: &self.shapes,
            parameters,
            frames: &frames.map(|frame| self.upload(frame, shape)),
            start: None,
            normalisation: Normalisation::Batch { trained: &self.options.trained },
            precision: self.precision,
        };
        let (outputs, statistics) = interpreter.run(&self.options.outputs);
        self.statistics = self.read_statistics(statistics)?;
        let flat = outputs.iter().map(|output| output.clone().flatten(0, 3)).collect();
        let mut data = self.download_all(flat)?.into_iter();
        let values = outputs.iter().map(|output| {
            let shape = output.dims();
            Values { shape, data: data.by_ref().take(shape.iter().product()).collect() }
        });
        let values = values.collect();
        self.pass = Some(outputs);
        Ok(values)
    }

    /// The gradient of each trained parameter that the last forward pass reached, on the device.
    fn differentiate(&mut self, gradients: &[Values]) -> Result<Vec<Option<Tensor<1>>>, DeviceError> {
        // Burn consumes what it recorded.
        let (Some(outputs), Some(parameters)) = (self.pass.take(), &self.parameters) else {
            return Err(DeviceError::Order("no forward pass is left to go back through"));
        };
        if gradients.len() != outputs.len() {
            let (expected, got) = (outputs.len(), gradients.len());
            return Err(DeviceError::Length { what: "the list of gradients", expected, got });
        }
        let mut losses = std::mem::take(&mut self.losses);
        for (output, gradient) in outputs.into_iter().zip(gradients) {
            let (expected, got) = (output.shape().num_elements(), gradient.data.len());
            if expected != got {
                return Err(DeviceError::Length { what: "the gradient of an output", expected, got });
            }
            let gradient = self.upload(&gradient.data, output.dims());
            losses.push(output.mul(gradient).flatten::<1>(0, 3));
        }
        losses.retain(Tensor::is_tracked);
        if losses.is_empty() {
            return Ok(parameters.iter().map(|_| None).collect());
        }
        // Going back starts with a one for each value, as if they were summed.
        let loss = Tensor::cat(losses, 0);
        let mut found = loss.backward();
        Ok(parameters.iter().map(|parameter| parameter.grad_remove(&mut found)).collect())
    }

    /// `None` where there are no kernels for it, or the flows do not fit the frames.
    #[cfg(feature = "cube")]
    fn pass_census(&mut self, census: &Census<'_>, flows: [usize; 2], scale: f64) -> Result<Option<f64>, DeviceError> {
        let Some(outputs) = &self.pass else {
            return Err(DeviceError::Order("no forward pass is left to compute a loss of"));
        };
        let Size { height, width } = census.size;
        let has_patches = !census.patch.is_multiple_of(2) && census.patch <= height.min(width);
        let flow = |i: usize| {
            let flow = outputs.get(i)?;
            let [n, channels, h, w] = flow.dims();
            let stride = height.checked_div(h)?;
            let fits = channels == 2 && [h * stride, w * stride] == [height, width] && stride.is_power_of_two();
            let pairs = census.frames.iter().all(|frame| frame.len() == n * 3 * height * width);
            (has_patches && fits && pairs && ops::has_kernels(flow)).then(|| flow.clone())
        };
        let [Some(there), Some(back)] = flows.map(flow) else { return Ok(None) };
        let shape = [there.dims()[0], 3, height, width];
        let loss = ops::census(census.frames.map(|frame| self.upload(frame, shape)), [there, back], census);
        self.losses.push(loss.clone().mul_scalar(scale));
        Ok(self.download_all(vec![loss])?.first().copied().map(f64::from))
    }

    fn pass_backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        let gradients = self.differentiate(gradients)?;
        let mut values = self.download_all(gradients.iter().flatten().cloned().collect())?.into_iter();
        for (_, sum) in gradients.iter().zip(sum.iter_mut()).filter(|(gradient, _)| gradient.is_some()) {
            sum.iter_mut().zip(values.by_ref()).for_each(|(sum, g)| *sum += g);
        }
        Ok(())
    }
}

impl Trainer for Training {
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError> {
        weights.check(&self.graph)?;
        let upload = || Parameters::upload(weights, &self.device).track(&self.options.trained);
        self.parameters = Some(caught(upload).map_err(|panic| self.failed(panic))?);
        self.run.clear();
        Ok(())
    }

    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        caught(|| self.pass_forward(frames)).unwrap_or_else(|panic| Err(self.failed(panic)))
    }

    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        caught(|| self.pass_backward(gradients, sum)).unwrap_or_else(|panic| Err(self.failed(panic)))
    }

    #[cfg(feature = "cube")]
    fn census(&mut self, census: &Census<'_>, flows: [usize; 2], scale: f64) -> Result<Option<f64>, DeviceError> {
        caught(|| self.pass_census(census, flows, scale)).unwrap_or_else(|panic| Err(self.failed(panic)))
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        Some(self)
    }

    fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        for batch in &self.statistics {
            let count = batch.count as f32;
            let unbiased = count / (count.max(2.0) - 1.0);
            let variance: Vec<f32> = batch.variance.iter().map(|v| unbiased * v).collect();
            weights.move_statistics(&batch.norm, [&batch.mean, &variance], momentum);
        }
    }
}

impl Training {
    /// All trained parameters with what is held of them, or the error that there is no run.
    fn held(&self) -> Result<impl Iterator<Item = (&Tensor<1>, &Held, &[Tensor<1>; 2])>, DeviceError> {
        let (Some(parameters), false) = (&self.parameters, self.run.is_empty()) else {
            return Err(DeviceError::Order("take a run to the device first"));
        };
        Ok(parameters.iter().zip(&self.run).filter_map(|(w, held)| Some((w, held, held.moments.as_ref()?))))
    }

    fn adam(&mut self, step: AdamStep) {
        let Some(parameters) = &mut self.parameters else { return };
        for (parameter, held) in parameters.iter_mut().zip(&mut self.run) {
            let Some([first, second]) = held.moments.take() else { continue };
            let sum = held.sum.take().unwrap_or_else(|| first.zeros_like());
            // Nothing else may hold the weights, or they would be copied instead of changed in place.
            let weights = std::mem::replace(parameter, sum.clone()).inner();
            let [weights, first, second] = ops::adam([weights, first, second], sum, step, held.decay);
            *parameter = weights.autodiff().require_grad();
            held.moments = Some([first, second]);
        }
    }
}

impl Resident for Training {
    fn take(&mut self, weights: &Weights, moments: [&[Vec<f32>]; 2], decay: &[f32]) -> Result<(), DeviceError> {
        let lengths = moments.iter().map(|moments| moments.len()).chain([decay.len()]);
        let expected = self.graph.params.len();
        if let Some(got) = lengths.into_iter().find(|&got| got != expected) {
            return Err(DeviceError::Length { what: "what is kept of the parameters", expected, got });
        }
        self.load(weights)?;
        let device = self.device.clone().inner();
        let upload = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &device);
        let held = |i: usize| {
            let moments = self.options.trained[i].then(|| moments.map(|moments| upload(&moments[i])));
            Held { moments, decay: decay[i], sum: None }
        };
        self.run = caught(|| (0..expected).map(held).collect()).map_err(|panic| self.failed(panic))?;
        Ok(())
    }

    fn backward(&mut self, gradients: &[Values]) -> Result<(), DeviceError> {
        self.held().map(drop)?;
        let found = caught(|| self.differentiate(gradients)).unwrap_or_else(|panic| Err(self.failed(panic)))?;
        for (held, gradient) in self.run.iter_mut().zip(found) {
            held.sum = match (held.sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum.add(gradient)),
                (sum, gradient) => sum.or(gradient),
            };
        }
        Ok(())
    }

    fn join(&mut self, peers: &Arc<dyn Peers>) -> Result<String, DeviceError> {
        let joined = caught(|| AllReduce::join(peers, &self.device)).map_err(|panic| self.failed(panic))?;
        Ok(self.ranks.insert(joined).to_string())
    }

    fn sum(&mut self) -> Result<(), DeviceError> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        // One buffer, of which each gets its part back: the same on all ranks, which have made the same passes.
        let own: Vec<Tensor<1>> = self.run.iter().filter_map(|held| held.sum.clone()).collect();
        if own.is_empty() {
            return Ok(());
        }
        let lengths = own.iter().map(|sum| sum.dims()[0]).collect();
        let summed = || Ok(ranks.sum(Tensor::cat(own, 0))?.split_with_sizes(lengths, 0));
        let summed = caught(summed).unwrap_or_else(Err).map_err(|error| self.failed(error))?;
        let held = self.run.iter_mut().filter_map(|held| held.sum.as_mut());
        held.zip(summed).for_each(|(held, summed)| *held = summed);
        Ok(())
    }

    fn norm(&self) -> Result<f64, DeviceError> {
        let sums = self.held()?.filter_map(|(_, held, _)| held.sum.clone());
        // (Mesa's driver for processors crashes on the kernel of `sum`.)
        let squares: Vec<Tensor<1>> = sums.map(|sum| sum.clone().mul(sum).sum_dim(0)).collect();
        let squares = caught(|| self.download_all(squares)).unwrap_or_else(|panic| Err(self.failed(panic)))?;
        Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
    }

    fn step(&mut self, step: AdamStep) -> Result<(), DeviceError> {
        self.held().map(drop)?;
        caught(|| self.adam(step)).map_err(|panic| self.failed(panic))
    }

    fn clear(&mut self) {
        self.run.iter_mut().for_each(|held| held.sum = None);
    }

    fn give(&self, weights: &mut Weights, moments: [&mut [Vec<f32>]; 2]) -> Result<(), DeviceError> {
        let all = self.held()?.flat_map(|(w, _, [first, second])| [w.clone().inner(), first.clone(), second.clone()]);
        let all: Vec<Tensor<1>> = all.collect();
        let values = caught(|| self.download_all(all)).unwrap_or_else(|panic| Err(self.failed(panic)))?;
        let mut values = values.into_iter();
        let [first, second] = moments;
        let each = weights.iter_mut().zip(first).zip(second).zip(&self.options.trained);
        for (((w, first), second), _) in each.filter(|(_, trained)| **trained) {
            for to in [w, &mut first[..], &mut second[..]] {
                to.iter_mut().zip(values.by_ref()).for_each(|(to, value)| *to = value);
            }
        }
        Ok(())
    }
}
