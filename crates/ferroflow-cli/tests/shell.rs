//! What a shell has of the program: completions, manual pages, quiet runs, results as JSON.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{Run, cli};
use serde_json::Value;

/// Standard output of another program, or `None`, said aloud, where it is not installed.
fn output(command: &mut Command) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
            Some(text(&output.stdout))
        }
        Err(_) => {
            println!("skipped: no {}", command.get_program().display());
            None
        }
    }
}

/// Runs a script in a shell of its own, without the user's settings.
fn shell(run: &Run, name: &str, options: &[&str], script: &str) -> Option<String> {
    output(Command::new(name).args(options).args(["-c", script]).env("HOME", run.path("")).current_dir(run.path("")))
}

fn write_completions(run: &Run, shell: &str) {
    fs::write(run.path("completions"), run.ok(&["completions", shell])).unwrap();
}

cli!(bash_completes_commands_and_options, |run| {
    write_completions(&run, "bash");
    let completed = |words: &str, last: usize| {
        let script = format!(
            "source ./completions && complete -p ferroflow >&2 && COMP_WORDS=({words}) COMP_CWORD={last} \
             && _ferroflow ferroflow \"${{COMP_WORDS[{last}]}}\" && echo \"${{COMPREPLY[@]}}\""
        );
        shell(&run, "bash", &["--norc", "--noprofile"], &script)
    };
    let Some(commands) = completed("ferroflow e", 1) else { return };
    assert_eq!(commands.split_whitespace().collect::<Vec<_>>(), ["estimate", "eval", "export"]);
    let options = completed("ferroflow estimate --vi", 2).unwrap();
    assert_eq!(options.trim(), "--viz");
    assert_eq!(completed("ferroflow weights im", 2).unwrap().trim(), "import");
});

cli!(zsh_takes_the_completions, |run| {
    write_completions(&run, "zsh");
    let script = "autoload -U compinit && compinit -u -D && source ./completions && print $_comps[ferroflow] && whence -w _ferroflow";
    let Some(text) = shell(&run, "zsh", &["-f"], script) else { return };
    assert_eq!(text.lines().collect::<Vec<_>>(), ["_ferroflow", "_ferroflow: function"]);
});

cli!(fish_completes_commands_and_options, |run| {
    write_completions(&run, "fish");
    let completed = |typed: &str| {
        shell(&run, "fish", &["--no-config"], &format!("source ./completions; complete --do-complete '{typed}'"))
    };
    let Some(commands) = completed("ferroflow esti") else { return };
    assert!(commands.starts_with("estimate\t"), "{commands}");
    assert!(completed("ferroflow estimate --vi").unwrap().starts_with("--viz\t"));
});

cli!(every_command_has_a_manual_page, |run| {
    let told: Value = serde_json::from_str(&run.ok(&["man", "pages/man1", "--json"])).unwrap();
    let pages = run.files("pages/man1");
    assert_eq!(told["pages"], pages.len());
    for page in ["ferroflow.1", "ferroflow-estimate.1", "ferroflow-weights-import.1"] {
        assert!(pages.contains(&page.to_string()), "{pages:?}");
    }
    assert!(run.fails(1, &["man", "pages/man1", "--no-clobber"]).contains("is there already"));
    // A system may have a script in its place that says that pages were left out.
    if !Command::new("man").arg("--version").output().is_ok_and(|said| said.stdout.starts_with(b"man ")) {
        println!("skipped: no man");
        return;
    }
    let mut man = Command::new("man");
    man.args(["-P", "cat", "ferroflow-estimate"]).env("MANPATH", run.path("pages")).env("MANWIDTH", "100");
    // Lines are filled with spaces.
    let page = output(&mut man).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("ferroflow-estimate - Estimate the flow of a pair"), "{page}");
    assert!(
        page.contains("ferroflow estimate frames/ -o flows/ --format kitti") && page.contains("--viz <PATH>"),
        "{page}"
    );
});

