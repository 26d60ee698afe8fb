//! What runs a network: the table of cases is the same for all.

use std::collections::HashMap;

use ferroflow_cpu::{Options, Pixels, Plan, reference};
use ferroflow_net::graph::{ByFrame, Size, Sizes};
use ferroflow_net::{Model, NodeId, Weights};

use super::shared::{Array, Input};

/// The values of one run, by node name; `None` where an executor does not keep a value.
pub type Values = Box<dyn Fn(&str) -> Option<Array>>;

/// Something that runs networks.
pub trait Executor: Sync {
    /// For messages.
    fn name(&self) -> &'static str;
    /// Whether it keeps every node's value.
    fn keeps_all(&self) -> bool;
    /// Runs a network on frames; must at least keep the node `flow`.
    fn run(&self, model: &Model, weights: &Weights, input: &Input) -> Values;
}

fn sizes(input: &Input) -> Sizes {
    Sizes {
        batch: input.batch,
        input: Size { height: input.height, width: input.width },
        output: Size { height: input.output.0, width: input.output.1 },
    }
}

/// The inference plan as users run it, one pair frame by frame, except that the flows of all levels are kept.
pub struct Planned {
    /// Without Winograd.
    pub exact: bool,
}

impl Executor for Planned {
    fn name(&self) -> &'static str {
        if self.exact { "exact plan" } else { "plan" }
    }

    fn keeps_all(&self) -> bool {
        false
    }

    fn run(&self, model: &Model, weights: &Weights, input: &Input) -> Values {
        let weights: Vec<&[f32]> = weights.iter().collect();
        let sizes = sizes(input);
        let by_frame = ByFrame::of(&model.graph);
        let (graph, twins) =
            if sizes.batch == 1 { (&by_frame.graph, by_frame.twins) } else { (&model.graph, Vec::new()) };
        let keep: Vec<NodeId> = graph.pyramid.iter().copied().chain(graph.find("flow2.pixels")).collect();
        let options = Options { keep: keep.clone(), exact: self.exact, twins, ..Options::default() };
        let mut plan = Plan::new(graph, &weights, sizes, &options).unwrap();
        let (height, width) = input.output;
        let mut flow = vec![f32::NAN; 2 * input.batch * height * width];
        let [first, second] = &input.frames;
        plan.run(Pixels::Planar(first), Pixels::Planar(second), &mut flow).unwrap();

        let shapes = graph.shapes(&sizes).unwrap();
        let mut values =
            HashMap::from([("flow".to_string(), Array { shape: vec![input.batch, 2, height, width], data: flow })]);
        for id in keep {
            if let Some(data) = plan.value(id) {
                let shape = shapes[id.0 as usize].to_vec();
                values.insert(graph.node(id).name.clone(), Array { shape, data });
            }
        }
        Box::new(move |name| values.get(name).cloned())
    }
}

/// The plain interpreter.
pub struct Reference<T>(pub std::marker::PhantomData<T>);

impl<T: reference::Real> Executor for Reference<T> {
    fn name(&self) -> &'static str {
        std::any::type_name::<T>()
    }

    fn keeps_all(&self) -> bool {
        true
    }

    fn run(&self, model: &Model, weights: &Weights, input: &Input) -> Values {
        let [first, second] = &input.frames;
        let values = reference::run::<T>(&model.graph, weights, [first, second], &sizes(input)).unwrap();
        let graph = model.graph.clone();
        Box::new(move |name| {
            let value = values.get(graph.find(name)?);
            Some(Array { shape: value.shape.to_vec(), data: value.data.iter().map(|v| v.f64() as f32).collect() })
        })
    }
}
