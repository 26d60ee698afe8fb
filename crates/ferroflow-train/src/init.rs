//! The first weights of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ferroflow_infer::open::builtin;
use ferroflow_net::{
    Graph, Model, ModelError, Weights,
    graph::ParamId,
    weights::{self, Opened, Provenance, ReadError},
};
use serde::{Deserialize, Serialize};

use crate::{Recipe, TrainError, recipe::InitOptions};

/// Why weights cannot be used to start a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The file cannot be read.
    #[error("init: {file}: {source}")]
    Open {
        /// The file.
        file: String,
        /// The cause.
        source: Box<ReadError>,
    },
    /// The file holds a parameter that the network does not have.
    #[error(
        "init: {file} holds `{name}`, and {model} has no `{prefix}{name}` of that shape: give the prefix of the part it is for, as in init = {{ \"flownetc.\" = \"...\" }}"
    )]
    Stranger {
        /// The file.
        file: String,
        /// Name of the parameter.
        name: String,
        /// Prefix that its name gets in the network.
        prefix: String,
        /// The network to be trained.
        model: &'static str,
    },
    /// The weights were made with an option that the recipe, or another file, contradicts.
    #[error(
        "init: the weights of {file} were made with {held}, and {says}, which gives them another meaning: {remedy}"
    )]
    Contradiction {
        /// The file.
        file: String,
        /// The option, with its value in the file.
        held: String,
        /// What contradicts it, and with which value.
        says: String,
        /// What to do.
        remedy: String,
    },
    /// The weights that are part of the program cannot be used.
    #[error("init: the weights in the program: {0}")]
    Builtin(String),
    /// The network does not exist with the options of the weights.
    #[error("init: {0}")]
    Model(#[from] ModelError),
}

/// What a file of first weights says about itself; weights that are trained from it say so too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file, as the recipe names it.
    pub file: String,
    /// Prefix of the part of the network that it was for; empty for the whole network.
    pub prefix: String,
    /// The source that it was made from.
    pub source: Option<String>,
    /// SHA-256 of that source.
    pub source_sha256: Option<String>,
    /// Licence under which it may be used.
    pub license: Option<String>,
    /// Data on which it was trained.
    pub training_data: Option<String>,
    /// The options of its network, `key=value`.
    pub options: Vec<String>,
}

