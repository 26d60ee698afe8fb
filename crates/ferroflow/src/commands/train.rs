//! `ferroflow train`: weights from data, by a recipe.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use ferroflow_cpu::{TrainingPlan, training::Settings};
use ferroflow_net::{
    Graph,
    training::{Differentiable, TrainingError, TrainingOptions},
};
use ferroflow_train::{Event, Recipe, RecipeError, Run, TrainError, folder::FolderError, plot, recipe::SHIPPED};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    progress,
    usage::{UsageError, usage},
};

/// Train a network by a recipe.
///
/// A recipe is a TOML file or the name of one that the program brings along (--list). RUN then holds recipe.toml with every
/// key written out, log.jsonl, events for TensorBoard, checkpoints/ and weights/last.safetensors and best.safetensors, which
/// every other command takes. Ctrl-C saves and stops; --resume goes on to the same weights, bit for bit, as if nothing had
/// happened:
///
///   ferroflow train lightflow-synth --out runs/first
///   ferroflow train pwcnet-chairs --set data=chairs:/data/FlyingChairs_release@train --set batch=4 --out runs/pwc
///   ferroflow train --resume runs/first --set steps=8000
///   ferroflow train --branch runs/first --out runs/first-end
///   ferroflow train --plot runs/first
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Name of a recipe, or a TOML file
    #[arg(required_unless_present_any = ["resume", "branch", "plot", "list"])]
    recipe: Option<String>,
    /// Change a key of the recipe: steps=20, loss.q=0.3, schedule=cosine; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the run; it must not hold one
    #[arg(long, short, value_name = "RUN", required_unless_present_any = ["resume", "plot", "list"])]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "out", "plot", "list"])]
    resume: Option<PathBuf>,
    /// Start a run in --out from the newest checkpoint of this one, and end it: the rate falls to 0 over --over steps. What a
    /// run at a constant rate is worth by now; it can go on itself afterwards
    #[arg(long, value_name = "RUN", requires = "out", conflicts_with_all = ["recipe", "resume", "plot", "list"])]
    branch: Option<PathBuf>,
    /// Steps of a branch. Default: 15 % of those before it
    #[arg(long, value_name = "STEPS", requires = "branch", value_parser = clap::value_parser!(u64).range(1..))]
    over: Option<u64>,
    /// Draw the curves of the run in this folder: RUN/curves.svg and RUN/curves.png
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "out", "list", "set"])]
    plot: Option<PathBuf>,
    /// List the recipes that the program brings along; with a name, print that recipe
    #[arg(long, conflicts_with_all = ["out", "set"])]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints at the end.
#[derive(Serialize)]
struct Output<'a> {
    run: &'a Path,
    #[serde(flatten)]
    outcome: ferroflow_train::Outcome,
}

/// A line of `--list`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: &'static str,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.list {
        return list(args.recipe.as_deref(), args.json);
    }
    if let Some(root) = &args.plot {
        return draw(root, args.json);
    }
    let (run, root) = match (&args.resume, &args.branch, &args.recipe, &args.out) {
        (Some(root), ..) => (Run::resume(root, &args.set).map_err(wrong_usage)?, root),
        (None, Some(trunk), _, Some(out)) => (Run::branch(trunk, out, args.over, &args.set).map_err(wrong_usage)?, out),
        (None, None, Some(recipe), Some(out)) => {
            let recipe = Recipe::open(recipe, &args.set).map_err(|e| wrong_usage(e.into()))?;
            (Run::new(recipe, out).map_err(wrong_usage)?, out)
        }
        _ => usage!("say what to train and where: ferroflow train RECIPE --out RUN"),
    };
    let stop = stop_on_interrupt()?;
    let bar = if args.json { ProgressBar::hidden() } else { progress::bar(run.recipe().steps, "steps") };
    let outcome = run.train(&cpu, &stop, &mut |event| show(&bar, &event, run.recipe()));
    bar.finish_and_clear();
    let outcome = outcome.with_context(|| format!("{} stopped", root.display()))?;
    if args.json {
        println!("{}", serde_json::to_string(&Output { run: root, outcome })?);
        return Ok(());
    }
    let what = if outcome.finished { "done" } else { "stopped" };
    println!("{what} after step {}; weights are in {}", outcome.step, root.join("weights").display());
    if !outcome.finished {
        println!("go on with: ferroflow train --resume {}", root.display());
    }
    Ok(())
}

