//! Times the convolutions of the networks: `cargo run --release --example conv_table -- [LAYER] [ALGORITHM] [THREADS]`.
//!
//! Without ALGORITHM: the one chosen. With `all`: every one there is. Else those whose name contains it. THREADS is a
//! list, `1,2` if not given. Each figure is the best of some runs; beside it the micro-kernel's rate in cache at that
//! moment, because clocks and neighbours change.

#[path = "../benches/layers/mod.rs"]
mod layers;

use std::time::Instant;

use ferroflow_kernels::{
    Isa,
    conv::{ConvPlan, Options},
    gemm,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize, default: &str| arguments.get(i).cloned().unwrap_or(default.into());
    let (filter, wanted) = (argument(0, ""), argument(1, ""));
    let isa = Isa::detect();
    println!(
        "{:<26} {:<18} {:>7} {:>9} {:>8} {:>6} {:>8}",
        "layer", "algorithm", "threads", "ms", "GFLOP/s", "peak", "MB"
    );
    for bench in layers::layers(&filter) {
        for threads in argument(2, "1,2").split(',').map(|t| t.parse().expect("THREADS: a list of numbers")) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            let options = Options { isa, threads, ..Options::default() };
            let names = ConvPlan::algorithms(&bench.layer(), options);
            let chosen = names.iter().enumerate().filter(|(i, name)| match wanted.as_str() {
                "" => *i == 0,
                "all" => *name != "reference",
                part => name.contains(part),
            });
            for (_, name) in chosen {
                let plan = bench.plan(Options { algorithm: Some(name.clone().leak()), ..options });
                let seconds = pool.install(|| {
                    bench.run(&plan, |once| {
                        once();
                        let begin = Instant::now();
                        let mut best = f64::MAX;
                        let mut runs = 0;
                        while runs < 5 || begin.elapsed().as_secs_f64() < 0.3 {
                            let start = Instant::now();
                            once();
                            best = best.min(start.elapsed().as_secs_f64());
                            runs += 1;
                        }
                        best
                    })
                });
                println!(
                    "{:<26} {name:<18} {threads:>7} {:>9.2} {:>8.0} {:>6.0} {:>8.1}",
                    bench.name,
                    1e3 * seconds,
                    bench.shape.flop(bench.input) / seconds / 1e9,
                    gemm::peak(isa) / 1e9,
                    plan.weight_bytes() as f64 / 1e6,
                );
            }
        }
    }
}
