//! `ferroflow weights`: files of weights.

use std::path::PathBuf;

use ferroflow_net::{
    Model, Weights,
    weights::{
        Provenance,
        store::{self, Precision},
    },
};

use crate::usage::usage;

/// Import, inspect and make weights.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Say which network a file is for, where it came from and what it holds
    Show(Show),
    /// Make weights by formula or at random, for tests and benchmarks
    Random(Random),
}

/// Say which network a file is for, where it came from and what it holds.
#[derive(clap::Args)]
struct Show {
    /// A .safetensors file of this program
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Make weights by formula or at random.
///
///   ferroflow weights random flownet2 --formula ferroflow-golden -o flownet2.safetensors
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Random {
    /// The network
    model: String,
    /// Set an option of the network
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Seed of random weights (He et al. 2015)
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Weights from the reference formula with this seed text instead: the same numbers in every language
    #[arg(long, value_name = "TEXT")]
    formula: Option<String>,
    /// Store half precision
    #[arg(long)]
    half: bool,
    /// File to write
    #[arg(short, long)]
    output: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Show(args) => show(&args),
        Action::Random(args) => random(&args),
    }
}

fn show(args: &Show) -> anyhow::Result<()> {
    let header = store::read_header(&args.file)?;
    let provenance = &header.provenance;
    let values: usize = header.tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
    if args.json {
        let tensors = args.tensors.then(|| {
            let one = |t: &store::TensorInfo| serde_json::json!({ "name": t.name, "shape": t.shape });
            header.tensors.iter().map(one).collect::<Vec<_>>()
        });
        let report = serde_json::json!({
            "model": header.model.name,
            "options": header.model.options,
            "parameters": header.model.graph.parameter_count(),
            "values": values,
            "provenance": provenance,
            "tensors": tensors,
        });
        println!("{report}");
        return Ok(());
    }
    println!("{}: {}", header.model.name, header.model.description);
    for (key, value) in &header.model.options {
        println!("option      {key} = {value}");
    }
    println!("parameters  {} in {} tensors", header.model.graph.parameter_count(), header.tensors.len());
    let lines = [
        ("source", &provenance.source),
        ("sha-256", &provenance.source_sha256),
        ("licence", &provenance.license),
        ("trained on", &provenance.training_data),
        ("recipe", &provenance.recipe),
    ];
    for (label, value) in lines {
        println!("{label:<11} {}", value.as_deref().unwrap_or("not stated"));
    }
    for (name, value) in &provenance.metrics {
        println!("measured    {name} = {value}");
    }
    for (name, value) in &provenance.notes {
        println!("note        {name}: {value}");
    }
    if args.tensors {
        for tensor in &header.tensors {
            println!("{:<44} {:?}", tensor.name, tensor.shape);
        }
    }
    Ok(())
}

fn random(args: &Random) -> anyhow::Result<()> {
    if args.output.extension().is_none_or(|e| e != "safetensors") {
        usage!("weights are written as .safetensors");
    }
    let model = Model::parse(&args.model, &args.options)?;
    let (weights, source) = match &args.formula {
        Some(seed) => (Weights::formula(&model, seed), format!("formula with seed {seed}")),
        None => (Weights::random(&model.graph, args.seed), format!("random with seed {}", args.seed)),
    };
    let provenance = Provenance { source: Some(source), license: Some("CC0-1.0".into()), ..Provenance::default() };
    let precision = if args.half { Precision::F16 } else { Precision::F32 };
    store::write(&args.output, &model, &weights, &provenance, precision)?;
    println!("{}: {} parameters of {}", args.output.display(), model.graph.parameter_count(), model.name);
    Ok(())
}
