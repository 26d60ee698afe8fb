//! Opens weights, from a file of this program or from another project's checkpoint, which is converted.

use std::{collections::BTreeMap, path::Path};

use super::{
    ConvertError, Extra, convert,
    import::{self, Format},
    names::MatchError,
    store::{self, StoreError, Stored},
};

/// Why a file gives no weights.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The weight file of this program cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

/// Weights, and what their file says about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The weights with their network.
    pub stored: Stored,
    /// The container of another project's checkpoint; `None` for a file of this program.
    pub foreign: Option<Format>,
    /// Options that the file states. A file of this program states all of them: those that it leaves out have their defaults.
    pub stated: BTreeMap<String, String>,
    /// As [`Converted::undecided`](super::Converted::undecided).
    pub undecided: Vec<String>,
}

impl Opened {
    /// A sentence for the user if nothing in the file says which implementation its weights are for.
    pub fn doubt(&self) -> Option<String> {
        let (taken, others) = self.undecided.split_first()?;
        Some(format!(
            "nothing in the file says whose implementation of {} its weights are of: taken as {taken}; those of {} look the \
             same and compute something else (option variant={})",
            self.stored.model.name,
            others.join(" and "),
            others.first()?
        ))
    }
}

/// Reads a weight file of this program, or a checkpoint that [`import`](import::import) reads.
///
/// `network`, a name and options, says which network a checkpoint is for, as in [`convert`]. Without it, or if the tensors are
/// those of another network, the network is recognised. A file of this program names its network itself, and `network` is
/// ignored.
pub fn open(path: &Path, network: Option<(&str, &BTreeMap<String, String>)>) -> Result<Opened, ReadError> {
    let named = path.extension().is_some_and(|extension| extension == "safetensors");
    if named || matches!(import::detect(path), Ok(Format::Safetensors)) {
        match store::read(path) {
            Err(StoreError::NoModel) => {}
            own => {
                let stored = own?;
                let stated = stored.model.options.clone();
                return Ok(Opened { stored, foreign: None, stated, undecided: Vec::new() });
            }
        }
    }
    let file = import::import(path).map_err(ConvertError::from)?;
    let format = file.format;
    let converted = match network {
        None => convert(file, None, Extra::Refuse)?,
        Some(_) => match convert(file.clone(), network, Extra::Refuse) {
            // What differs from the network that was named says more than what it differs from all others in.
            Err(error @ ConvertError::Match(MatchError::NotThese { .. })) => {
                convert(file, None, Extra::Refuse).map_err(|_| error)?
            }
            converted => converted?,
        },
    };
    let (stored, stated, undecided) = (converted.stored, converted.stated, converted.undecided);
    Ok(Opened { stored, foreign: Some(format), stated, undecided })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Model, Weights,
        weights::{Provenance, import::tests::shared, store::Precision},
    };

    #[test]
    fn a_file_of_this_program_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::parse("lightflow-0.5", ["div-flow=1"]).unwrap();
        let weights = Weights::random(&model.graph, 7);
        // Whatever it is called.
        for name in ["w.safetensors", "w.bin"] {
            let path = folder.path().join(name);
            store::write(&path, &model, &weights, &Provenance::default(), Precision::F32).unwrap();
            let opened = open(&path, Some(("pwcnet", &BTreeMap::new()))).unwrap();
            assert_eq!((&opened.stored.model, &opened.stored.weights, opened.foreign), (&model, &weights, None));
            assert_eq!((opened.stated["div-flow"].as_str(), opened.doubt()), ("1", None));
        }
        let damaged = folder.path().join("d.safetensors");
        std::fs::write(&damaged, b"\x05\0\0\0\0\0\0\0{").unwrap();
        assert!(matches!(open(&damaged, None), Err(ReadError::Store(StoreError::Format { .. }))));
    }

    #[test]
    fn a_checkpoint_is_converted_and_says_what_it_states() {
        let Some(path) = shared("golden/checkpoints/lightflow.legacy.pth.tar") else { return };
        let formula = Weights::formula(&Model::named("lightflow").unwrap(), "ferroflow-golden");
        let given = BTreeMap::from([("div-flow".to_string(), "1".to_string())]);
        for network in [None, Some(("lightflow", &given)), Some(("pwcnet", &BTreeMap::new()))] {
            let opened = open(&path, network).unwrap();
            assert_eq!((opened.stored.model.name, &opened.stored.weights), ("lightflow", &formula));
            assert_eq!((opened.stated["div-flow"].as_str(), opened.foreign), ("20", Some(Format::PytorchLegacy)));
        }
    }
}
