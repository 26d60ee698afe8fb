//! Inputs that were damaged, hostile or merely unusual when somebody met them: one test for each folder of
//! `../shared/cases`, named after it. Where the folder, or the program it needs, is not there, a test says that it skips.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use ferroflow::core::{FlowField, Size, io};
use tempfile::TempDir;

/// A file or folder of a case.
fn case(name: &str) -> Option<PathBuf> {
    ferroflow_testing::shared(&format!("cases/{name}"))?.canonicalize().ok()
}

fn ferroflow(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferroflow"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs to the end, or a minute.
fn run(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Runs and wants success; returns what it said on standard error.
fn succeeds(command: Command) -> String {
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Runs and wants an error of the data; returns what it said.
fn fails(command: Command) -> String {
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The flows of a folder, by name.
fn flows(folder: &Path) -> Vec<FlowField> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| io::read_flow(path).unwrap()).collect()
}

fn median_u(flow: &FlowField) -> f32 {
    let mut u = flow.u().to_vec();
    u.sort_by(f32::total_cmp);
    u[u.len() / 2]
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn here() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        println!("skipped: there is no ffmpeg");
    }
    found
}

#[test]
fn apple_double() {
    let (Some(frames), dir) = (case("apple-double/mac"), here()) else { return };
    succeeds(ferroflow(&["estimate", text(&frames), "-o", "out"], dir.path()));
    assert_eq!(flows(&dir.path().join("out")).len(), 1);
    let hidden = frames.join("._f0.png");
    let error = fails(ferroflow(&["estimate", text(&hidden), text(&hidden), "-o", "x.flo"], dir.path()));
    assert!(error.contains("AppleDouble"), "{error}");
}

#[test]
fn jpeg_cut_with_thumbnail() {
    let (Some(cut), dir) = (case("jpeg-cut-with-thumbnail/cut.jpg"), here()) else { return };
    let error = fails(ferroflow(&["estimate", text(&cut), text(&cut), "-o", "x.flo"], dir.path()));
    assert!(error.contains("cut.jpg") && error.contains("end marker is missing"), "{error}");
    assert!(!dir.path().join("x.flo").exists());
}

#[test]
fn pfm_headers() {
    let (Some(folder), dir) = (case("pfm-headers"), here()) else { return };
    let read = ["comm.pfm", "sp.pfm", "trail.pfm"].map(|name| {
        succeeds(ferroflow(&["convert", text(&folder.join(name)), "o.flo"], dir.path()));
        io::read_flow(dir.path().join("o.flo")).unwrap()
    });
    assert_eq!((read[0].width(), read[0].height()), (7, 5));
    assert!(read[0] == read[1] && read[1] == read[2]);
}

#[test]
fn video_10bit() {
    let (Some(video), dir) = (case("video-10bit/h10.mp4").filter(|_| has_ffmpeg()), here()) else { return };
    succeeds(ferroflow(&["estimate", text(&video), "-o", "out"], dir.path()));
    let flows = flows(&dir.path().join("out"));
    assert_eq!(flows.len(), 7);
    // Of a picture that moves by 3 px.
    let medians: Vec<f32> = flows.iter().map(median_u).collect();
    assert!(medians.iter().all(|u| (u - 3.0).abs() < 0.2), "{medians:?}");
}

#[test]
fn video_corrupt_middle() {
    let (Some(video), dir) = (case("video-corrupt-middle/cor2.mkv").filter(|_| has_ffmpeg()), here()) else { return };
    let error = fails(ferroflow(&["estimate", text(&video), "-o", "out"], dir.path()));
    assert!(error.contains("cor2.mkv") && error.contains("ffmpeg"), "{error}");
}

/// `ffmpeg` as it was before 5.1: without `-fps_mode`.
#[cfg(unix)]
#[test]
fn video_ffmpeg_4() {
    let (Some(video), dir) = (case("video-ffmpeg-4/a.mp4").filter(|_| has_ffmpeg()), here()) else { return };
    let older = dir.path().join("bin");
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\nfor arg; do\n  case $arg in\n    -fps_mode) echo 'Option not found' >&2; exit 1;;\n    \
         -h) ffmpeg \"$@\" | grep -v fps_mode; exit;;\n  esac\ndone\nexec ffmpeg \"$@\"\n"
    );
    executable(&older.join("ffmpeg"), &script);
    for folder in [&older, Path::new("")] {
        let mut command = ferroflow(&["estimate", text(&video), "-o", "out"], dir.path());
        command.env("PATH", format!("{}:{path}", folder.display()));
        succeeds(command);
        assert_eq!(flows(&dir.path().join("out")).len(), 7);
    }
}

