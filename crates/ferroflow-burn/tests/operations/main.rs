//! The table of operations ([`table`]), every row through every executor. The plain interpreter in double precision
//! defines the values; its gradients are the slopes of differences; everything else is compared with it.

#[path = "../common/mod.rs"]
mod common;
mod coverage;
mod table;

use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor, TensorData};
use common::{DOUBLE, Outcome, difference, images, random, slopes, step, weights};
use ferroflow_burn::{Network, Training};
use ferroflow_cpu::training::{Settings, TrainingPlan};
use ferroflow_cpu::{Cpu, CpuOptions, Options, Pixels, Plan, reference};
use ferroflow_net::device::{Device as _, Frames};
use ferroflow_net::graph::{ParamRole, Sizes};
use ferroflow_net::onnx::{self, CorrelationForm, WarpForm};
use ferroflow_net::training::{Trainer, TrainingOptions};
use ferroflow_net::{NodeId, ParamId};

use crate::table::{Row, rows};

/// Single precision of a few operations, of a few hundred terms each.
const SINGLE: f64 = 2e-5;
/// Gradients are handed over in single precision, however they are computed.
const ROUNDED: f64 = 2e-6;
/// Double precision.
const EXACT: f64 = 1e-9;

/// Checks every row, and then says of all that fail how.
fn every_row(check: impl Fn(&Row) -> Result<(), String>) {
    let failed: Vec<String> =
        rows().iter().filter_map(|row| check(row).err().map(|how| format!("{}: {how}", row.name))).collect();
    assert!(failed.is_empty(), "{} rows:\n{}", failed.len(), failed.join("\n"));
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{what} has {} values, not {}", found.len(), expected.len()));
    }
    let d = difference(found, expected);
    if d < tolerance { Ok(()) } else { Err(format!("{what} is off by {d:.1e}")) }
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

impl Row {
    fn flow_id(&self) -> NodeId {
        self.graph.flow.unwrap()
    }

    /// What the interpreter makes of every node.
    fn expected(&self) -> reference::Values<f64> {
        let [first, second] = images(&self.sizes);
        reference::run(&self.graph, &weights(&self.graph), [&first, &second], &self.sizes).unwrap()
    }

    /// Whether a file of open size is for this one too: its factors are those of a size that every power of 2 divides.
    fn fits_open_sizes(&self) -> bool {
        let sizes = Sizes::new(1, 128, 192);
        let before = self.graph.node(self.flow_id()).inputs[0];
        let [_, _, h, w] = self.graph.shapes(&sizes).unwrap()[before.0 as usize];
        sizes.input.height.is_multiple_of(h) && sizes.input.width.is_multiple_of(w)
    }

    /// Everything trained, for a loss that reads the flow, and the operation's value before it if `kept`.
    fn training(&self, kept: bool) -> TrainingOptions {
        let value = self.graph.pyramid.iter().copied().filter(|_| kept);
        TrainingOptions::all(&self.graph, self.sizes, value.chain(self.graph.flow).collect())
    }

    fn step(&self, device: &mut dyn Trainer, options: &TrainingOptions) -> Outcome {
        step(device, &self.graph, options, &weights(&self.graph)).unwrap()
    }

    fn reference_step(&self, options: &TrainingOptions) -> Outcome {
        self.step(&mut reference::Training::<f64>::new(&self.graph, options.clone()).unwrap(), options)
    }

    /// Outputs, gradients and moved statistics of a step.
    fn same_step(&self, how: &str, found: &Outcome, expected: &Outcome, tolerance: f64) -> Result<(), String> {
        if found.outputs.len() != expected.outputs.len() {
            return Err(format!("{how}: {} outputs of {}", found.outputs.len(), expected.outputs.len()));
        }
        for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
            close(&format!("{how}: an output"), &double(&found.data), &double(&expected.data), tolerance)?;
        }
        let gradients = found.gradients.iter().zip(expected.gradients.iter());
        for (param, (found, expected)) in self.graph.params.iter().zip(gradients) {
            let what = format!("{how}: the gradient of {}", param.name);
            close(&what, &double(found), &double(expected), tolerance)?;
        }
        for (param, (found, expected)) in
            self.graph.params.iter().zip(found.weights.iter().zip(expected.weights.iter()))
        {
            close(&format!("{how}: {} afterwards", param.name), &double(found), &double(expected), tolerance)?;
        }
        Ok(())
    }
}

