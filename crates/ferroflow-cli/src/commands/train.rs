//! `ferroflow train`: weights from data, by a recipe.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use ferroflow::CpuOptions;
use ferroflow::train::{
    Event, InitError, Recipe, RecipeError, Run, TrainError, folder::FolderError, peers::Peers, plot, recipe::SHIPPED,
};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    device::{self, DeviceName, DeviceParser, Precision},
    interrupt::Interrupt,
    progress,
    ranks::Ranks,
    session::{Session, note},
    usage::{UsageError, usage},
};

/// Train a network by a recipe.
///
/// A recipe is a TOML file or the name of a built-in recipe (--list). The folder RUN then holds recipe.toml with every key
/// written out, log.jsonl, events for TensorBoard, checkpoints/, and weights/last.safetensors and weights/best.safetensors,
/// which the other commands take with -w. Ctrl-C saves and stops (exit code 130, or 143 after SIGTERM). --resume leads to the
/// same weights, bit for bit, as a run that was not stopped:
///
///   ferroflow train lightflow-synth --out runs/first
///   ferroflow train pwcnet-chairs --set data=chairs:/data/FlyingChairs_release@train --set batch=4 --out runs/pwc
///   ferroflow train --resume runs/first --set steps=8000
///   ferroflow train --branch runs/first --out runs/first-end
///   ferroflow train --plot runs/first
///
/// Several processes train together, each on its part of every batch, where the program was built with MPI:
///
///   mpirun -n 4 ferroflow train pwcnet-chairs --set data=chairs:/data/FlyingChairs_release@train --out runs/pwc
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Name of a built-in recipe, or a TOML file
    #[arg(required_unless_present_any = ["resume", "branch", "plot", "list"])]
    recipe: Option<String>,
    /// Change a key of the recipe: steps=20, loss.q=0.3, schedule=cosine; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the run, which must not hold a run already
    #[arg(long, short, value_name = "RUN", required_unless_present_any = ["resume", "plot", "list"])]
    out: Option<PathBuf>,
    /// Continue the run in this folder from its newest checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "out", "plot", "list"])]
    resume: Option<PathBuf>,
    /// Finish a copy of this run in --out: from the newest checkpoint on, the rate falls to 0 over --over steps. This gives the
    /// final weights of a run at a constant rate, which itself can go on
    #[arg(long, value_name = "RUN", requires = "out", conflicts_with_all = ["recipe", "resume", "plot", "list"])]
    branch: Option<PathBuf>,
    /// Steps of a branch. Default: 15 % of the steps before it
    #[arg(long, value_name = "STEPS", requires = "branch", value_parser = clap::value_parser!(u64).range(1..))]
    over: Option<u64>,
    /// Draw the curves of the run in this folder: RUN/curves.svg and RUN/curves.png
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "out", "list", "set"])]
    plot: Option<PathBuf>,
    /// List the built-in recipes; with a name, print that recipe
    #[arg(long, conflicts_with_all = ["out", "set"])]
    list: bool,
    /// Device to compute on; GPUs also by number, as in vulkan:1 (`ferroflow doctor` lists them)
    #[arg(long, default_value_t, value_name = "DEVICE", value_parser = DeviceParser)]
    device: DeviceName,
    /// Precision of the numbers that convolutions multiply, on GPUs: weights, losses and optimiser are f32 in all. f16 wants
    /// `loss_scale = "dynamic"` in the recipe
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints at the end.
#[derive(Serialize)]
struct Output {
    run: String,
    #[serde(flatten)]
    outcome: ferroflow::train::Outcome,
}

/// A line of `--list`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: &'static str,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    if args.list {
        return list(args.recipe.as_deref(), args.json, session);
    }
    if let Some(root) = &args.plot {
        return draw(root, args.json, session);
    }
    if args.device == DeviceName::Cpu && args.precision != Precision::F32 {
        usage!("on the processor training computes in f32: leave out --precision");
    }
    let interrupt = Interrupt::listen()?;
    let ranks = Ranks::join()?;
    let trained = train(&args, session, &interrupt, &ranks.peers);
    ranks.end(trained)
}

