//! Weights to start from.

use std::{collections::BTreeSet, path::Path};

use ferroflow_net::{
    Model, Weights,
    graph::ParamId,
    weights::{
        Provenance,
        store::{self, StoreError},
    },
};
use serde::{Deserialize, Serialize};

use crate::Recipe;

/// Weights that do not fit the network to be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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

/// What a file of first weights said of itself: weights trained from it say so too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file, as the recipe names it.
    pub file: String,
    /// Which part of the network it was for; empty for all of it.
    pub prefix: String,
    /// What it was made from.
    pub source: Option<String>,
    /// SHA-256 of that.
    pub source_sha256: Option<String>,
    /// Under which licence it may be used.
    pub license: Option<String>,
    /// On which data it was trained.
    pub training_data: Option<String>,
    /// The options of its network, `key=value`.
    pub options: Vec<String>,
}

impl Origin {
    /// Into the story of weights that come from these: their source and licence, the rest as notes.
    pub fn tell(origins: &[Self], provenance: &mut Provenance) {
        if origins.is_empty() {
            return;
        }
        let from = origins.iter().map(|origin| match &origin.source {
            Some(source) => format!("{} ({source})", origin.file),
            None => origin.file.clone(),
        });
        provenance.source = Some(format!("trained from {}", from.collect::<Vec<_>>().join(" and ")));
        // A licence that was given stays; where parts have several, all of them hold.
        let licences: BTreeSet<&str> = origins.iter().filter_map(|origin| origin.license.as_deref()).collect();
        let licences: Vec<&str> = licences.into_iter().collect();
        provenance.license = (!licences.is_empty()).then(|| licences.join("; "));
        for origin in origins {
            let part = if origin.prefix.is_empty() { "init".into() } else { format!("init {}", origin.prefix) };
            let options = (!origin.options.is_empty()).then(|| origin.options.join(" "));
            for (what, value) in [
                ("", Some(&origin.file)),
                (" source", origin.source.as_ref()),
                (" sha-256", origin.source_sha256.as_ref()),
                (" licence", origin.license.as_ref()),
                (" trained on", origin.training_data.as_ref()),
                (" options", options.as_ref()),
            ] {
                provenance.notes.extend(value.map(|value| (format!("{part}{what}"), value.clone())));
            }
        }
    }
}

/// The first weights of a recipe, how many parameters are random, and where the others come from.
pub fn first_weights(recipe: &Recipe, model: &Model) -> Result<(Weights, usize, Vec<Origin>), InitError> {
    let mut origins = Vec::with_capacity(recipe.init.len());
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
        let Provenance { source, source_sha256, license, training_data, .. } = stored.provenance;
        let options = stored.model.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (file, prefix) = (file.clone(), prefix.clone());
        origins.push(Origin { file, prefix, source, source_sha256, license, training_data, options });
    }
    Ok((weights, random.iter().filter(|r| **r).count(), origins))
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
        let (first, random, origins) = first_weights(&recipe(&[format!("init={file}")]), &half).unwrap();
        assert_eq!((first, random, origins[0].file.as_str()), (known, 0, path.to_str().unwrap()));
        let (_, random, _) = first_weights(&recipe(&[]), &half).unwrap();
        assert_eq!(random, half.graph.params.len());
        let other = Model::named("lightflow").unwrap();
        let error = first_weights(&recipe(&[format!("init={file}")]), &other).unwrap_err().to_string();
        assert!(error.contains("lightflow has no `conv1."), "{error}");
        let missing = first_weights(&recipe(&["init=nothing.safetensors".into()]), &half).unwrap_err().to_string();
        assert!(missing.contains("nothing.safetensors"));
    }
    #[test]
    fn weights_say_what_they_come_from() {
        let origin = |prefix: &str, license: Option<&str>| Origin {
            file: format!("{prefix}w.safetensors"),
            prefix: prefix.into(),
            source: Some("net.pth".into()),
            license: license.map(Into::into),
            ..Origin::default()
        };
        let mut told = Provenance::default();
        Origin::tell(
            &[origin("c.", Some("research only")), origin("s.", None), origin("d.", Some("CC0-1.0"))],
            &mut told,
        );
        assert_eq!(told.license.as_deref(), Some("CC0-1.0; research only"));
        let source =
            "trained from c.w.safetensors (net.pth) and s.w.safetensors (net.pth) and d.w.safetensors (net.pth)";
        assert_eq!(told.source.as_deref(), Some(source));
        assert_eq!(
            (told.notes["init s."].as_str(), told.notes["init c. source"].as_str()),
            ("s.w.safetensors", "net.pth")
        );
        let mut random = Provenance::default();
        Origin::tell(&[], &mut random);
        assert_eq!(random, Provenance::default());
    }
}