#[test]
fn every_variant_has_a_row() {
    let rows = rows();
    for operation in coverage::OPERATIONS {
        let is = |row: &&Row| {
            row.name.starts_with(operation)
                && row.graph.nodes.iter().any(|node| coverage::operation(&node.op) == *operation)
        };
        assert!(rows.iter().any(|row| is(&row)), "no row is about {operation}");
    }
    let nodes = rows.iter().flat_map(|row| &row.graph.nodes);
    let found: BTreeSet<&str> = nodes.flat_map(|node| coverage::settings(&node.op)).collect();
    assert_eq!(found, coverage::all_settings());
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows have one name");
    for row in &rows {
        let nodes: BTreeSet<&str> = row.graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(nodes.len(), row.graph.nodes.len(), "{}: two nodes have one name", row.name);
    }
}

#[test]
fn the_gradient_of_the_interpreter_is_the_slope() {
    every_row(|row| {
        if !row.smooth {
            return Ok(());
        }
        let options = row.training(true);
        let mut plain = reference::Training::<f64>::new(&row.graph, options.clone()).unwrap();
        let Outcome { outputs, gradients, .. } = row.step(&mut plain, &options);
        let (d, [first, second]) = (slopes(&outputs), images(&row.sizes));
        let mut weights = weights(&row.graph);
        for (i, param) in row.graph.params.iter().enumerate().filter(|(i, _)| options.trained[*i]) {
            let id = ParamId(i as u32);
            let mut found = Vec::new();
            let mut expected = Vec::new();
            for at in (0..param.len()).step_by(1 + param.len() / 6) {
                let value = weights.get(id)[at];
                // The step is what single precision makes of it.
                let ends = [-4e-6, 4e-6].map(|step| {
                    let moved = value + step;
                    weights.get_mut(id)[at] = moved;
                    plain.load(&weights).unwrap();
                    plain.forward([&first, &second]).unwrap();
                    let values = options.outputs.iter().flat_map(|id| &plain.value(*id).unwrap().data);
                    let slopes = d.iter().flat_map(|d| &d.data);
                    (f64::from(moved), values.zip(slopes).map(|(v, d)| v * f64::from(*d)).sum::<f64>())
                });
                weights.get_mut(id)[at] = value;
                found.push(f64::from(gradients.get(id)[at]));
                expected.push((ends[1].1 - ends[0].1) / (ends[1].0 - ends[0].0));
            }
            close(&format!("the gradient of {}", param.name), &found, &expected, ROUNDED)?;
            // A norm takes off again what a bias before it adds.
            if param.role != ParamRole::Bias && gradients.get(id).iter().all(|v| v.abs() < 1e-3) {
                return Err(format!("nothing reaches {}", param.name));
            }
        }
        Ok(())
    });
}

#[test]
fn the_inference_plan_gives_the_values_of_the_interpreter() {
    every_row(|row| {
        let (expected, weights, [first, second]) = (row.expected(), weights(&row.graph), images(&row.sizes));
        let flow = row.flow_id();
        for exact in [false, true] {
            let cpu = Cpu::new(CpuOptions { exact, ..CpuOptions::default() }).unwrap();
            let mut executor = cpu.executor(&row.graph, &weights, row.sizes).unwrap();
            let mut found = vec![f32::NAN; expected.get(flow).data.len()];
            executor.run(Frames::Planar(&first), Frames::Planar(&second), &mut found).unwrap();
            close(&format!("the flow, exact {exact},"), &double(&found), &expected.get(flow).data, SINGLE)?;
        }
        let keep: Vec<NodeId> = (0..flow.0).map(NodeId).collect();
        let options = Options { keep: keep.clone(), ..Options::default() };
        let parameters: Vec<&[f32]> = weights.iter().collect();
        let mut plan = Plan::new(&row.graph, &parameters, row.sizes, &options).unwrap();
        let mut found = vec![f32::NAN; expected.get(flow).data.len()];
        plan.run(Pixels::Planar(&first), Pixels::Planar(&second), &mut found).unwrap();
        close("the flow, node by node,", &double(&found), &expected.get(flow).data, SINGLE)?;
        for id in keep {
            let found = plan.value(id).ok_or_else(|| format!("{} is not kept", row.graph.node(id).name))?;
            close(&row.graph.node(id).name, &double(&found), &expected.get(id).data, SINGLE)?;
        }
        Ok(())
    });
}

