//! Converts a foreign checkpoint to the weights of a network, with their provenance.

use std::collections::BTreeMap;

use super::import::{ImportError, Imported};
use super::known;
use super::names::{self, Extra, MatchError};
use super::store::Stored;
use super::{Provenance, Weights, WeightsError};
use crate::model::Model;

/// Why a checkpoint gives no weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// It cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Its tensors are not the network's.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// Its values cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Weights made from a checkpoint, and what the file left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The weights with their network.
    pub stored: Stored,
    /// Options that the file states, by how it was saved or by values beside its weights.
    pub stated: BTreeMap<String, String>,
    /// Implementations (values of the option `variant`) whose weights look exactly like these; the first is the one taken. Empty
    /// if the file or the caller says which it is.
    pub undecided: Vec<String>,
    /// Number of tensors of the file that are not parameters and were left out.
    pub ignored: usize,
    /// Whether the file's SHA-256 begins as its name says (`NAME-ff5fadd5.pth`, PyTorch's hub); `None` if the name says nothing.
    pub as_named: Option<bool>,
}

/// Gives a checkpoint's tensors, which [`super::import::import`] reads, to the named network, or without a name to the network
/// whose parameters they are.
///
/// Options of a named network that are not given are taken from the checkpoint, because MindSpore's and ptlflow's networks
/// compute something else than NVIDIA's with the same parameters. [`super::store::write`] stores the result.
pub fn convert(
    file: Imported,
    network: Option<(&str, &BTreeMap<String, String>)>,
    extra: Extra,
) -> Result<Converted, ConvertError> {
    if file.contents.tensors.is_empty() {
        return Err(ImportError::Empty { format: file.format }.into());
    }
    let model: Model = match network {
        Some((name, options)) => names::network(&file, name, options)?,
        None => names::recognise(&file, extra)?,
    };
    let (provenance, stated) = (provenance(&file), names::stated(&file, model.name));
    let undecided = names::undecided(&file, &model, network.map(|(_, options)| options));
    let as_named = known::named_hash(&file.source).map(|hash| file.sha256.starts_with(hash));
    let ignored = file.contents.tensors.len().saturating_sub(model.graph.params.len());
    let weights = Weights::new(&model.graph, names::assign(file, &model, extra)?)?;
    Ok(Converted { stored: Stored { model, weights, provenance }, stated, undecided, ignored, as_named })
}

/// What the file says about itself.
fn provenance(file: &Imported) -> Provenance {
    let mut notes = BTreeMap::from([("format".to_string(), file.format.to_string())]);
    let counters = [("epoch", file.epoch()), ("step", file.step())];
    notes.extend(counters.into_iter().filter_map(|(name, count)| Some((name.to_string(), count?.to_string()))));
    if let Some(entry) = &file.contents.entry {
        notes.insert("entry".to_string(), entry.clone());
    }
    if let Some(arch) = file.contents.words.get("arch") {
        notes.insert("arch".to_string(), arch.clone());
    }
    let known = known::file(&file.sha256);
    Provenance {
        source: Some(file.source.clone()),
        source_sha256: Some(file.sha256.clone()),
        license: file.contents.words.get("license").cloned().or(known.map(|known| known.licence.to_string())),
        training_data: known.map(|known| known.training_data.to_string()),
        metrics: file.metrics(),
        notes,
        ..Provenance::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::import::import;
    use crate::weights::import::tests::shared;

    #[test]
    fn a_golden_file_becomes_weights_with_provenance() {
        let Some(path) = shared("golden/checkpoints/lightflow.legacy.pth.tar") else { return };
        let stored = convert(import(&path).unwrap(), None, Extra::Refuse).unwrap().stored;
        assert_eq!((stored.model.name, stored.model.options["div-flow"].as_str()), ("lightflow", "20"));
        assert_eq!(stored.weights, Weights::formula(&Model::named("lightflow").unwrap(), "ferroflow-golden"));
        let p = stored.provenance;
        assert_eq!(p.source.as_deref(), Some("lightflow.legacy.pth.tar"));
        assert_eq!(p.source_sha256.map(|h| h.len()), Some(64));
        assert_eq!(
            (p.notes["epoch"].as_str(), p.notes["arch"].as_str(), p.metrics["best_EPE"]),
            ("7", "flownetl", 3.25)
        );
    }

    #[test]
    fn part_of_a_network_is_refused_with_a_list() {
        let Some(path) = shared("golden/checkpoints/uflow_mindspore_part.ckpt") else { return };
        let error = convert(import(&path).unwrap(), None, Extra::Refuse).unwrap_err().to_string();
        assert!(error.contains("uflow-mindspore") && error.contains("70 missing"), "{error}");
    }
}
