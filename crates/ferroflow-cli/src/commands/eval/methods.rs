//! The methods that `eval` puts side by side.

use std::{collections::HashSet, path::PathBuf, str::FromStr};

use ferroflow::infer::{
    Estimator,
    evaluate::{FlowFolder, Method},
};

use super::Args;
use crate::usage::usage;

/// A folder of flows with the name that it has in tables.
#[derive(Clone, Debug)]
pub struct NamedFolder {
    /// Its name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
}

impl FromStr for NamedFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
                Ok(Self { name: name.into(), folder: folder.into() })
            }
            _ => Err("write NAME=DIR, a name for tables and the folder of the flows".into()),
        }
    }
}

/// A method with its name in tables.
pub struct Named {
    /// The name, which no other method has.
    pub name: String,
    /// The method in a line.
    pub description: String,
    /// The method.
    pub method: Box<dyn Method>,
    /// What it was asked for as.
    pub role: Role,
}

/// What a method was asked for as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// With --model or --weights, or as the default.
    Estimator,
    /// With --flows.
    Flows,
    /// With --baseline.
    Baseline,
}

/// The methods asked for, in the order of tables: estimators, folders of flows, the baseline.
pub fn methods(args: &Args) -> anyhow::Result<Vec<Named>> {
    let mut named = Vec::new();
    let add = |named: &mut Vec<Named>, name: String, estimator: Estimator, role| {
        named.push(Named { name, description: estimator.describe(), method: Box::new(estimator), role });
    };
    let weights = args.method.all_weights();
    if weights.len() > 1 {
        let device = args.method.device(false)?;
        let stems: HashSet<_> = weights.iter().map(|path| path.file_stem()).collect();
        for path in weights {
            // `best.safetensors` of two runs is told apart by its folders.
            let stem = path.file_stem().filter(|_| stems.len() == weights.len());
            let name = stem.unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            add(&mut named, name, args.method.estimator_from(path, device.clone())?, Role::Estimator);
        }
    } else if args.flows.is_empty() || !weights.is_empty() || args.method.model().is_some() {
        let estimator = args.method.estimator()?;
        add(&mut named, estimator.name().into(), estimator, Role::Estimator);
    }
    for NamedFolder { name, folder } in &args.flows {
        if !folder.is_dir() {
            usage!("--flows {name}={}: there is no such folder", folder.display());
        }
        let description = format!("flows of {}", folder.display());
        let method = Box::new(FlowFolder::new(folder));
        named.push(Named { name: name.clone(), description, method, role: Role::Flows });
    }
    if let Some(baseline) = args.baseline.as_deref().and_then(Estimator::baseline) {
        add(&mut named, baseline.name().into(), baseline, Role::Baseline);
    }
    let mut taken = HashSet::new();
    for method in &mut named {
        let names = std::iter::once(method.name.clone()).chain((2..).map(|number| format!("{}-{number}", method.name)));
        if let Some(name) = names.into_iter().find(|name| taken.insert(name.clone())) {
            method.name = name;
        }
    }
    Ok(named)
}
