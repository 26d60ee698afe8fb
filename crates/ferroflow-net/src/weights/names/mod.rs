//! Which network a checkpoint belongs to, and which parameter each of its tensors is.
//!
//! Both are found from names and shapes alone: a file fits a network if every parameter has its tensor, of the right shape in the
//! reference's element order, and no tensor is left over. Prefixes that training frameworks put before a network's names are
//! removed first; names of other implementations are translated.

mod raft;
mod sniklaus;
mod uflow;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::graph::Param;
use crate::model::{Model, ModelError};
use crate::weights::import::{Format, Imported, Tensor};

/// Prefixes that frameworks and training scripts put before every name of a network.
const WRAPPERS: [&str; 5] = ["model.", "network.", "net.", "_backbone.", "fp32_vars/"];

/// Parts of a name that stand for a wrapper wherever it was put: of `torch.compile`, of parallel training.
const WRAPPER_PARTS: [&str; 2] = ["_orig_mod", "module"];

/// Why a checkpoint fits no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// The tensors are not those of the network that was asked for.
    #[error("these are not the weights of `{name}`: {difference}")]
    NotThese {
        /// The network.
        name: String,
        /// What differs.
        difference: Difference,
    },
    /// Not one tensor is a parameter of any network.
    #[error(
        "none of these {count} tensors, `{first}` the first, is a parameter of a network known here (`ferroflow models` lists them)"
    )]
    Nothing {
        /// Number of tensors in the file.
        count: usize,
        /// Name of the first.
        first: String,
    },
    /// The tensors are those of no network as a whole.
    #[error("these are the weights of no network known here; closest is `{closest}`: {difference}")]
    Unknown {
        /// The network with the most tensors in common.
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
    /// Tensors that are not parameters, by the file's names.
    pub extra: Vec<String>,
    /// Parameters whose tensor has another shape: name, shape in the file, shape wanted.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Difference {
    /// Whether the only difference is that the file has more tensors.
    pub fn is_only_extra(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty() && !self.extra.is_empty()
    }

    /// Whether there is no difference.
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
        list(f, "misshapen", &misshapen.collect::<Vec<_>>())?;
        if self.is_only_extra() {
            write!(f, "\n  the others are the whole network: --ignore-extra leaves these out")?;
        }
        Ok(())
    }
}

/// What to do with tensors that are not parameters of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// Refuse the file.
    #[default]
    Refuse,
    /// Leave them out.
    Ignore,
}

/// The network that a checkpoint belongs to, with the options that fit the file's origin. If several fit with
/// [`Extra::Ignore`], it is the one with the most parameters.
pub fn recognise(file: &Imported, extra: Extra) -> Result<Model, MatchError> {
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
    // Most in common, then fewest differences.
    let mut closest: Option<(usize, usize, Model)> = None;
    let mut largest: Option<Model> = None;
    for (name, options) in candidates {
        let model = Model::with_options(name, &options)?;
        let common = common(&model, &tensors);
        let parameters = model.graph.params.len();
        if common == parameters && tensors.len() == parameters {
            return Ok(model);
        }
        if common == parameters && largest.as_ref().is_none_or(|l| l.graph.params.len() < parameters) {
            largest = Some(model.clone());
        }
        let different = parameters + tensors.len() - 2 * common;
        if closest.as_ref().is_none_or(|&(most, fewest, _)| (common, fewest) > (most, different)) {
            closest = Some((common, different, model));
        }
    }
    if let (Extra::Ignore, Some(model)) = (extra, largest) {
        return Ok(model);
    }
    match closest {
        Some((1.., _, model)) => {
            Err(MatchError::Unknown { closest: model.name.to_string(), difference: compare(&model, &tensors) })
        }
        _ => {
            let first = file.contents.tensors.first().map(|t| t.name.clone()).unwrap_or_default();
            Err(MatchError::Nothing { count: file.contents.tensors.len(), first })
        }
    }
}

/// The implementations whose weights look exactly like these, as values of the option `variant`, with the model's own first.
/// Only the user can say which one they are for. The list is empty if the user has said it (`given`), the file says it, or only
/// one fits.
pub fn undecided(file: &Imported, model: &Model, given: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let stated = given.is_some_and(|options| options.contains_key("variant"));
    if stated || file.contents.words.contains_key(super::store::MODEL) || Origin::of(file) != Origin::Other {
        return Vec::new();
    }
    let options = Model::options_of(model.name).unwrap_or_default();
    let variants: Vec<String> =
        options.into_iter().filter(|option| option.key == "variant").flat_map(|option| option.values).collect();
    // A network is its reference's, the first, unless its options say otherwise.
    let Some(own) = model.options.get("variant").or(variants.first()).cloned() else { return Vec::new() };
    let tensors = by_parameter(file);
    let alike = |value: &String| {
        let changed = [("variant".to_string(), value.clone())];
        let other = Model::with_options(model.name, &model.options.clone().into_iter().chain(changed).collect());
        // Not the tables themselves: implementations name the same parameters in other orders.
        other.is_ok_and(|other| {
            let parameters = other.graph.params.len();
            parameters == model.graph.params.len() && common(&other, &tensors) == parameters
        })
    };
    let others: Vec<String> = variants.into_iter().filter(|value| *value != own && alike(value)).collect();
    if others.is_empty() { Vec::new() } else { [own].into_iter().chain(others).collect() }
}

