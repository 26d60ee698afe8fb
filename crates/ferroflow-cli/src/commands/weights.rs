//! `ferroflow weights`: files of weights.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use ferroflow::infer::open;
use ferroflow::net::{
    Model, Weights,
    weights::{
        Converted, Extra, Provenance, convert,
        export::{self, Target},
        import,
        store::{self, Precision, Stored},
    },
};
use serde_json::json;

use crate::{method::read_weights, session::Session, usage::usage};

/// Import, export, inspect and make weights.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    #[command(about = "Make a weight file from another project's checkpoint")]
    Import(Import),
    #[command(about = "Write weights for another framework, under the reference's names")]
    Export(Export),
    #[command(about = "Say which network a file is for, where it came from and what it holds")]
    Show(Show),
    #[command(
        about = "Check that a file is whole and fits its network; with --source, that it was made from that checkpoint"
    )]
    Verify(Verify),
    #[command(about = "List the weight files of a folder, or the weights in the program")]
    List(List),
    #[command(about = "Make weights from a formula or at random, for tests and benchmarks")]
    Random(Random),
}

/// Make a weight file from another project's checkpoint: PyTorch (.pth, .pth.tar, .pt, .pytorch, old and new), a TensorFlow
/// V2 bundle, MindSpore's .ckpt, or safetensors. The network is recognised by the names and shapes of its parameters.
///
///   ferroflow weights import FlowNet2_checkpoint.pth.tar -o flownet2.safetensors --licence "research only"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Import {
    /// The checkpoint; for TensorFlow, the bundle's prefix, index or folder
    file: PathBuf,
    /// The network, if the checkpoint could be for several
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Set an option of the network; it is stored with the weights
    #[arg(long = "option", value_name = "KEY=VALUE", requires = "arch")]
    options: Vec<String>,
    /// Take the weights under this key of a training checkpoint, such as state_dict_ema for averaged weights
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Leave out tensors that are not parameters of the network, such as metrics or constants of a loss
    #[arg(long)]
    ignore_extra: bool,
    /// Licence under which the weights may be used; it is stored with them
    #[arg(long, alias = "license")]
    licence: Option<String>,
    /// Data on which the weights were trained; it is stored with them
    #[arg(long)]
    trained_on: Option<String>,
    /// Store the weights in half precision
    #[arg(long)]
    half: bool,
    /// File to write
    #[arg(short, long)]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write weights for another framework, under the reference's names: PyTorch's .pth.tar, which every version reads, safetensors