#[test]
fn the_training_plan_gives_the_gradients_of_the_interpreter() {
    every_row(|row| {
        for (kept, exact) in [(true, true), (true, false), (false, false)] {
            let options = row.training(kept);
            let settings = Settings { exact, ..Settings::default() };
            let plan = TrainingPlan::new(&row.graph, options.clone(), settings);
            let mut plan = match (plan, row.refused) {
                (Ok(plan), None) => plan,
                (Err(error), Some(reason)) if error.to_string().contains(reason) => continue,
                (Err(error), _) => return Err(error.to_string()),
                (Ok(_), Some(reason)) => return Err(format!("is not refused: {reason}")),
            };
            let (found, expected) = (row.step(&mut plan, &options), row.reference_step(&options));
            let how = format!("exact {exact}, kept {kept}");
            row.same_step(&how, &found, &expected, SINGLE)?;
            // Again, on the same plan: nothing of the first step is left.
            if row.step(&mut plan, &options).gradients != found.gradients {
                return Err(format!("{how}: a second step differs"));
            }
        }
        Ok(())
    });
}

/// One parameter alone, and all others.
#[test]
fn the_training_plan_gives_them_where_parameters_are_frozen() {
    every_row(|row| {
        let all = row.training(false);
        for i in (0..all.trained.len()).filter(|&i| all.trained[i] && row.refused.is_none()) {
            for alone in [true, false] {
                let trained = all.trained.iter().enumerate().map(|(j, trained)| *trained && (i == j) == alone);
                let options = TrainingOptions { trained: trained.collect(), ..all.clone() };
                let mut plan = TrainingPlan::new(&row.graph, options.clone(), Settings::default())
                    .map_err(|error| error.to_string())?;
                let how = format!("{} {}", if alone { "only" } else { "all but" }, row.graph.params[i].name);
                row.same_step(&how, &row.step(&mut plan, &options), &row.reference_step(&options), SINGLE)?;
            }
        }
        Ok(())
    });
}

#[test]
fn burn_gives_the_values_and_the_gradients_of_the_interpreter() {
    every_row(|row| {
        let (expected, weights) = (row.expected(), weights(&row.graph));
        let device = DOUBLE.clone().autodiff();
        let network = Network::new(&row.graph, &weights, &device).unwrap();
        let Sizes { batch, input, output } = row.sizes;
        let upload = |values: &[f64]| -> Tensor<4> {
            Tensor::from_data(TensorData::new(values.to_vec(), [batch, 3, input.height, input.width]), &device)
        };
        let nodes: Vec<NodeId> = (0..row.graph.nodes.len()).map(|i| NodeId(i as u32)).collect();
        let frames = images(&row.sizes).map(|frame| double(&frame));
        let tracked = frames.each_ref().map(|frame| upload(frame).require_grad());
        let values = network.values(tracked.clone(), output, &nodes).unwrap();
        for (id, value) in nodes.iter().zip(&values) {
            assert_eq!(value.dtype(), DType::F64);
            let found: Vec<f64> = value.clone().try_into_vec_as().unwrap();
            close(&row.graph.node(*id).name, &found, &expected.get(*id).data, EXACT)?;
        }

        // The slope of the flow in one direction of both frames.
        let (flow, mut state) = (values[row.flow_id().0 as usize].clone(), 5);
        let mut noise = |len: usize| -> Vec<f64> { (0..len).map(|_| f64::from(random(&mut state))).collect() };
        let slopes = TensorData::new(noise(expected.get(row.flow_id()).data.len()), flow.dims());
        let along = frames.each_ref().map(|frame| noise(frame.len()));
        let loss = |flow: Tensor<4>| (flow * Tensor::from_data(slopes.clone(), &device)).sum();
        let gradients = loss(flow).backward();
        let mut found = 0.0;
        for (frame, along) in tracked.iter().zip(&along) {
            // `None` where the network does not read the frame.
            let gradient: Option<Vec<f64>> = frame.grad(&gradients).map(|g| g.try_into_vec_as().unwrap());
            found += gradient.iter().flatten().zip(along).map(|(g, a)| g * a).sum::<f64>();
        }
        let at = |step: f64| -> f64 {
            let moved = [0, 1].map(|i| {
                let frame: Vec<f64> = frames[i].iter().zip(&along[i]).map(|(v, a)| v + step * a).collect();
                upload(&frame)
            });
            loss(network.forward_to(moved, output).unwrap()).try_into_scalar().unwrap()
        };
        if row.smooth {
            let step = 1e-5;
            close("the slope along the frames", &[found], &[(at(step) - at(-step)) / (2.0 * step)], 1e-6)?;
        }

        let options = row.training(true);
        let mut training = Training::new(&row.graph, options.clone(), DOUBLE.clone()).unwrap();
        row.same_step("training", &row.step(&mut training, &options), &row.reference_step(&options), ROUNDED)
    });
}