#[cfg(unix)]
fn executable(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that says much while it gives frames: nobody must wait for it to be heard.
#[cfg(unix)]
#[test]
fn attack_ffmpeg_that_talks() {
    let dir = here();
    let noise = "x".repeat(20_000);
    let frame = r"printf 'P6\n16 16\n255\n'; head -c 768 /dev/zero";
    let script = format!("#!/bin/sh\nfor i in 1 2 3 4 5; do {frame}; echo {noise} >&2; done\n");
    executable(&dir.path().join("bin/ffmpeg"), &script);
    fs::write(dir.path().join("any.mp4"), []).unwrap();
    let path = std::env::var("PATH").unwrap();
    let ours = dir.path().join("bin");
    let given = case("attack/fakebin").filter(|_| Path::new("/usr/bin/python3").exists());
    for folder in [Some(ours), given].into_iter().flatten() {
        let mut command = ferroflow(&["estimate", "any.mp4", "-o", "o"], dir.path());
        command.env("PATH", format!("{}:{path}", folder.display()));
        let said = succeeds(command);
        assert!(said.contains("ffmpeg says: xxx") && said.len() < 2000, "{said}");
        assert_eq!(flows(&dir.path().join("o")).len(), 4);
        fs::remove_dir_all(dir.path().join("o")).unwrap();
    }
}

/// A stream whose writer died is not a shorter video.
#[cfg(unix)]
#[test]
fn attack_stream_cut_inside_a_frame() {
    let dir = here();
    let frame = [b"FRAME\n".as_slice(), &[100; 32 * 24]].concat();
    let whole = [b"YUV4MPEG2 W32 H24 F25:1 Cmono\n".as_slice(), &frame, &frame, &frame].concat();
    fs::write(dir.path().join("whole.y4m"), &whole).unwrap();
    fs::write(dir.path().join("cut.y4m"), &whole[..whole.len() - 1]).unwrap();
    let piped = |name: &str| {
        let mut command = ferroflow(&["estimate", "-", "-o", "out"], dir.path());
        command.stdin(fs::File::open(dir.path().join(name)).unwrap());
        command
    };
    succeeds(piped("whole.y4m"));
    for command in [piped("cut.y4m"), ferroflow(&["estimate", "cut.y4m", "-o", "out"], dir.path())] {
        let error = fails(command);
        assert!(error.contains("frame 2") && error.contains("ends inside"), "{error}");
    }
}

/// Estimating it whole would take 17 GB; `ulimit` says that there are 6.
#[cfg(target_os = "linux")]
#[test]
fn attack_bomb() {
    let (Some(bomb), dir) = (case("attack/bomb-18000x18000.png"), here()) else { return };
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -v 6000000; exec \"$0\" \"$@\"").arg(env!("CARGO_BIN_EXE_ferroflow"));
    command.args(["estimate", text(&bomb), text(&bomb), "-o", "x.flo"]).current_dir(dir.path());
    let error = fails(command);
    assert!(error.contains("18000x18000") && error.contains("GiB") && error.contains("--tile"), "{error}");
}

#[test]
fn attack_score_overflow() {
    let (Some(folder), dir) = (case("attack/score-overflow"), here()) else { return };
    let outputs = folder.join("gt");
    let error = fails(ferroflow(&["score", text(&folder), "--outputs", text(&outputs)], dir.path()));
    assert!(error.contains("pairs.json") && error.contains("2147483648"), "{error}");
}