/// of a state_dict, MindSpore's .ckpt, or a TensorFlow V2 bundle.
///
///   ferroflow weights export flownet2.safetensors --to pytorch -o FlowNet2_checkpoint.pth.tar
///   ferroflow weights export pwcnet.safetensors --to tensorflow -o pwcnet.ckpt-0
///   ferroflow weights export FlowNet2_checkpoint.pth.tar --to mindspore -o flownet2.ckpt
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Export {
    /// A .safetensors file of this program, or another project's checkpoint
    file: PathBuf,
    /// Framework to write for
    #[arg(long, value_parser = ["pytorch", "pytorch-safetensors", "mindspore", "tensorflow"])]
    to: String,
    /// File to write; for TensorFlow, the prefix of its files
    #[arg(short, long)]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Check that a file is whole and fits its network; with --source, also that it was made from that checkpoint.
#[derive(clap::Args)]
struct Verify {
    /// A .safetensors file of this program
    file: PathBuf,
    /// The checkpoint that it was imported from, whose hash must be the stored one
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// List the weight files of a folder, or the weights in the program.
#[derive(clap::Args)]
struct List {
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The weights that are part of the program, and how each was made
    #[arg(long, conflicts_with = "folder")]
    builtin: bool,
    /// Print one JSON object per file instead of text
    #[arg(long)]
    json: bool,
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
    /// Set an option of the network; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Seed of random weights (He et al. 2015)
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compute the weights by the reference formula with this seed text instead, which gives the same numbers in every language
    #[arg(long, value_name = "TEXT")]
    formula: Option<String>,
    /// Store the weights in half precision
    #[arg(long)]
    half: bool,
    /// File to write
    #[arg(short, long)]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    match args.action {
        Action::Import(args) => import_checkpoint(args, session),
        Action::Export(args) => export_weights(&args, session),
        Action::Show(args) => show(&args, session),
        Action::Verify(args) => verify(&args, session),
        Action::List(args) => list(&args, session),
        Action::Random(args) => random(&args, session),
    }
}

fn show(args: &Show, session: &mut Session) -> anyhow::Result<()> {
    let header = store::read_header(&args.file).with_context(|| args.file.display().to_string())?;
    let provenance = &header.provenance;
    let values: usize = header.tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
    if args.json {
        let tensors = args.tensors.then(|| {
            let one = |t: &store::TensorInfo| json!({ "name": t.name, "shape": t.shape });
            header.tensors.iter().map(one).collect::<Vec<_>>()
        });
        let report = json!({
            "model": header.model.name,
            "options": header.model.options,
            "parameters": header.model.graph.parameter_count(),
            "values": values,
            "provenance": provenance,
            "tensors": tensors,
        });
        writeln!(session.out, "{report}")?;
        return Ok(());
    }
    describe(&header.model, provenance, session)?;
    if args.tensors {
        for tensor in &header.tensors {
            writeln!(session.out, "{:<44} {:?}", tensor.name, tensor.shape)?;
        }
    }
    Ok(())
}

/// Which network weights are for, and where they come from.
fn describe(model: &Model, provenance: &Provenance, session: &mut Session) -> anyhow::Result<()> {
    let graph = &model.graph;
    writeln!(session.out, "{}: {}", model.name, model.description)?;
    for (key, value) in &model.options {
        writeln!(session.out, "option      {key} = {value}")?;
    }
    writeln!(session.out, "parameters  {} in {} tensors", graph.parameter_count(), graph.params.len())?;
    let lines = [
        ("source", &provenance.source),
        ("sha-256", &provenance.source_sha256),
        ("licence", &provenance.license),
        ("trained on", &provenance.training_data),
        ("recipe", &provenance.recipe),
    ];
    for (label, value) in lines {
        writeln!(session.out, "{label:<11} {}", value.as_deref().unwrap_or("not stated"))?;
    }
    for (name, value) in &provenance.metrics {
        writeln!(session.out, "measured    {name} = {value}")?;
    }
    for (name, value) in &provenance.notes {
        writeln!(session.out, "note        {name}: {value}")?;
    }
    Ok(())
}

fn import_checkpoint(args: Import, session: &mut Session) -> anyhow::Result<()> {
    weight_file(&args.output)?;
    let options = Model::options_from(&args.options)?;
    session.files.reads(&args.file);
    session.files.plan(&args.output, "the weights")?;
    session.files.prepare()?;
    let checkpoint = import::import_entry(&args.file, args.key.as_deref())?;
    let (format, skipped) = (checkpoint.format, checkpoint.contents.skipped);
    let others = checkpoint.contents.other_entries.clone();
    let entry = checkpoint.contents.entry.clone();
    let extra = if args.ignore_extra { Extra::Ignore } else { Extra::Refuse };
    let network = args.arch.as_deref().map(|name| (name, &options));
    let Converted { mut stored, undecided, ignored, as_named, .. } =
        convert(checkpoint, network, extra).with_context(|| args.file.display().to_string())?;
    stored.provenance.license = args.licence.or(stored.provenance.license);
    stored.provenance.training_data = args.trained_on.or(stored.provenance.training_data);
    let precision = if args.half { Precision::F16 } else { Precision::F32 };
    store::write(&args.output, &stored.model, &stored.weights, &stored.provenance, precision)?;
    let Stored { model, provenance, .. } = &stored;
    let parameters = model.graph.parameter_count();
    let output = args.output.display();
    let report = json!({
        "file": output.to_string(),
        "format": format.to_string(),
        "network": model.name,
        "options": model.options,
        "parameters": parameters,
        "entry": entry,
        "other_entries": others,
        "skipped": skipped.to_string(),
        "ignored": ignored,
        "as_named": as_named,
        "undecided": undecided,
        "licence": provenance.license,
    });
    let options = model.options.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>();
    let mut lines = vec![format!("{format}: {}{options}, {parameters} parameters", model.name)];
    lines.extend(entry.map(|entry| format!("taken from the entry `{entry}`")));
    lines
        .extend(others.iter().map(|other| format!("the entry `{other}` holds weights too: --key {other} takes those")));
    lines.push(format!("left out: {skipped}"));
    if ignored > 0 {
        lines.push(format!("left out: {ignored} tensors that are no parameters"));
    }
    match as_named {
        Some(true) => lines.push("its SHA-256 begins as its name says".into()),
        Some(false) => lines.push(
            "its SHA-256 does not begin as its name says: it is another file than the published one, or damaged".into(),
        ),
        None => {}
    }
    if let [taken, others @ ..] = &undecided[..]
        && !others.is_empty()
    {
        lines.push(format!(
            "nothing in the file says whose implementation it is of: taken as {taken}. Weights of {} look the same and compute \
             something else; for those: --arch {} --option variant={}",
            others.join(" and "),
            model.name,
            others[0]
        ));
    }
    if provenance.license.is_none() {
        lines.push("no licence is stated in the file; --licence TEXT stores one".into());
    }
    lines.push(format!("wrote {output}"));
    session.wrote(args.json, &report, lines.join("\n"))
}

fn export_weights(args: &Export, session: &mut Session) -> anyhow::Result<()> {
    let target = match args.to.as_str() {
        "pytorch" => Target::Pytorch,
        "mindspore" => Target::Mindspore,
        "tensorflow" => Target::Tensorflow,
        _ => Target::PytorchSafetensors,
    };
    session.files.reads(&args.file);
    let files = export::files(&args.output, target);
    for file in &files {
        session.files.plan(file, "the exported weights")?;
    }
    session.files.prepare()?;
    let stored = read_weights(&args.file, None, &[])?;
    export::export(&args.output, &stored, target).with_context(|| format!("cannot write {}", args.output.display()))?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    session.wrote(args.json, &json!({ "files": files }), format_args!("wrote {}", files.join("\nwrote ")))
}

fn verify(args: &Verify, session: &mut Session) -> anyhow::Result<()> {
    // Reading checks names, shapes, lengths and that every value is finite.
    let stored = store::read(&args.file).with_context(|| args.file.display().to_string())?;
    let (file, parameters, network) = (args.file.display(), stored.model.graph.parameter_count(), stored.model.name);
    if !args.json {
        writeln!(session.out, "{file}: whole, {parameters} parameters of {network}")?;
    }
    if let Some(source) = &args.source {
        let checkpoint = import::import(source)?;
        match &stored.provenance.source_sha256 {
            Some(hash) if *hash == checkpoint.sha256 => {}
            Some(hash) => anyhow::bail!(
                "it was made of another file than {}: SHA-256 {hash}, not {}",
                source.display(),
                checkpoint.sha256
            ),
            None => anyhow::bail!("it does not say what it was made of"),
        }
    }
    let source = args.source.as_ref().map(|source| source.display().to_string());
    if args.json {
        let report = json!({
            "file": file.to_string(), "network": network, "parameters": parameters, "source": source,
        });
        writeln!(session.out, "{report}")?;
    } else if let Some(source) = source {
        writeln!(session.out, "made of {source}")?;
    }
    Ok(())
}

fn list_builtin(json: bool, session: &mut Session) -> anyhow::Result<()> {
    for name in Model::names() {
        let Some(Stored { model, provenance, .. }) = open::builtin(Some(name), &[""; 0])? else { continue };
        if json {
            let parameters = model.graph.parameter_count();
            let report = json!({ "network": model.name, "parameters": parameters, "provenance": provenance });
            writeln!(session.out, "{report}")?;
        } else {
            describe(&model, &provenance, session)?;
        }
    }
    Ok(())
}

fn list(args: &List, session: &mut Session) -> anyhow::Result<()> {
    if args.builtin {
        return list_builtin(args.json, session);
    }
    let folder = &args.folder;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    if files.is_empty() && !args.json {
        writeln!(session.out, "no .safetensors files in {}", folder.display())?;
    }
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let header = store::read_header(&file);
        if args.json {
            let report = match &header {
                Ok(header) => json!({
                    "file": name, "network": header.model.name, "licence": header.provenance.license,
                }),
                Err(error) => json!({ "file": name, "error": error.to_string() }),
            };
            writeln!(session.out, "{report}")?;
            continue;
        }
        match header {
            Ok(header) => {
                let licence = header.provenance.license.as_deref().unwrap_or("no licence stated");
                writeln!(session.out, "{name:<40} {:<16} {licence}", header.model.name)?;
            }
            Err(error) => writeln!(session.out, "{name:<40} {error}")?,
        }
    }
    Ok(())
}

fn weight_file(path: &Path) -> anyhow::Result<()> {
    if path.extension().is_none_or(|e| e != "safetensors") {
        usage!("weights are written as .safetensors, not {}", path.display());
    }
    Ok(())
}

fn random(args: &Random, session: &mut Session) -> anyhow::Result<()> {
    weight_file(&args.output)?;
    let model = Model::parse(&args.model, &args.options)?;
    session.files.plan(&args.output, "the weights")?;
    session.files.prepare()?;
    let (weights, source) = match &args.formula {
        Some(seed) => (Weights::formula(&model, seed), format!("formula with seed {seed}")),
        None => (Weights::random(&model.graph, args.seed), format!("random with seed {}", args.seed)),
    };
    let provenance = Provenance { source: Some(source), license: Some("CC0-1.0".into()), ..Provenance::default() };
    let precision = if args.half { Precision::F16 } else { Precision::F32 };
    store::write(&args.output, &model, &weights, &provenance, precision)?;
    let (file, parameters) = (args.output.display(), model.graph.parameter_count());
    let report = json!({ "file": file.to_string(), "network": model.name, "parameters": parameters });
    session.wrote(args.json, &report, format_args!("{file}: {parameters} parameters of {}", model.name))
}
