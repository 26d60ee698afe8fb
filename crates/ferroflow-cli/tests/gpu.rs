//! `--device` with a GPU, Mesa's driver for processors included.

mod common;

use common::cli;

cli!(dis_is_for_the_processor, |run| {
    run.write_frame("a.png", 64, 48, 0);
    run.write_frame("b.png", 64, 48, 2);
    let text = run.fails(2, &["estimate", "a.png", "b.png", "-m", "dis", "--device", "vulkan", "-o", "out.flo"]);
    assert!(text.contains("dis computes on the processor"), "{text}");
    assert!(!run.path("out.flo").exists());
});

cli!(a_wrong_name_gets_the_right_ones, |run| {
    for wrong in ["abacus", "cpu:1", "vulkan:x"] {
        let text = run.fails(2, &["bench", "--device", wrong]);
        assert!(text.contains("vulkan:N"), "{text}");
    }
});

#[cfg(not(feature = "gpu"))]
cli!(a_build_without_gpus_says_how_to_get_one_with, |run| {
    run.write_frame("a.png", 64, 48, 0);
    for (device, how) in [("vulkan", "--features gpu"), ("metal:1", "--features gpu"), ("cuda:0", "folder `cuda`")] {
        let text = run.fails(2, &["estimate", "a.png", "a.png", "--device", device, "-o", "out.flo"]);
        assert!(text.contains("this build") && text.contains(how), "{text}");
    }
    assert!(run.fails(2, &["doctor", "--device", "vulkan"]).contains("--features gpu"));
    assert!(run.ok(&["doctor"]).contains("this build of the program has none"));
});

#[cfg(feature = "gpu")]
mod vulkan {
    use ferroflow::core::io;
    use serde_json::Value;

    use crate::common::cli;

    const RECIPE: &str = "model = 'pwcnet-sm'\ndata = 'synth:chairs@size=64x64'\nvalidate = 'synth:chairs@seed=2,size=64x64,count=1'\n\
                          steps = 3\nbatch = 2\ncrop = '64x64'\nlr = 1e-5\ncheckpoint_every = 2\naugment = 'none'\nloss = 'multiscale-epe'\nlog_every = 1\n";

    cli!(a_device_that_is_not_there_is_an_error, |run| {
        for args in [&["doctor", "--device", "vulkan:99"][..], &["bench", "-m", "pwcnet-sm", "--device", "vulkan:99"]] {
            let text = run.fails(1, args);
            assert!(text.contains("vulkan finds") && text.contains("driver"), "{text}");
        }
        let recipe = ["train", "lightflow-synth", "--out", "run", "--device", "vulkan:99"];
        run.fails(1, &recipe);
        assert!(!run.path("run").exists());
    });

    cli!(options_of_the_processor_are_refused, |run| {
        if !run.has_gpu() {
            return;
        }
        let text = run.fails(2, &["bench", "-m", "pwcnet-sm", "--device", "vulkan", "--exact"]);
        assert!(text.contains("--device cpu"), "{text}");
    });

    cli!(a_flow_is_that_of_the_processor, |run| {
        if !run.has_gpu() {
            return;
        }
        assert!(run.ok(&["doctor", "--device", "vulkan", "--size", "64x96"]).contains("gpu         vulkan:0: "));
        run.write_frame("a.png", 96, 64, 0);
        run.write_frame("b.png", 96, 64, 3);
        let flow = |device: &str| {
            let out = format!("{device}.flo");
            run.ok(&["estimate", "a.png", "b.png", "--device", device, "-o", &out]);
            io::read_flow(run.path(&out)).unwrap()
        };
        let (here, there) = (flow("cpu"), flow("vulkan"));
        assert_eq!(here.size(), there.size());
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let worst = off(here.u(), there.u()).max(off(here.v(), there.v()));
        println!("flows differ by at most {worst} px");
        assert!(worst < 1e-2, "{worst}");
    });

    cli!(a_run_loses_as_on_the_processor, |run| {
        if !run.has_gpu() {
            return;
        }
        std::fs::write(run.path("tiny.toml"), RECIPE).unwrap();
        let losses = |device: &str| -> Vec<f64> {
            run.ok(&["train", "tiny.toml", "--out", device, "--device", device]);
            let log = std::fs::read_to_string(run.path(device).join("log.jsonl")).unwrap();
            let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.filter_map(|line| line["loss"].as_f64()).collect()
        };
        let (here, there) = (losses("cpu"), losses("vulkan"));
        println!("{here:?} {there:?}");
        assert_eq!((here.len(), there.len()), (3, 3));
        for (a, b) in here.iter().zip(&there) {
            assert!((a - b).abs() < 1e-3 * a.abs(), "{here:?} {there:?}");
        }
    });

    cli!(its_speed_is_measured, |run| {
        if !run.has_gpu() {
            return;
        }
        let bench = ["bench", "-m", "lightflow", "--device", "vulkan", "--size", "64x64", "--loop", "1", "--json"];
        let report: Value = serde_json::from_str(&run.ok(&bench)).unwrap();
        assert_eq!(report["device"], "vulkan");
        assert!(report["device_memory_bytes"].as_u64().unwrap() > 0);
    });
}