/// The network on the CPU.
fn cpu(graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Differentiable>, TrainingError> {
    Ok(Box::new(TrainingPlan::new(graph, options, Settings::default())?))
}

/// Recipes and folders that are wrong are wrong usage; everything else is a failure of the run.
fn wrong_usage(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Recipe(RecipeError::Io { .. }) | TrainError::Folder(FolderError::Io { .. }) => error.into(),
        TrainError::Recipe(_) | TrainError::Folder(_) => UsageError(error.to_string()).into(),
        other => other.into(),
    }
}

/// The first Ctrl-C asks the run to save and stop, one a second or more later ends the program: `timeout` and job
/// schedulers signal the process and then its whole group, which is one request and not two.
fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || match first {
        None => {
            first = Some(Instant::now());
            flag.store(true, Ordering::Relaxed);
            eprintln!("\nsaving after this step; press Ctrl-C again to stop at once");
        }
        Some(first) if first.elapsed() < Duration::from_secs(1) => {}
        Some(_) => std::process::exit(130),
    })?;
    Ok(stop)
}

fn show(bar: &ProgressBar, event: &Event, recipe: &Recipe) {
    let say = |text: String| bar.suspend(|| eprintln!("{text}"));
    match event {
        Event::Started { step, trained, random } => {
            bar.set_position(*step);
            bar.reset_eta();
            let from = match (*step, *random) {
                (0, 0) => "from given weights".to_string(),
                (0, arrays) => format!("{arrays} arrays of weights at random"),
                (step, _) => format!("going on after step {step}"),
            };
            say(format!("{}: {:.2} M values to train, {from}", recipe.model, *trained as f64 / 1e6));
        }
        Event::Step { step, loss, epe, lr, waiting, samples_per_second } => {
            bar.set_position(*step);
            bar.set_message(format!(
                "loss {loss:.4}  EPE {epe:.2} px  lr {lr:.2e}  {samples_per_second:.1} pairs/s  waiting {:.0} %",
                100.0 * waiting
            ));
        }
        Event::Validated { step, scores, best } => {
            for score in *scores {
                let best = if *best { ", the best so far" } else { "" };
                say(format!(
                    "step {step}: {} EPE {:.3} px, zero flow {:.3} px{best}",
                    score.data, score.epe, score.zero_epe
                ));
            }
        }
        Event::Saved(_) => {}
        Event::Warning(text) => say(format!("warning: {text}")),
    }
}

fn list(name: Option<&str>, json: bool) -> anyhow::Result<()> {
    if let Some(name) = name {
        let Some(recipe) = SHIPPED.iter().find(|r| r.name == name) else {
            return Err(wrong_usage(Recipe::open(name, &[""; 0]).err().map_or_else(
                || RecipeError::NoSuchRecipe(format!("{name} is a file, not one of the program's recipes")).into(),
                Into::into,
            )));
        };
        print!("{}", recipe.text);
        return Ok(());
    }
    if json {
        let listed: Vec<Listed> =
            SHIPPED.iter().map(|r| Listed { name: r.name, description: r.description() }).collect();
        println!("{}", serde_json::to_string(&listed)?);
        return Ok(());
    }
    let width = SHIPPED.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for recipe in SHIPPED {
        println!("{:<width$}  {}", recipe.name, recipe.description());
    }
    println!("\n`ferroflow train --list NAME` prints one; copy it to make your own");
    Ok(())
}

fn draw(root: &Path, json: bool) -> anyhow::Result<()> {
    let files = plot::plot(root)?;
    if json {
        println!("{}", serde_json::to_string(&files)?);
    } else {
        files.iter().for_each(|file| println!("wrote {}", file.display()));
    }
    Ok(())
}
