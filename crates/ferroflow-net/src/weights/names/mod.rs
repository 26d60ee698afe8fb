//! Which network a checkpoint belongs to, and which parameter each of its tensors is.
//!
//! Found from names and shapes alone: a file fits a network when every parameter has its tensor, of the right shape in
//! the reference's element order, and none is left over. Wrappers that training frameworks put around a network's names are
//! taken off first; names of other implementations are translated.

mod sniklaus;
mod uflow;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::model::{Model, ModelError};
use crate::weights::import::{Format, Imported, Tensor};

/// Prefixes that frameworks and training scripts put before every name.
const WRAPPERS: [&str; 7] = ["module.", "model.", "network.", "net.", "_orig_mod.", "_backbone.", "fp32_vars/"];

/// Why a checkpoint is no network's.
#[derive(Debug, thiserror::Error)]
pub enum MatchError {
    /// Not of the network that was asked for.
    #[error("these are not the weights of `{name}`: {difference}")]
    NotThese {
        /// The network.
        name: String,
        /// What differs.
        difference: Difference,
    },
    /// Of no network at all.
    #[error("these are the weights of no network known here; closest is `{closest}`: {difference}")]
    Unknown {
        /// The network with most tensors in common.
        closest: String,
        /// What differs from it.
        difference: Difference,
    },
    /// There is no such network, or it lacks the option.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What keeps a checkpoint from fitting a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Parameters without a tensor.
    pub missing: Vec<String>,
    /// Tensors that are no parameter, by the file's names.
    pub extra: Vec<String>,
    /// Parameters whose tensor has another shape: name, shape in the file, shape wanted.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[String]) -> fmt::Result {
            const SHOWN: usize = 8;
            if items.is_empty() {
                return Ok(());
            }
            write!(f, "\n  {} {what}: {}", items.len(), items[..items.len().min(SHOWN)].join(", "))?;
            if items.len() > SHOWN { write!(f, " and {} more", items.len() - SHOWN) } else { Ok(()) }
        }
        list(f, "missing", &self.missing)?;
        list(f, "extra", &self.extra)?;
        let misshapen = self.misshapen.iter().map(|(name, has, wants)| format!("{name} {has:?} instead of {wants:?}"));
        list(f, "misshapen", &misshapen.collect::<Vec<_>>())
    }
}

/// The network a checkpoint belongs to, its options as the file's origin asks.
pub fn recognise(file: &Imported) -> Result<Model, MatchError> {
    if let Some(name) = file.contents.words.get(super::store::MODEL) {
        let options = file.contents.words.get(super::store::OPTIONS);
        let options = options.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        return Ok(Model::with_options(name, &options)?);
    }
    let origin = Origin::of(file);
    let tensors = by_parameter(file);
    // Networks as their references build them; then with one option changed, since some change the shapes.
    let mut candidates: Vec<(&str, BTreeMap<String, String>)> =
        Model::names().map(|name| (name, origin.options(name, file))).collect();
    for plain in 0..candidates.len() {
        let (name, options) = candidates[plain].clone();
        for option in Model::options_of(name)? {
            for value in option.values.iter().filter(|v| !v.contains("..=")) {
                let changed = (option.key.to_string(), value.clone());
                candidates.push((name, options.clone().into_iter().chain([changed]).collect()));
            }
        }
    }
    let mut closest: Option<(usize, Model)> = None;
    for (name, options) in candidates {
        let model = Model::with_options(name, &options)?;
        let differences = differences(&model, &tensors);
        if differences == 0 {
            return Ok(model);
        }
        if closest.as_ref().is_none_or(|(fewest, _)| differences < *fewest) {
            closest = Some((differences, model));
        }
    }
    let (closest, difference) =
        closest.map(|(_, model)| (model.name.to_string(), compare(&model, &tensors))).unwrap_or_default();
    Err(MatchError::Unknown { closest, difference })
}

/// The network of this name for a checkpoint; what `options` leaves open is taken from the file's origin.
pub fn network(file: &Imported, name: &str, options: &BTreeMap<String, String>) -> Result<Model, MatchError> {
    let mut all = Origin::of(file).options(Model::named(name)?.name, file);
    all.extend(options.clone());
    Ok(Model::with_options(name, &all)?)
}

/// A checkpoint's tensors as the parameters of `model`, by name, in PyTorch's element order.
pub fn assign(file: Imported, model: &Model) -> Result<Vec<(String, super::Tensor)>, MatchError> {
    let difference = compare(model, &by_parameter(&file));
    if !difference.is_empty() {
        return Err(MatchError::NotThese { name: model.name.to_string(), difference });
    }
    let shapes: HashMap<&str, &[usize]> =
        model.graph.params.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let names = parameter_names(&file);
    let tensors = names.into_iter().zip(file.contents.tensors).map(|(name, tensor)| {
        let shape = shapes.get(name.as_str()).map_or(tensor.shape, |s| s.to_vec());
        let data = model.layout.read_stored(&shape, tensor.data);
        (name, super::Tensor { shape, data })
    });
    Ok(tensors.collect())
}

