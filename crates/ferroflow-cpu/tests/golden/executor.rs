//! What runs a network: the table of cases is the same for all.

use ferroflow_cpu::reference;
use ferroflow_net::graph::{Extent, Sizes};
use ferroflow_net::{Model, Weights};

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
        let extent = |height, width| Extent { height, width };
        let sizes = Sizes {
            batch: input.batch,
            input: extent(input.height, input.width),
            output: extent(input.output.0, input.output.1),
        };
        let [first, second] = &input.frames;
        let values = reference::run::<T>(&model.graph, weights, [first, second], &sizes).unwrap();
        let graph = model.graph.clone();
        Box::new(move |name| {
            let value = values.get(graph.find(name)?);
            Some(Array { shape: value.shape.to_vec(), data: value.data.iter().map(|v| v.f64() as f32).collect() })
        })
    }
}