#[test]
fn numbers_beyond_sense() {
    let dir = here();
    for args in [
        &["estimate", "a.png", "b.png", "--threads", "100000"][..],
        &["estimate", "a", "-o", "b", "--batch", "18446744073709551615"],
        &["export", "inputs", "synth:chairs@count=2", "-o", "o", "--stride", "0"],
        &["export", "inputs", "synth:chairs@count=2", "-o", "o", "--stride", "9223372036854775808"],
        &["export", "inputs", "synth:chairs@count=2", "-o", "o", "--batch", "9223372036854775808"],
        &["data", "bench", "synth:chairs@count=2", "--workers", "100000"],
        &["bench", "-m", "dis", "--runs", "99999999999"],
    ] {
        let output = run(ferroflow(args, dir.path()));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains("whole number from"), "{args:?}: {text}");
    }
    let large = (&["data", "info", "synth:chairs@size=65535x65535,count=1"][..], "size=");
    let known = ferroflow::core::memory::available().is_some();
    for (args, word) in [
        (&["data", "info", "synth:chairs@count=18446744073709551615"][..], "count="),
        (&["data", "pack", "synth:chairs@count=2,size=64x64", "-o", "p", "--num-shards", "1000000"], "2 samples"),
    ]
    .into_iter()
    .chain(known.then_some(large))
    {
        let output = run(ferroflow(args, dir.path()));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(word), "{args:?}: {error}");
    }
}

#[test]
fn training_that_does_not_fit_is_refused_before_it_begins() {
    if ferroflow::core::memory::available().is_none() {
        eprintln!("skipped: this system does not say how much memory there is");
        return;
    }
    let dir = here();
    let changes = ["batch=4096", "crop=1024x1024", "data=synth:chairs@size=1024x1024", "pretrain=[]", "validate="];
    let mut args = vec!["train", "lightflow-synth", "--out", "run"];
    args.extend(changes.iter().flat_map(|change| ["--set", change]));
    let output = run(ferroflow(&args, dir.path()));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("of memory") && error.contains("make batch smaller"), "{error}");
    assert!(!dir.path().join("run").exists(), "a start that fails leaves no folder");
}

#[test]
fn an_animation_is_a_video_and_a_gap_is_told() {
    let dir = here();
    let frame = |i: usize| {
        let value = move |x: usize, y: usize| [(3 * x + 5 * y + 9 * i) as u8; 3];
        ferroflow::core::Frame::from_fn(Size::new(24, 32), value)
    };
    fs::create_dir(dir.path().join("frames")).unwrap();
    for i in [1, 2, 3, 7] {
        io::write_frame(dir.path().join(format!("frames/f{i}.png")), &frame(i)).unwrap();
    }
    let said = succeeds(ferroflow(&["estimate", "frames", "-o", "out"], dir.path()));
    assert!(said.contains("3 frames are missing between f3.png and f7.png"), "{said}");
    // A list made by a program that begins its files with a byte-order mark.
    fs::write(dir.path().join("list.txt"), b"\xef\xbb\xbfframes/f1.png\tframes/f2.png\r\n").unwrap();
    succeeds(ferroflow(&["estimate", "list.txt", "-o", "listed"], dir.path()));
    assert_eq!(flows(&dir.path().join("listed")).len(), 1);
    // Two pictures of 32x24, the second one all of one colour.
    fs::write(dir.path().join("a.gif"), gif()).unwrap();
    succeeds(ferroflow(&["estimate", "a.gif", "-o", "moved"], dir.path()));
    assert_eq!(flows(&dir.path().join("moved")).len(), 1);
}

/// An animated GIF of two pictures of 32x24 pixels, written by hand: a palette of two colours, and codes of three bits that
/// are reset before the table grows.
fn gif() -> Vec<u8> {
    let mut bytes = b"GIF89a\x20\0\x18\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    for colour in [0u32, 1] {
        bytes.extend(b"\x2c\0\0\0\0\x20\0\x18\0\0\x02");
        // A clear code (4) before every two pixels, and an end (5).
        let codes = (0..32 * 24).flat_map(|i| if i % 2 == 0 { vec![4, colour] } else { vec![colour] }).chain([5]);
        let (mut packed, mut held, mut bits) = (Vec::new(), 0u32, 0);
        for code in codes {
            held |= code << bits;
            bits += 3;
            while bits >= 8 {
                packed.push(held as u8);
                (held, bits) = (held >> 8, bits - 8);
            }
        }
        packed.push(held as u8);
        for block in packed.chunks(255) {
            bytes.push(block.len() as u8);
            bytes.extend(block);
        }
        bytes.push(0);
    }
    bytes.push(0x3b);
    bytes
}