/// Whose file it is, as far as that decides what the network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Sniklaus,
    Ptlflow,
    MindSpore,
    Other,
}

impl Origin {
    fn of(file: &Imported) -> Self {
        let contents = &file.contents;
        if contents.tensors.iter().any(|t| sniklaus::is_name(&t.name)) {
            return Self::Sniklaus;
        }
        // ptlflow saves through Lightning, which leaves its version and the hyper-parameters.
        let lightning = |key: &String| key == "pytorch-lightning_version" || key.starts_with("hyper_parameters.");
        if contents.words.keys().chain(contents.numbers.keys()).any(lightning) {
            return Self::Ptlflow;
        }
        if file.format == Format::Mindspore { Self::MindSpore } else { Self::Other }
    }

    /// The options that make `network` compute what this origin's code does.
    fn options(self, network: &str, file: &Imported) -> BTreeMap<String, String> {
        let variant = match self {
            Self::Sniklaus => "sniklaus",
            Self::Ptlflow => "ptlflow",
            Self::MindSpore => "mindspore",
            Self::Other => "",
        };
        let mut options = BTreeMap::new();
        for option in Model::options_of(network).unwrap_or_default() {
            if option.key == "variant" && option.values.iter().any(|v| v == variant) {
                options.insert(option.key.to_string(), variant.to_string());
            }
            // LightFlow keeps the unit of its flow beside its weights.
            if let ("div-flow", Some(value)) = (option.key, file.contents.numbers.get("div_flow")) {
                options.insert(option.key.to_string(), value.to_string());
            }
        }
        options
    }
}

/// The name of the parameter that each of the file's tensors would be, in the file's order.
fn parameter_names(file: &Imported) -> Vec<String> {
    let origin = Origin::of(file);
    let mut bare: Vec<&str> = file.contents.tensors.iter().map(|t| t.name.as_str()).collect();
    while let Some(wrapper) = WRAPPERS.iter().find(|w| !bare.is_empty() && bare.iter().all(|n| n.starts_with(**w))) {
        bare.iter_mut().for_each(|n| *n = &n[wrapper.len()..]);
    }
    let translate = |name: &str| match origin {
        Origin::Sniklaus => sniklaus::to_nvlabs(name),
        _ => uflow::canonical(name).or_else(|| batch_norm(name)),
    };
    bare.iter().map(|name| translate(name).unwrap_or_else(|| name.to_string())).collect()
}

fn by_parameter(file: &Imported) -> HashMap<String, &Tensor> {
    parameter_names(file).into_iter().zip(&file.contents.tensors).collect()
}

/// MindSpore's names of batch norm's parameters, as PyTorch's.
fn batch_norm(name: &str) -> Option<String> {
    let (layer, last) = name.rsplit_once('.')?;
    let last = match last {
        "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        _ => return None,
    };
    Some(format!("{layer}.{last}"))
}

/// How many names and shapes keep these tensors from being the model's: what [`compare`] lists, without listing a file's
/// names for every network there is.
fn differences(model: &Model, tensors: &HashMap<String, &Tensor>) -> usize {
    let (mut known, mut misshapen) = (0, 0);
    for param in &model.graph.params {
        if let Some(tensor) = tensors.get(&param.name) {
            known += 1;
            misshapen += usize::from(tensor.shape != model.layout.stored_shape(&param.shape));
        }
    }
    model.graph.params.len() - known + misshapen + tensors.len() - known
}

/// What keeps these tensors from being the model's.
fn compare(model: &Model, tensors: &HashMap<String, &Tensor>) -> Difference {
    let mut difference = Difference::default();
    let mut known = 0;
    for param in &model.graph.params {
        let Some(tensor) = tensors.get(&param.name) else {
            difference.missing.push(param.name.clone());
            continue;
        };
        known += 1;
        let wanted = model.layout.stored_shape(&param.shape);
        if tensor.shape != wanted {
            difference.misshapen.push((param.name.clone(), tensor.shape.clone(), wanted));
        }
    }
    if known < tensors.len() {
        let known: HashMap<&str, ()> = model.graph.params.iter().map(|p| (p.name.as_str(), ())).collect();
        let extra = tensors.iter().filter(|(name, _)| !known.contains_key(name.as_str())).map(|(_, t)| t.name.clone());
        difference.extra = extra.collect();
        difference.extra.sort();
    }
    difference
}

#[cfg(test)]
mod tests;
