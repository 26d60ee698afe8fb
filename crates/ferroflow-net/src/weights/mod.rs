//! The values of a network's parameters, which are checked against its table and stored with their provenance.

mod convert;
pub mod export;
pub mod formula;
pub mod import;
mod initial;
mod known;
mod layout;
pub mod names;
mod open;
mod provenance;
pub mod store;

pub use convert::{ConvertError, Converted, convert};
pub use names::Extra;
pub use open::{Opened, ReadError, open};
pub use provenance::Provenance;

use crate::graph::{BatchNorm, Graph, Param, ParamId};

/// A named array of a checkpoint, row-major, in PyTorch's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values, row-major over `shape`.
    pub data: Vec<f32>,
}

/// One array per parameter of a graph, in the order of [`Graph::params`].
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    values: Vec<Vec<f32>>,
}

/// Why arrays cannot be the weights of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Names or shapes differ.
    #[error("these are not the weights of this network: {}", .differences.join("; "))]
    Mismatch {
        /// All differences, one line each.
        differences: Vec<String>,
    },
    /// A value is infinite or not a number.
    #[error("parameter `{name}` holds a value that is not finite; the file is damaged or training diverged")]
    NotFinite {
        /// Name of the first such parameter.
        name: String,
    },
}

impl Weights {
    /// Weights from the arrays of a graph's parameters, in any order.
    ///
    /// # Errors
    /// If their names and shapes are not exactly those of the graph's table, or a value is not finite.
    pub fn new(graph: &Graph, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, WeightsError> {
        let mut found: std::collections::BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let shapes = found.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()));
        check(graph, shapes)?;
        let mut values = Vec::with_capacity(graph.params.len());
        for param in &graph.params {
            let data = found.remove(&param.name).map(|t| t.data).unwrap_or_default();
            if data.len() != param.len() {
                let held = format!("`{}` holds {} values, not {}", param.name, data.len(), param.len());
                return Err(WeightsError::Mismatch { differences: vec![held] });
            }
            if data.iter().any(|v| !v.is_finite()) {
                return Err(WeightsError::NotFinite { name: param.name.clone() });
            }
            values.push(data);
        }
        Ok(Self { values })
    }

    /// Checks that the graph has as many parameters, each of the same length.
    pub fn check(&self, graph: &Graph) -> Result<(), WeightsError> {
        let lengths = self.values.iter().map(Vec::len);
        if lengths.eq(graph.params.iter().map(Param::len)) {
            return Ok(());
        }
        let differences = vec!["they were made for another network or other options".into()];
        Err(WeightsError::Mismatch { differences })
    }

    /// The values of a parameter, row-major.
    pub fn get(&self, id: ParamId) -> &[f32] {
        &self.values[id.0 as usize]
    }

    /// The values of a parameter, to change them.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.values[id.0 as usize]
    }

    /// Moves the running statistics of a batch norm towards those of a batch, mean and unbiased variance:
    /// `(1 - momentum) * running + momentum * batch`, as in PyTorch.
    pub fn move_statistics(&mut self, norm: &BatchNorm, [mean, variance]: [&[f32]; 2], momentum: f32) {
        for (id, batch) in [(norm.mean, mean), (norm.variance, variance)] {
            for (running, batch) in self.get_mut(id).iter_mut().zip(batch) {
                *running = (1.0 - momentum) * *running + momentum * batch;
            }
        }
    }

    /// All parameters, in the order of the graph's table.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.iter().map(Vec::as_slice)
    }

    /// All parameters, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.iter_mut().map(Vec::as_mut_slice)
    }
}

/// Compares the names and shapes of arrays with a graph's table; the error lists every difference.
pub fn check<'a>(graph: &Graph, found: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Result<(), WeightsError> {
    let mut found: std::collections::BTreeMap<&str, &[usize]> = found.into_iter().collect();
    let mut differences = Vec::new();
    for param in &graph.params {
        match found.remove(param.name.as_str()) {
            None => differences.push(format!("`{}` is missing", param.name)),
            Some(shape) if shape != param.shape => {
                differences.push(format!("`{}` is {shape:?}, not {:?}", param.name, param.shape));
            }
            Some(_) => {}
        }
    }
    differences.extend(found.keys().map(|name| format!("`{name}` is not a parameter of it")));
    if differences.is_empty() { Ok(()) } else { Err(WeightsError::Mismatch { differences }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn one_error_lists_every_difference() {
        let graph = Model::named("lightflow-0.5").unwrap().graph;
        let mut tensors: Vec<(String, Tensor)> = graph
            .params
            .iter()
            .map(|p| (p.name.clone(), Tensor { shape: p.shape.clone(), data: vec![0.5; p.len()] }))
            .collect();
        assert!(Weights::new(&graph, tensors.clone()).is_ok());
        tensors[0].0 = "conv0.0.weight".into();
        tensors[1].1.shape = vec![7];
        let message = Weights::new(&graph, tensors.clone()).unwrap_err().to_string();
        for part in ["`conv1.0.weight` is missing", "`conv1.1.weight` is [7], not [6]", "`conv0.0.weight` is not a"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        let graph = Model::named("lightflow-0.5").unwrap().graph;
        let tensors = graph.params.iter().map(|p| {
            let value = if p.name == "conv3.4.bias" { f32::NAN } else { 0.0 };
            (p.name.clone(), Tensor { shape: p.shape.clone(), data: vec![value; p.len()] })
        });
        let error = Weights::new(&graph, tensors).unwrap_err();
        assert_eq!(error, WeightsError::NotFinite { name: "conv3.4.bias".into() });
    }

    #[test]
    fn random_weights_depend_on_the_seed_alone() {
        let graph = Model::named("lightflow-0.5").unwrap().graph;
        assert_eq!(Weights::random(&graph, 1), Weights::random(&graph, 1));
        assert_ne!(Weights::random(&graph, 1), Weights::random(&graph, 2));
    }
}