impl Origin {
    /// Adds to the provenance of weights what they were trained from: its source and licence, the rest as notes.
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

/// The recipe with the options that the weights of `init` were made with, and notes on what their files leave open.
///
/// # Errors
/// If one of them contradicts the recipe or another file, and the recipe does not override it.
pub fn settle(mut recipe: Recipe) -> Result<(Recipe, Vec<String>), TrainError> {
    let asked = recipe.options.clone();
    // Option, value, and the file that said so.
    let mut told: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut doubts = Vec::new();
    let files: Vec<(String, String)> = recipe.init.clone().into_iter().collect();
    for (prefix, file) in &files {
        let opened = open(&recipe, prefix, file)?;
        doubts.extend(opened.doubt().map(|doubt| format!("init: {file}: {doubt}")));
        let made_with = &opened.stored.model;
        for option in Model::options_of(&recipe.model).map_err(InitError::from)? {
            let key = option.key;
            // A checkpoint that says nothing may be of any kind; a file of this program is then of the default one.
            let held = opened.stated.get(key).cloned();
            let means_the_same = |value: &str| {
                let with = |value: &str| {
                    let changed = [(key.to_string(), value.to_string())];
                    Model::with_options(made_with.name, &made_with.options.clone().into_iter().chain(changed).collect())
                };
                let stated = held.as_deref().map_or_else(|| Ok(made_with.clone()), with);
                match (stated, with(value)) {
                    (Ok(a), Ok(b)) => a.graph == b.graph && a.pyramid_unit == b.pyramid_unit,
                    // Not an option of the part that these weights are for.
                    _ => true,
                }
            };
            let contradiction = |other: Option<&str>, value: &str| InitError::Contradiction {
                file: file.clone(),
                held: held.as_ref().map_or_else(|| format!("the default of {key}"), |held| format!("{key}={held}")),
                says: format!("{} says {key}={value}", other.unwrap_or("the recipe")),
                remedy: match other {
                    None => format!("leave out options.{key}, or insist with init_options = \"override\""),
                    Some(_) => {
                        format!("give weights of one kind, or set options.{key} and init_options = \"override\"")
                    }
                },
            };
            let decides = recipe.init_options == InitOptions::Stored && !option.interchangeable;
            match (asked.get(key), &held) {
                (Some(_), _) if !decides => {}
                (Some(_), None) if opened.foreign.is_some() => {}
                (Some(value), _) if means_the_same(value) => {}
                (Some(value), _) => return Err(contradiction(None, value).into()),
                (None, None) => {}
                (None, Some(held)) => match told.get(key) {
                    Some((value, other)) if decides && !means_the_same(value) => {
                        return Err(contradiction(Some(other), value).into());
                    }
                    Some(_) => {}
                    None => drop(told.insert(key.to_string(), (held.clone(), file.clone()))),
                },
            }
        }
    }
    recipe.options.extend(told.into_iter().map(|(key, (value, _))| (key, value)));
    if recipe.start == 0
        && let [(_, file)] = &files[..]
        && let Some(epoch) = port_epoch(file)
    {
        recipe.start = epoch * recipe.epoch_steps;
    }
    recipe.check()?;
    Ok((recipe, doubts))
}

/// The epoch at which the MindSpore port of UFlow goes on from a checkpoint: that of its name, `uflow_EPOCH_STEP.ckpt`. From epoch
/// 1200, the last one, it begins anew: so a stage starts from the weights of the one before.
fn port_epoch(file: &str) -> Option<u64> {
    const LAST: u64 = 1200;
    let name = Path::new(file).file_name()?.to_str()?;
    let (epoch, step) = name.strip_prefix("uflow_")?.strip_suffix(".ckpt")?.split_once('_')?;
    step.parse::<u64>().ok()?;
    epoch.parse().ok().filter(|epoch| *epoch < LAST)
}

/// What stands for the weights in the program, in the place of a file.
const BUILTIN: &str = "builtin";

fn open(recipe: &Recipe, prefix: &str, file: &str) -> Result<Opened, InitError> {
    if file == BUILTIN {
        let found = builtin(Some(&recipe.model), &[""; 0]).map_err(|e| InitError::Builtin(e.to_string()))?;
        let stored = found.ok_or_else(|| {
            InitError::Builtin(format!("none of {} come along: give a file, or leave init empty", recipe.model))
        })?;
        return Ok(Opened { stated: stored.model.options.clone(), stored, foreign: None, undecided: Vec::new() });
    }
    let whole = prefix.is_empty().then_some((recipe.model.as_str(), &recipe.options));
    weights::open(Path::new(file), whole).map_err(|source| InitError::Open { file: file.into(), source: source.into() })
}

/// The first weights of a recipe, the number of random parameters, and the origins of the others.
pub fn first_weights(recipe: &Recipe, model: &Model) -> Result<(Weights, usize, Vec<Origin>), InitError> {
    let mut origins = Vec::with_capacity(recipe.init.len());
    let mut weights = match recipe.initialisation {
        None => Weights::random(&model.graph, recipe.seed),
        Some(initialisation) => Weights::random(&Graph { initialisation, ..model.graph.clone() }, recipe.seed),
    };
    let mut random = vec![true; model.graph.params.len()];
    for (prefix, file) in &recipe.init {
        let stored = open(recipe, prefix, file)?.stored;
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
    use ferroflow_net::weights::store::{self, Precision};

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

    /// A file of LightFlow's weights made with some options.
    fn stored(folder: &Path, options: &[&str]) -> String {
        let path = folder.join(format!("{}.safetensors", options.join("-").replace('=', "")));
        let model = Model::parse("lightflow-0.5", options).unwrap();
        let weights = Weights::random(&model.graph, 99);
        store::write(&path, &model, &weights, &Provenance::default(), Precision::F32).unwrap();
        path.display().to_string()
    }

    #[test]
    fn options_of_the_first_weights_hold_unless_the_recipe_insists() {
        let folder = tempfile::tempdir().unwrap();
        let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs'\nsteps = 4\nbatch = 2\ncrop = '64x64'\nlr = 1e-4\n\
                    loss = 'lightflow-l1'";
        let settled = |changes: &[String]| {
            let (recipe, doubts) = settle(Recipe::parse("test", text, changes).unwrap()).map_err(|e| e.to_string())?;
            assert_eq!(doubts, [""; 0]);
            Ok::<_, String>(recipe.options.get("div-flow").cloned())
        };
        let init = |options: &[&str]| format!("init={}", stored(folder.path(), options));
        let one = init(&["div-flow=1"]);
        assert_eq!(settled(&[]).unwrap(), None);
        assert_eq!(settled(std::slice::from_ref(&one)).unwrap().as_deref(), Some("1"));
        // The same number in other words.
        assert_eq!(settled(&[one.clone(), "options.div-flow=1.0".into()]).unwrap().as_deref(), Some("1.0"));
        let error = settled(&[one.clone(), "options.div-flow=20".into()]).unwrap_err();
        assert!(error.contains("div-flow=1, and the recipe says div-flow=20") && error.contains("override"), "{error}");
        let insist = [one, "options.div-flow=20".into(), "init_options=override".into()];
        assert_eq!(settled(&insist).unwrap().as_deref(), Some("20"));
        // What a file of this program leaves out has its default, 20.
        let plain = init(&[]);
        assert_eq!(settled(&[plain.clone(), "options.div-flow=20".into()]).unwrap().as_deref(), Some("20"));
        let error = settled(&[plain, "options.div-flow=5".into()]).unwrap_err();
        assert!(error.contains("the default of div-flow, and the recipe says div-flow=5"), "{error}");
    }

    #[test]
    fn options_that_leave_the_weights_their_meaning_may_differ_and_files_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, network: &str, options: &[&str]| {
            let path = folder.path().join(name);
            let model = Model::parse(network, options).unwrap();
            let weights = Weights::random(&model.graph, 99);
            store::write(&path, &model, &weights, &Provenance::default(), Precision::F16).unwrap();
            path.display().to_string()
        };
        let text: &str =
            "model = 'rill'\ndata = 'synth:chairs'\nsteps = 4\nbatch = 2\ncrop = '64x64'\nlr = 1e-4\nloss = 'l1'";
        let settled = |text: &str, changes: &[String]| {
            settle(Recipe::parse("test", text, changes).unwrap()).map(|(recipe, _)| recipe).map_err(|e| e.to_string())
        };
        let rill = format!("init={}", write("rill.safetensors", "rill", &["iterations=2"]));
        assert_eq!(settled(text, std::slice::from_ref(&rill)).unwrap().options["iterations"], "2");
        assert_eq!(settled(text, &[rill, "options.iterations=3".into()]).unwrap().options["iterations"], "3");

        let text = text.replace("rill", "lightflow-0.5").replace("'l1'", "'lightflow-l1'");
        let part = |value: &str| write(value, "lightflow-0.5", &[&format!("div-flow={value}")]);
        let parts = |a: &str, b: &str| [format!("init={{ \"a.\" = {:?}, \"b.\" = {:?} }}", part(a), part(b))];
        assert_eq!(settled(&text, &parts("5", "5.0")).unwrap().options["div-flow"], "5");
        let error = settled(&text, &parts("5", "7")).unwrap_err();
        assert!(error.contains("were made with div-flow=7") && error.contains("says div-flow=5"), "{error}");
        let insist: Vec<String> = parts("5", "7").into_iter().chain(["init_options=override".into()]).collect();
        assert_eq!(settled(&text, &insist).unwrap().options["div-flow"], "5");
    }

    #[test]
    fn the_ports_checkpoints_say_where_it_goes_on() {
        for (file, epoch) in [
            ("runs/uflow_810_1000.ckpt", Some(810)),
            ("uflow_1200_1000.ckpt", None),
            ("uflow_pretrain.ckpt", None),
            ("uflow_810_1000.safetensors", None),
            ("pretrain.ckpt", None),
        ] {
            assert_eq!(port_epoch(file), epoch, "{file}");
        }
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