fn train(args: &Args, session: &mut Session, interrupt: &Interrupt, peers: &Arc<dyn Peers>) -> anyhow::Result<()> {
    let (Some(root), set) = (args.resume.as_ref().or(args.out.as_ref()), &args.set) else {
        usage!("say what to train and where: ferroflow train RECIPE --out RUN");
    };
    let open = || match (&args.resume, &args.branch, &args.recipe) {
        (Some(_), ..) => Run::resume(root, set),
        (None, Some(trunk), _) => Run::branch(trunk, root, args.over, set),
        (None, None, recipe) => Run::new(Recipe::open(recipe.as_deref().unwrap_or_default(), set)?, root),
    };
    // Ranks of one machine take a GPU of their own each, where nobody says which.
    let name = match peers.on_this_machine() {
        1 => args.device,
        _ => args.device.or_numbered(peers.rank_on_this_machine()),
    };
    // Before a folder is made.
    let device = device::open(name, args.precision, CpuOptions::default())?;
    let run = Run::among(peers.clone(), open).map_err(wrong_usage)?;
    let mut watch = Watch::new(run.recipe(), args.json);
    let outcome = run.train(&device, &interrupt.stop, &mut |event| watch.event(&event));
    watch.bar.finish_and_clear();
    let outcome = outcome.with_context(|| format!("{} stopped", root.display()))?;
    let ended = if outcome.finished { Ok(()) } else { Err(interrupt.stopped(&**peers).into()) };
    if peers.rank() > 0 {
        return ended;
    }
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&Output { run: root.display().to_string(), outcome })?)?;
        return ended;
    }
    let what = if outcome.finished { "done" } else { "stopped" };
    writeln!(session.out, "{what} after step {}; weights are in {}", outcome.step, root.join("weights").display())?;
    if !outcome.finished {
        writeln!(session.out, "go on with: ferroflow train --resume {}", root.display())?;
    }
    ended
}

/// Recipes and folders that are wrong are wrong usage; everything else is a failure of the run.
fn wrong_usage(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Recipe(RecipeError::Io { .. })
        | TrainError::Folder(FolderError::Io { .. } | FolderError::File(_) | FolderError::Running { .. }) => {
            error.into()
        }
        TrainError::Recipe(_) | TrainError::Folder(_) | TrainError::Init(InitError::Contradiction { .. }) => {
            UsageError(error.to_string()).into()
        }
        other => other.into(),
    }
}

/// Shows how a run goes: a bar on a terminal, a line for each line of the log elsewhere.
struct Watch<'a> {
    bar: ProgressBar,
    recipe: &'a Recipe,
    lines: bool,
    /// Where this program began, and where the last line was.
    start: Mark,
    last: Mark,
}

/// A step and when it was done.
#[derive(Clone, Copy)]
struct Mark {
    step: u64,
    at: Instant,
}

impl Mark {
    fn now(step: u64) -> Self {
        Self { step, at: Instant::now() }
    }

    /// Seconds a step took from here to there, if there was one.
    fn pace(self, to: Self) -> Option<f64> {
        let steps = to.step.checked_sub(self.step).filter(|&steps| steps > 0)?;
        Some((to.at - self.at).as_secs_f64() / steps as f64)
    }
}

