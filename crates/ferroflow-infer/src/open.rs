//! Opens networks with their weights, from a file or from those that are part of the library.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ferroflow_net::{
    Model, ModelError,
    weights::{
        self, Opened, ReadError,
        store::{self, StoreError, Stored},
    },
};

use crate::{Estimator, NetworkOptions};

/// Why a network and its weights could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be read, or holds no weights of a network that is known here.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<ReadError>,
    },
    /// The built-in weights are damaged, which is a fault of this library.
    #[error("the built-in weights of {name}: {source}")]
    Builtin {
        /// Name of the network.
        name: &'static str,
        /// What is wrong.
        source: StoreError,
    },
    /// This build has no built-in weights.
    #[error("no weights come along in this build: open a weight file, or build with the feature `rill`")]
    NoneBuiltin,
    /// There is no such network or option.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file holds weights of another network.
    #[error("{} holds weights of {found}, not of {asked}", .path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// Name of the network that its weights are for.
        found: &'static str,
        /// Name of the network that was asked for.
        asked: String,
    },
    /// The options change the network's parameters.
    #[error("with {options} the network has other parameters than {holder} holds")]
    OtherParameters {
        /// The options that were given.
        options: String,
        /// What holds the weights.
        holder: String,
    },
}

impl Estimator {
    /// The network of a weight file, run as its reference does: a `.safetensors` file of this project, or another project's
    /// checkpoint. Which network it is for is found in the file.
    ///
    /// # Errors
    /// If there is no such file, or if it holds no weights of a network that is known here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let Stored { model, weights, .. } = from_file(path, None, &[""; 0])?.stored;
        let origin = format!("weights of {}", path.display());
        Ok(Self::network(model, weights, NetworkOptions::default()).with_origin(origin))
    }

    /// `rill` with its built-in weights.
    ///
    /// # Errors
    /// If this build has none, because the feature `rill` is off.
    pub fn builtin() -> Result<Self, OpenError> {
        let Stored { model, weights, .. } = builtin(None, &[""; 0])?.ok_or(OpenError::NoneBuiltin)?;
        Ok(Self::network(model, weights, NetworkOptions::default()).with_origin("built-in weights"))
    }
}

/// A network and its weights from a file of this project or from another project's checkpoint. `network`, if given, is the name
/// that the file's network must have. `options` of the form `key=value` change those that the file states, and must leave the
/// network's parameters as they are.
///
/// # Errors
/// See [`OpenError`].
pub fn from_file<S: AsRef<str>>(path: &Path, network: Option<&str>, options: &[S]) -> Result<Opened, OpenError> {
    let given = Model::options_from(options)?;
    let asked = network.map(Model::named).transpose()?;
    let mut opened = weights::open(path, asked.as_ref().map(|model| (model.name, &given)))
        .map_err(|source| OpenError::File { path: path.into(), source: source.into() })?;
    if let Some(asked) = asked
        && asked.name != opened.stored.model.name
    {
        let (found, asked) = (opened.stored.model.name, asked.name.into());
        return Err(OpenError::OtherNetwork { path: path.into(), found, asked });
    }
    opened.stored = with_options(opened.stored, given, &path.display().to_string())?;
    Ok(opened)
}

/// The built-in weights of a network, or `rill`'s if no network is named; `None` if there are none.
/// `options` as in [`from_file`].
///
/// # Errors
/// See [`OpenError`].
pub fn builtin<S: AsRef<str>>(network: Option<&str>, options: &[S]) -> Result<Option<Stored>, OpenError> {
    let found = match network {
        Some(name) => ferroflow_weights::builtin(Model::named(name)?.name),
        None => ferroflow_weights::BUILTIN.first(),
    };
    let Some(found) = found else { return Ok(None) };
    let stored = store::read_from(found.bytes).map_err(|source| OpenError::Builtin { name: found.name, source })?;
    with_options(stored, Model::options_from(options)?, "the program").map(Some)
}

/// Sets options of stored weights' network: those that leave its parameters as they are. `holder` is for messages.
fn with_options(stored: Stored, options: BTreeMap<String, String>, holder: &str) -> Result<Stored, OpenError> {
    let given: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut all = stored.model.options.clone();
    all.extend(options);
    let model = Model::with_options(stored.model.name, &all)?;
    if model.graph.params != stored.model.graph.params {
        return Err(OpenError::OtherParameters { options: given.join(" "), holder: holder.into() });
    }
    Ok(Stored { model, ..stored })
}

#[cfg(test)]
mod tests {
    use ferroflow_core::{Frame, Size};
    use ferroflow_net::{
        Weights,
        weights::{Provenance, store::Precision},
    };

    use super::*;

    #[cfg(feature = "rill")]
    #[test]
    fn what_comes_along_estimates() {
        let estimator = Estimator::builtin().unwrap();
        assert_eq!(estimator.name(), "rill");
        assert!(estimator.describe().contains("built-in weights"));
        let frame = Frame::from_fn(Size::new(64, 64), |x, y| [(3 * x) as u8, (2 * y) as u8, 0]);
        assert_eq!(estimator.estimate(&frame, &frame).unwrap().width(), 64);
        assert!(builtin(Some("pwcnet"), &[""; 0]).unwrap().is_none());
    }

    #[test]
    fn a_file_opens_as_its_network_and_as_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let model = Model::named("lightflow-0.5").unwrap();
        let weights = Weights::random(&model.graph, 1);
        store::write(&path, &model, &weights, &Provenance::default(), Precision::F32).unwrap();

        assert_eq!(Estimator::open(&path).unwrap().name(), "lightflow-0.5");
        assert_eq!(from_file(&path, Some("lightflow-0.5"), &[""; 0]).unwrap().stored.weights, weights);
        let other = from_file(&path, Some("pwcnet"), &[""; 0]).unwrap_err();
        assert!(matches!(other, OpenError::OtherNetwork { found: "lightflow-0.5", .. }), "{other}");
        let option = from_file(&path, None, &["width"]).unwrap_err();
        assert!(matches!(option, OpenError::Model(ModelError::NotAnOption { .. })), "{option}");
        let missing = Estimator::open(folder.path().join("x.safetensors")).err().unwrap();
        assert!(missing.to_string().contains("x.safetensors"), "{missing}");
    }
}