/// The network of this name for a checkpoint; options that are not given are taken from the file's origin.
pub fn network(file: &Imported, name: &str, options: &BTreeMap<String, String>) -> Result<Model, MatchError> {
    let mut all = stated(file, Model::named(name)?.name);
    all.extend(options.clone());
    Ok(Model::with_options(name, &all)?)
}

/// The options of that network that the file states.
pub fn stated(file: &Imported, network: &str) -> BTreeMap<String, String> {
    Origin::of(file).options(network, file)
}

/// A checkpoint's tensors as the parameters of `model`, by name, in PyTorch's element order.
pub fn assign(file: Imported, model: &Model, extra: Extra) -> Result<Vec<(String, super::Tensor)>, MatchError> {
    let difference = compare(model, &by_parameter(&file));
    let ignored = extra == Extra::Ignore && difference.is_only_extra();
    if !difference.is_empty() && !ignored {
        return Err(MatchError::NotThese { name: model.name.to_string(), difference });
    }
    let shapes: HashMap<&str, &[usize]> =
        model.graph.params.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let names = parameter_names(&file);
    // Of a layer that the file names twice, one is enough.
    let mut taken: HashSet<String> = HashSet::new();
    let parameters = names
        .into_iter()
        .zip(file.contents.tensors)
        .filter(|(name, _)| shapes.contains_key(name.as_str()) && taken.insert(name.clone()));
    let tensors = parameters.map(|(name, tensor)| {
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

/// The names without wrappers, in the file's order. What a framework puts before every name of the network it does not put
/// before a metric or a loss beside it: a prefix of most names is taken off those that have it.
fn bare_names(file: &Imported) -> Vec<String> {
    let whole = || file.contents.tensors.iter().map(|t| t.name.as_str());
    let parts = |name: &str| name.split('.').filter(|p| !WRAPPER_PARTS.contains(p)).collect::<Vec<_>>().join(".");
    let mut bare: Vec<String> = whole().map(parts).collect();
    let wraps =
        |names: &[String], wrapper: &str| 2 * names.iter().filter(|n| n.starts_with(wrapper)).count() > names.len();
    while let Some(wrapper) = WRAPPERS.iter().find(|w| wraps(&bare, w)) {
        for name in &mut bare {
            if let Some(rest) = name.strip_prefix(wrapper) {
                *name = rest.to_string();
            }
        }
    }
    // Two tensors of one name would hide each other.
    let distinct: HashSet<&String> = bare.iter().collect();
    if distinct.len() == bare.len() { bare } else { whole().map(Into::into).collect() }
}

/// The name of the parameter that each of the file's tensors would be, in the file's order.
fn parameter_names(file: &Imported) -> Vec<String> {
    let origin = Origin::of(file);
    let bare = bare_names(file);
    let torchvision = bare.iter().any(|name| raft::is_torchvision(name));
    // A layer scale is called `gamma` too, by PyTorch's networks.
    let mindspore = bare.iter().any(|name| name.ends_with(".moving_mean"));
    let separable = bare.iter().any(|name| name.contains(".convgru2."));
    let translate = |name: &str| match origin {
        Origin::Sniklaus => sniklaus::to_nvlabs(name),
        _ if torchvision => raft::to_princeton(name, separable),
        _ => {
            uflow::canonical(name).or_else(|| batch_norm(name).filter(|_| mindspore)).or_else(|| raft::first_name(name))
        }
    };
    bare.into_iter().map(|name| translate(&name).unwrap_or(name)).collect()
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

/// How many parameters of the model have their tensor, in the right shape.
fn common(model: &Model, tensors: &HashMap<String, &Tensor>) -> usize {
    let fits = |param: &&Param| {
        let wanted = model.layout.stored_shape(&param.shape);
        tensors.get(&param.name).is_some_and(|tensor| is_shape(&tensor.shape, &wanted))
    };
    model.graph.params.iter().filter(fits).count()
}

/// Whether a tensor has the shape that is wanted. A linear layer is a 1x1 convolution, whose last two dimensions it leaves out.
fn is_shape(shape: &[usize], wanted: &[usize]) -> bool {
    shape == wanted || (wanted.len() == 4 && wanted[2..] == [1, 1] && *shape == wanted[..2])
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
        if !is_shape(&tensor.shape, &wanted) {
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
