//! Every network learns eight pairs by heart: the whole chain from data to weights works, whatever the network.

use std::sync::{Arc, atomic::AtomicBool};

use ferroflow_cpu::Cpu;
use ferroflow_net::{Model, device::Device};
use ferroflow_train::{Event, Recipe, Run};

/// Trains until the mean end-point error of a step, over all eight pairs, is below 1 px; gives the step.
fn overfit(model: &str, lr: f64, steps: u64) -> Result<u64, String> {
    let text = format!(
        "model = \"{model}\"\ndata = \"synth:chairs@seed=5,size=64x64,count=8\"\nsteps = {steps}\nbatch = 8\n\
         crop = \"64x64\"\naugment = \"none\"\nlr = {lr}\nclip = 10.0\nlog_every = 5\nloss = \"{}\"\n",
        if model.starts_with("lightflow") { "lightflow-l2" } else { "epe" }
    );
    let recipe = Recipe::parse::<&str>("overfit", &text, &[]).map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let run = Run::new(recipe, &folder.path().join("run")).map_err(|e| e.to_string())?;
    let stop = AtomicBool::new(false);
    let (mut reached, mut best) = (None, f64::INFINITY);
    let device: Arc<dyn Device> = Arc::new(Cpu::default());
    run.train(&device, &stop, &mut |event| {
        if let Event::Step { step, epe: Some(epe), .. } = event {
            best = best.min(epe);
            if step % 50 == 0 {
                println!("{model}: step {step}, {epe:.2} px");
            }
            if epe < 1.0 && reached.is_none() {
                reached = Some(step);
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .map_err(|e| format!("{model}: {e}"))?;
    match reached {
        Some(step) => {
            println!("{model}: below 1 px after {step} steps");
            Ok(step)
        }
        None => Err(format!("{model}: {best:.2} px at best in {steps} steps")),
    }
}

#[test]
fn a_small_network() {
    overfit("lightflow-0.5", 3e-2, 800).unwrap();
}

/// One after the other; `FERROFLOW_OVERFIT` names some of them.
#[test]
#[ignore = "hours on two cores"]
fn every_network() {
    let chosen = std::env::var("FERROFLOW_OVERFIT").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    let networks = Model::names().filter(|name| chosen.is_empty() || chosen.contains(name));
    let failed: Vec<String> = networks
        .filter_map(|name| {
            // What has batch norm learns fast at a high rate; deep stacks without it want a low one.
            let lr = match name {
                _ if name.starts_with("lightflow") => 3e-2,
                _ if name.starts_with("flownet2") && !name.ends_with("-bn") => 1e-4,
                _ => 3e-4,
            };
            overfit(name, lr, 3000).err()
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
