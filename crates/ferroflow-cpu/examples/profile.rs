//! Prints what a network's plan does and how long each step takes, with random weights.
//!
//! `cargo run --release -p ferroflow-cpu --example profile -- pwcnet 448 1024 10`

use std::time::Instant;

use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::{Model, graph::Sizes, weights::Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("flownet2-s", String::as_str);
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |a| a.parse());
    let (height, width, runs) = (number(1, 448)?, number(2, 1024)?, number(3, 10)?);

    let model = Model::named(name)?;
    let weights = Weights::random(&model.graph, 1);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let start = Instant::now();
    let options = Options { profile: true, ..Options::default() };
    let mut plan = Plan::new(&model.graph, &weights, Sizes::new(1, height, width), &options)?;
    let planned = start.elapsed();

    let frame: Vec<u8> = (0..height * width * 3).map(|i| (i * 7919 % 256) as u8).collect();
    let mut flow = vec![0.0; 2 * height * width];
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        plan.run(Pixels::Rgb(&[&frame]), Pixels::Rgb(&[&frame]), &mut flow)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    print!("{}", plan.profile());
    seconds.sort_by(f64::total_cmp);
    println!(
        "planned in {:.2} s; fastest run {:.1} ms, median {:.1} ms",
        planned.as_secs_f64(),
        1e3 * seconds[0],
        1e3 * seconds[seconds.len() / 2]
    );
    Ok(())
}
