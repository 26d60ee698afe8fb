//! `ferroflow models`: what networks there are.

use std::path::PathBuf;

use ferroflow_core::Size;
use ferroflow_net::{Model, graph::Sizes};
use serde::Serialize;

use crate::usage::usage;

/// List the networks, describe one, or draw its graph.
///
///   ferroflow models
///   ferroflow models pwcnet
///   ferroflow models flownet2-css --graph net.dot
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Describe this network, with its options
    model: Option<String>,
    /// Set an option of the network
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Size that cost and memory are counted for
    #[arg(long, default_value = "448x1024", value_name = "HxW")]
    size: Size,
    /// Write the network's graph: .dot for Graphviz, .svg to look at
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One network in numbers.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    description: &'static str,
    paper: &'static str,
    parameters: usize,
    gflop: f64,
    stride: usize,
    options: Vec<OptionEntry>,
}

#[derive(Serialize)]
struct OptionEntry {
    key: &'static str,
    values: Vec<String>,
    help: &'static str,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Some(name) = &args.model else {
        if args.graph.is_some() {
            usage!("--graph needs the name of a network: `ferroflow models pwcnet --graph net.svg`");
        }
        let entries =
            Model::names().map(|name| entry(&Model::named(name)?, args.size)).collect::<Result<Vec<_>, _>>()?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&entries)?);
            return Ok(());
        }
        println!("{:<18} {:>12} {:>9}  at {}", "name", "parameters", "GFLOP", args.size);
        for e in entries {
            println!("{:<18} {:>12} {:>9.1}  {}", e.name, e.parameters, e.gflop, e.description);
        }
        println!(
            "dis                           -         -  Dense Inverse Search (Kroeger et al. 2016): needs no weights"
        );
        return Ok(());
    };
    let model = Model::parse(name, &args.options)?;
    if let Some(path) = &args.graph {
        let text = match path.extension().and_then(|e| e.to_str()) {
            Some("dot" | "gv") => ferroflow_net::dot::dot(&model.graph),
            Some("svg") => ferroflow_net::svg::svg(&model.graph)?,
            _ => usage!("--graph writes .dot (Graphviz) or .svg"),
        };
        ferroflow_core::io::write_bytes(path, text.as_bytes())?;
        println!("{}: {} nodes", path.display(), model.graph.nodes.len());
        return Ok(());
    }
    let entry = entry(&model, args.size)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&entry)?);
        return Ok(());
    }
    println!("{}: {}\n{}", entry.name, entry.description, entry.paper);
    println!(
        "{} parameters, {:.1} GFLOP at {}, sizes are multiples of {}",
        entry.parameters, entry.gflop, args.size, entry.stride
    );
    if !entry.options.is_empty() {
        println!("\noptions (--option KEY=VALUE):");
    }
    for option in &entry.options {
        println!("  {} = {}\n      {}", option.key, option.values.join(" | "), option.help);
    }
    Ok(())
}

fn entry(model: &Model, size: Size) -> anyhow::Result<Entry> {
    let up = |n: usize, least: usize| n.max(least).next_multiple_of(model.stride);
    let sizes = Sizes::new(1, up(size.height, model.min_size.height), up(size.width, model.min_size.width));
    let options = Model::options_of(model.name)?;
    Ok(Entry {
        name: model.name,
        description: model.description,
        paper: model.paper,
        parameters: model.graph.parameter_count(),
        gflop: model.graph.cost(&sizes)?.flop / 1e9,
        stride: model.stride,
        options: options.into_iter().map(|o| OptionEntry { key: o.key, values: o.values, help: o.help }).collect(),
    })
}
