//! `ferroflow models`: what networks there are.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use ferroflow::core::Size;
use ferroflow::net::{Model, dot, svg};
use serde::Serialize;

use crate::{session::Session, usage::usage};

/// List the networks, describe one, or draw its graph.
///
///   ferroflow models
///   ferroflow models pwcnet
///   ferroflow models --graph flownet2-css -o net.svg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Describe this network, with its options
    model: Option<String>,
    /// Set an option of the network; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Size of the frames that cost and memory are counted for
    #[arg(long, default_value = "448x1024", value_name = "HxW")]
    size: Size,
    /// Draw the network's graph to the file --output, or print it as Graphviz text
    #[arg(long, requires = "model")]
    graph: bool,
    /// File to draw to: .svg is a picture, .dot is for Graphviz
    #[arg(short, long, value_name = "FILE", requires = "graph")]
    output: Option<PathBuf>,
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
    /// Frames are fitted to multiples of this.
    stride: usize,
    /// What the numbers below are for.
    size: Size,
    gflop: f64,
    parameter_bytes: usize,
    activation_bytes: usize,
    /// What estimating takes at most.
    memory_bytes: u64,
    options: Vec<OptionEntry>,
}

#[derive(Serialize)]
struct OptionEntry {
    key: &'static str,
    values: Vec<String>,
    help: &'static str,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let Some(name) = &args.model else {
        let entries =
            Model::names().map(|name| entry(&Model::named(name)?, args.size)).collect::<Result<Vec<_>, _>>()?;
        if args.json {
            writeln!(session.out, "{}", serde_json::to_string_pretty(&entries)?)?;
            return Ok(());
        }
        writeln!(session.out, "{:<18} {:>12} {:>9}  at {}", "name", "parameters", "GFLOP", args.size)?;
        for e in entries {
            writeln!(session.out, "{:<18} {:>12} {:>9.1}  {}", e.name, e.parameters, e.gflop, e.description)?;
        }
        writeln!(
            session.out,
            "dis                           -         -  Dense Inverse Search (Kroeger et al. 2016): needs no weights"
        )?;
        return Ok(());
    };
    let model = Model::parse(name, &args.options)?;
    if args.graph {
        return draw(&model, args.output.as_deref(), args.json, session);
    }
    let entry = entry(&model, args.size)?;
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string_pretty(&entry)?)?;
        return Ok(());
    }
    writeln!(session.out, "{}: {}\n{}", entry.name, entry.description, entry.paper)?;
    writeln!(
        session.out,
        "{} parameters, sizes are multiples of {}; at {}: {:.1} GFLOP, at most {:.0} MB of memory",
        entry.parameters,
        entry.stride,
        entry.size,
        entry.gflop,
        entry.memory_bytes as f64 / 1e6
    )?;
    if !entry.options.is_empty() {
        writeln!(session.out, "\noptions (--option KEY=VALUE):")?;
    }
    for option in &entry.options {
        writeln!(session.out, "  {} = {}\n      {}", option.key, option.values.join(" | "), option.help)?;
    }
    Ok(())
}

/// Draws the graph in the format that the file's name asks for.
fn draw(model: &Model, output: Option<&Path>, json: bool, session: &mut Session) -> anyhow::Result<()> {
    let Some(path) = output else {
        if json {
            usage!("a graph is no JSON: give --graph without --json, or a file to draw to with --output");
        }
        write!(session.out, "{}", dot::dot(&model.graph))?;
        return Ok(());
    };
    session.files.plan(path, "the graph")?;
    session.files.prepare()?;
    let text = match path.extension().and_then(|e| e.to_str()) {
        Some("dot" | "gv") => dot::dot(&model.graph),
        Some("svg") => svg::svg(&model.graph)?,
        _ => usage!("a graph is drawn to .svg or .dot (Graphviz), not to {}", path.display()),
    };
    ferroflow::core::io::write_bytes(path, text.as_bytes())?;
    let (file, nodes) = (path.display(), model.graph.nodes.len());
    let report = serde_json::json!({ "file": file.to_string(), "nodes": nodes });
    session.wrote(json, &report, format_args!("{file}: {nodes} nodes"))
}

fn entry(model: &Model, size: Size) -> anyhow::Result<Entry> {
    let sizes = model.sizes_for(size);
    let cost = model.graph.cost(&sizes)?;
    let options = Model::options_of(model.name)?;
    Ok(Entry {
        name: model.name,
        description: model.description,
        paper: model.paper,
        parameters: model.graph.parameter_count(),
        stride: model.stride,
        size,
        gflop: cost.flop / 1e9,
        parameter_bytes: cost.parameter_bytes,
        activation_bytes: cost.activation_bytes,
        memory_bytes: ferroflow::infer::memory_estimate(model, &sizes)?,
        options: options.into_iter().map(|o| OptionEntry { key: o.key, values: o.values, help: o.help }).collect(),
    })
}