/// The kernels of GPUs, in single precision.
#[cfg(feature = "cube")]
#[test]
fn gpus_give_the_values_and_the_gradients_of_the_interpreter() {
    for gpu in common::gpus() {
        every_row(|row| {
            let (expected, weights) = (row.expected(), weights(&row.graph));
            let network = Network::new(&row.graph, &weights, gpu.device()).unwrap();
            let Sizes { batch, input, output } = row.sizes;
            let upload = |values: &[f32]| common::upload(values, [batch, 3, input.height, input.width], gpu.device());
            let nodes: Vec<NodeId> = (0..row.graph.nodes.len()).map(|i| NodeId(i as u32)).collect();
            let values = network.values(images(&row.sizes).map(|frame| upload(&frame)), output, &nodes).unwrap();
            for (id, value) in nodes.iter().zip(values) {
                let found: Vec<f64> = value.try_into_vec_as().unwrap();
                close(&row.graph.node(*id).name, &found, &expected.get(*id).data, SINGLE)?;
            }
            let options = row.training(true);
            let mut training = gpu.trainer(&row.graph, options.clone()).unwrap();
            row.same_step("training", &row.step(&mut *training, &options), &row.reference_step(&options), SINGLE)
        });
    }
}

/// Runs an exported file in rten.
fn rten(file: Vec<u8>, frames: &[Vec<f32>; 2], shape: [usize; 4]) -> Result<Vec<f32>, rten::RunError> {
    let model = rten::Model::load(file).unwrap();
    let input = |i: usize| {
        let id = model.node_id(["frame1", "frame2"][i]).unwrap();
        (id, rten::ValueView::from_shape(shape, &frames[i]).unwrap().into())
    };
    let inputs = vec![input(0), input(1)];
    let [flow] = model.run_n(inputs, [model.node_id("flow").unwrap()], None)?;
    Ok(flow.into_shape_vec::<f32, 4>().unwrap().1)
}

#[test]
fn the_exported_file_gives_the_flow_of_the_interpreter() {
    every_row(|row| {
        if !row.exported {
            return Ok(());
        }
        let (expected, weights, frames) = (row.expected(), weights(&row.graph), images(&row.sizes));
        let Sizes { batch, input, .. } = row.sizes;
        let old = onnx::Options {
            size: Some((input.height, input.width)),
            batch: Some(batch),
            opset: 11,
            warp: Some(WarpForm::Gather),
            correlation: CorrelationForm::Slices,
            ..onnx::Options::default()
        };
        let open =
            onnx::Options { size: None, batch: None, opset: 16, correlation: CorrelationForm::MatMul, ..old.clone() };
        let fixed = onnx::Options { size: old.size, batch: old.batch, opset: 20, ..open.clone() };
        for (how, options) in [("of operator set 11", old), ("of open size", open), ("of fixed size", fixed)] {
            // An open size is a multiple of every stride.
            if options.size.is_none() && !row.fits_open_sizes() {
                continue;
            }
            let mut file = Vec::new();
            onnx::export(&row.graph, &weights, &options, &mut file).map_err(|error| format!("{how}: {error}"))?;
            let flow = rten(file, &frames, [batch, 3, input.height, input.width]);
            let flow = flow.map_err(|error| format!("{how}: {error}"))?;
            close(&format!("the flow {how}"), &double(&flow), &expected.get(row.flow_id()).data, SINGLE)?;
        }
        Ok(())
    });
}