cli!(quiet_leaves_results_and_errors, |run| {
    run.write_frame("a.png", 40, 32, 0);
    run.write_frame("b.png", 40, 32, 1);
    let output = run.output(&["estimate", "a.png", "b.png", "-o", "f.flo", "--viz", "f.png", "-m", "dis", "--quiet"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    for args in [
        &["convert", "f.flo", "f.pfm", "-q"][..],
        &["viz", "f.flo", "-o", "g.png", "-q"],
        &["synth", "sdhom", "--count", "1", "--size", "32x32", "-o", "pairs", "-q"],
        &["weights", "random", "lightflow-0.5", "-o", "w.safetensors", "-q"],
    ] {
        assert_eq!(run.ok(args), "", "{args:?}");
    }
    // What was asked for stays.
    assert_eq!(run.ok(&["compare", "f.flo", "f.pfm", "-q"]), run.ok(&["compare", "f.flo", "f.pfm"]));
    assert!(run.ok(&["-q", "weights", "show", "w.safetensors"]).contains("lightflow-0.5"));
    assert!(run.fails(1, &["convert", "none.flo", "x.pfm", "-q"]).contains("none.flo"));
});

cli!(what_was_written_is_told_as_json, |run| {
    run.write_frame("a.png", 40, 32, 0);
    run.write_frame("b.png", 40, 32, 1);
    run.ok(&["estimate", "a.png", "b.png", "-o", "f.flo", "-m", "dis"]);
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors"]);
    // Quiet or not.
    let told = |args: &[&str]| -> Vec<Value> {
        let text = run.ok(&[args, &["--json", "-q"]].concat());
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}")))
            .collect()
    };
    let converted = told(&["convert", "f.flo", "f.pfm"]);
    assert_eq!((&converted[0]["file"], &converted[0]["size"]), (&"f.pfm".into(), &"32x40".into()));
    fs::rename(run.path("f.pfm"), run.path("g.pfm")).unwrap();
    let drawn = told(&["viz", "f.flo", "g.pfm", "-o", "pictures"]);
    assert_eq!((drawn.len(), &drawn[1]["flow"]), (2, &"g.pfm".into()));
    let made = told(&["synth", "sdhom", "--count", "2", "--size", "32x32", "-o", "pairs"]);
    assert_eq!((&made[0]["pairs"], &made[0]["size"]), (&2.into(), &"32x32".into()));
    assert!(told(&["data", "list"])[0].as_array().unwrap().iter().any(|set| set["name"] == "chairs"));
    let packed = told(&["data", "pack", "chairs:pairs", "-o", "shards"]);
    assert_eq!((&packed[0]["samples"], &packed[0]["written"]), (&2.into(), &1.into()));
    let split = told(&["data", "split", "chairs:pairs@split=0.5,seed=1,train", "-o", "split.txt"]);
    assert_eq!(split[0]["training"].as_u64().unwrap() + split[0]["held_out"].as_u64().unwrap(), 2);
    let exported = told(&["weights", "export", "w.safetensors", "--to", "mindspore", "-o", "w.ckpt"]);
    assert_eq!(exported[0]["files"][0], "w.ckpt");
    let imported = told(&["weights", "import", "w.ckpt", "-o", "back.safetensors"]);
    assert_eq!((&imported[0]["network"], &imported[0]["licence"]), (&"lightflow-0.5".into(), &Value::Null));
    assert_eq!(told(&["weights", "verify", "back.safetensors", "--source", "w.ckpt"])[0]["source"], "w.ckpt");
    assert_eq!(told(&["weights", "list"]).len(), 2);
    let onnx = told(&["export", "onnx", "-w", "w.safetensors", "-o", "w.onnx", "--size", "64x64", "--check"]);
    assert_eq!(onnx[0]["bytes"], fs::metadata(run.path("w.onnx")).unwrap().len());
    assert!(onnx[1]["largest_difference"].as_f64().unwrap() < 1e-3);
    assert_eq!(told(&["export", "inputs", "chairs:pairs", "-o", "prepared"])[0]["pairs"], 2);
    assert!(told(&["models", "lightflow", "--graph", "-o", "net.svg"])[0]["nodes"].as_u64().unwrap() > 50);
    run.fails(2, &["models", "lightflow", "--graph", "--json"]);
    assert!(told(&["train", "--list", "uflow-chairs"])[0]["text"].as_str().unwrap().contains("uflow"));
});
