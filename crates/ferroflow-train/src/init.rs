//! Weights to start from.

use std::path::Path;

use ferroflow_net::{
    Model, Weights,
    graph::ParamId,
    weights::store::{self, StoreError},
};

use crate::Recipe;

/// Weights that do not fit the network to be trained.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The file cannot be read.
    #[error("init: {file}: {source}")]
    Store {
        /// The file.
        file: String,
        /// Why.
        source: StoreError,
    },
    /// It holds something that the network does not have.
    #[error(
        "init: {file} holds `{name}`, and {model} has no `{prefix}{name}` of that shape: give the prefix of the part it is for, as in init = {{ \"flownetc.\" = \"...\" }}"
    )]
    Stranger {
        /// The file.
        file: String,
        /// A parameter of it.
        name: String,
        /// Prefix it was to get.
        prefix: String,
        /// The network to be trained.
        model: &'static str,
    },
}

/// The first weights of a recipe, and how many parameters are random.
pub fn first_weights(recipe: &Recipe, model: &Model) -> Result<(Weights, usize), InitError> {
    let mut weights = Weights::random(&model.graph, recipe.seed);
    let mut random = vec![true; model.graph.params.len()];
    for (prefix, file) in &recipe.init {
        let stored = store::read(Path::new(file)).map_err(|source| InitError::Store { file: file.clone(), source })?;
        for (param, values) in stored.model.graph.params.iter().zip(stored.weights.iter()) {
            let name = format!("{prefix}{}", param.name);
            let place = model.graph.params.iter().position(|p| p.name == name && p.shape == param.shape);
            let Some(place) = place else {
                let (name, prefix) = (param.name.clone(), prefix.clone());
                return Err(InitError::Stranger { file: file.clone(), name, prefix, model: model.name });
            };
            weights.get_mut(ParamId(place as u32)).copy_from_slice(values);
            random[place] = false;
        }
    }
    Ok((weights, random.iter().filter(|r| **r).count()))
}

#[cfg(test)]
mod tests {
    use ferroflow_net::weights::{Provenance, store::Precision};

    use super::*;

    #[test]
    fn parts_are_taken_by_prefix_and_the_rest_is_random() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        let half = Model::named("lightflow-0.5").unwrap();
        let known = Weights::random(&half.graph, 99);
        store::write(&path, &half, &known, &Provenance::default(), Precision::F32).unwrap();
        let recipe = |changes: &[String]| {
            let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs'\nsteps = 4\nbatch = 2\ncrop = '64x64'\nlr = 1e-4\n\
                        loss = 'lightflow-l1'";
            Recipe::parse("test", text, changes).unwrap()
        };
        let file = path.display();
        assert_eq!(first_weights(&recipe(&[format!("init={file}")]), &half).unwrap(), (known, 0));
        let (_, random) = first_weights(&recipe(&[]), &half).unwrap();
        assert_eq!(random, half.graph.params.len());
        let other = Model::named("lightflow").unwrap();
        let error = first_weights(&recipe(&[format!("init={file}")]), &other).unwrap_err().to_string();
        assert!(error.contains("lightflow has no `conv1."), "{error}");
        let missing = first_weights(&recipe(&["init=nothing.safetensors".into()]), &half).unwrap_err().to_string();
        assert!(missing.contains("nothing.safetensors"));
    }
}