impl<'a> Watch<'a> {
    fn new(recipe: &'a Recipe, json: bool) -> Self {
        let lines = !std::io::stderr().is_terminal();
        let bar = if json || lines { ProgressBar::hidden() } else { progress::training(recipe.steps) };
        Self { bar, recipe, lines, start: Mark::now(0), last: Mark::now(0) }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| note!("{text}"));
    }

    /// How long a step takes since `from`, and all that are left at the pace of the whole program.
    fn time(&self, from: Mark, now: Mark) -> String {
        let Some(pace) = from.pace(now) else { return String::new() };
        let left = self.recipe.steps.saturating_sub(now.step);
        let seconds = self.start.pace(now).unwrap_or(pace) * left as f64;
        let left = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
        format!("{pace:.3} s a step, {} left", indicatif::HumanDuration(left))
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { step, trained, random } => {
                (self.start, self.last) = (Mark::now(*step), Mark::now(*step));
                self.bar.set_position(*step);
                let from = match (*step, *random) {
                    (0, 0) => "from given weights".to_string(),
                    (0, arrays) => format!("{arrays} arrays of weights at random"),
                    (step, _) => format!("going on after step {step}"),
                };
                self.say(&format!("{}: {:.2} M values to train, {from}", self.recipe.model, *trained as f64 / 1e6));
            }
            Event::Step { step, loss, epe, lr, waiting, samples_per_second } => {
                self.bar.set_position(*step);
                let time = self.time(self.start, Mark::now(*step));
                self.bar.set_message(format!(
                    "loss {loss:.4}  {}lr {lr:.2e}  {time}  {samples_per_second:.1} pairs/s  waiting {:.0} %",
                    epe.map(|epe| format!("EPE {epe:.2} px  ")).unwrap_or_default(),
                    100.0 * waiting
                ));
            }
            Event::Logged(report) => {
                let now = Mark::now(report.step);
                if self.lines {
                    self.say(&format!(
                        "step {} of {}: loss {:.4}, {}rate {:.2e}, {}",
                        report.step,
                        self.recipe.steps,
                        report.loss,
                        report.epe.map(|epe| format!("EPE {epe:.3} px, ")).unwrap_or_default(),
                        report.lr,
                        self.time(self.last, now)
                    ));
                }
                self.last = now;
            }
            Event::Epoch { epoch, loss, lr, seconds_per_step } => {
                self.say(&format!("epoch {epoch}: loss {loss:.4}, rate {lr:.2e}, {seconds_per_step:.3} s a step"));
            }
            Event::Validated { step, scores, best } => {
                for score in *scores {
                    let best = if *best { ", the best so far" } else { "" };
                    self.say(&format!("step {step}: {score}{best}"));
                }
            }
            Event::Note(text) => self.say(text),
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            // A checkpoint is not worth a line.
            _ => {}
        }
    }
}

fn list(name: Option<&str>, json: bool, session: &mut Session) -> anyhow::Result<()> {
    if let Some(name) = name {
        let Some(recipe) = SHIPPED.iter().find(|r| r.name == name) else {
            return Err(wrong_usage(Recipe::open(name, &[""; 0]).err().map_or_else(
                || RecipeError::NoSuchRecipe(format!("{name} is a file, not one of the program's recipes")).into(),
                Into::into,
            )));
        };
        if json {
            let shown = serde_json::json!({ "name": recipe.name, "text": recipe.text });
            writeln!(session.out, "{shown}")?;
        } else {
            write!(session.out, "{}", recipe.text)?;
        }
        return Ok(());
    }
    if json {
        let listed: Vec<Listed> =
            SHIPPED.iter().map(|r| Listed { name: r.name, description: r.description() }).collect();
        writeln!(session.out, "{}", serde_json::to_string(&listed)?)?;
        return Ok(());
    }
    let width = SHIPPED.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for recipe in SHIPPED {
        writeln!(session.out, "{:<width$}  {}", recipe.name, recipe.description())?;
    }
    writeln!(session.out, "\n`ferroflow train --list NAME` prints one; copy it to make your own")?;
    Ok(())
}

fn draw(root: &Path, json: bool, session: &mut Session) -> anyhow::Result<()> {
    if root.is_dir() {
        plot::FILES.iter().try_for_each(|file| session.files.plan(root.join(file), "the curves"))?;
        session.files.prepare()?;
    }
    let files = plot::plot(root)?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    session.wrote(json, &files, format_args!("wrote {}", files.join("\nwrote ")))
}
