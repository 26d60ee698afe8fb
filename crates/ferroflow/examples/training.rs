//! Training on data of one's own, and estimating with what came of it.
//!
//!     cargo run --release -p ferroflow --example training -- runs/mine pairs.tsv
//!
//! `pairs.tsv` is a table: the first line names the columns `image1`, `image2` and `flow` between tabs, each other one names
//! three files relative to it. Without it the example trains on pairs that the program makes.

use std::{
    env,
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use ferroflow::{Cpu, Device, Error, Estimator, Recipe, Run, train::Event};

/// What `ferroflow train` reads too; `ferroflow train --list default` prints one that explains itself.
const RECIPE: &str = r#"
    model = "lightflow-0.5"
    loss = "lightflow-l2"
    steps = 200
    batch = 4
    crop = "64x64"
    augment = "crop"
    lr = 1e-3
    clip = 10.0
    log_every = 20
"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (run, data) = match &arguments[..] {
        [run] => (run, "synth:chairs@seed=1,size=96x128,count=64".to_string()),
        [run, table] => (run, format!("pairs:{table}")),
        _ => {
            eprintln!("usage: training RUN [PAIRS.tsv]");
            return ExitCode::from(2);
        }
    };
    match train(Path::new(run), &data) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn train(folder: &Path, data: &str) -> Result<(), Error> {
    // TOML's literal strings leave backslashes of paths as they are.
    let recipe = Recipe::parse("training", RECIPE, &[format!("data='{data}'")])?;
    let run = Run::new(recipe, folder)?;
    let cpu: Arc<dyn Device> = Arc::new(Cpu::default());
    // Set by another thread, it would save and stop; `Run::resume` goes on from there to the same weights.
    let stop = AtomicBool::new(false);
    let outcome = run.train(&cpu, &stop, &mut |event| {
        if let Event::Logged(report) = event {
            let epe = report.epe.unwrap_or(f64::NAN);
            println!("step {}: loss {:.3}, mean end-point error {epe:.2} px", report.step, report.loss);
        }
    })?;
    let weights = folder.join("weights/last.safetensors");
    println!("{} steps; {}", outcome.step, Estimator::open(&weights)?.describe());
    Ok(())
}
