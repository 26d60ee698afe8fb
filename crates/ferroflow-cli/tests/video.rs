//! Videos go in and come out.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use common::{Run, cli};
use ferroflow::core::{Frame, io};
use ferroflow::data::{
    sequence::{Reading, video},
    video::{Rate, rate_of},
};

/// A video in grey whose pattern moves right, slowly and then fast.
fn write_video(run: &Run, name: &str, frames: usize) {
    let mut bytes = b"YUV4MPEG2 W97 H65 F30000:1001 Cmono\n".to_vec();
    let mut shift = 0.0;
    for t in 0..frames {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend((0..97 * 65).map(|i| {
            let (x, y) = ((i % 97) as f32 - shift, (i / 97) as f32);
            (128.0 + 30.0 * ((0.31 * x).sin() + (0.27 * y + 0.05 * x).cos() + (0.11 * (x + 2.0 * y)).sin())) as u8
        }));
        shift += if t < frames / 2 { 1.0 } else { 3.0 };
    }
    fs::write(run.path(name), bytes).unwrap();
}

fn read(path: &Path) -> Vec<Frame> {
    video(path, &Reading::default()).unwrap().map(|frame| (*frame.unwrap().frame).clone()).collect()
}

/// The brightest and the darkest colour channel of the middle: how strong its colour is.
fn strength(frame: &Frame, x: usize) -> u8 {
    let pixel = frame.pixel(x, 32);
    pixel.iter().max().unwrap() - pixel.iter().min().unwrap()
}

fn has_ffmpeg() -> bool {
    let there = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !there {
        println!("skipped: no ffmpeg");
    }
    there
}

cli!(a_video_has_as_many_pictures_as_frames_and_one_scale, |run| {
    write_video(&run, "in.y4m", 20);
    run.ok(&["estimate", "in.y4m", "-m", "dis", "--viz", "new/out.y4m", "-o", "flows"]);
    let pictures = read(&run.path("new/out.y4m"));
    assert_eq!((pictures.len(), pictures[0].width(), pictures[0].height()), (20, 97, 65));
    assert_eq!(rate_of(&run.path("new/out.y4m")), rate_of(&run.path("in.y4m")));
    assert_eq!(run.files("flows").len(), 19);
    // The last picture stays. Slow motion is pale beside fast motion, within one scale.
    assert_eq!(pictures[18], pictures[19]);
    let (slow, fast) = (strength(&pictures[3], 48), strength(&pictures[16], 48));
    assert!(fast > 150 && slow < fast / 2 && slow > fast / 5, "{slow} {fast}");
    // Each picture in its own scale.
    run.ok(&["estimate", "in.y4m", "-m", "dis", "--viz", "own.y4m", "--norm", "p99"]);
    assert!(strength(&read(&run.path("own.y4m"))[3], 48) > 150);
    // A part of it, at another pace.
    run.ok(&[
        "estimate", "in.y4m", "-m", "dis", "--viz", "part.y4m", "--limit", "4", "--fps", "10", "--norm", "fixed:3",
    ]);
    assert_eq!(read(&run.path("part.y4m")).len(), 5);
    assert_eq!(rate_of(&run.path("part.y4m")), Some("10".parse::<Rate>().unwrap()));
    let error = run.fails(1, &["estimate", "in.y4m", "-m", "dis", "--viz", "own.y4m", "--no-clobber"]);
    assert!(error.contains("own.y4m is there already"), "{error}");
});

cli!(frames_stand_beside_above_or_below_their_flow, |run| {
    write_video(&run, "in.y4m", 4);
    let frames = read(&run.path("in.y4m"));
    let made = |options: &[&str]| {
        run.ok(&[&["estimate", "in.y4m", "-m", "dis", "--viz", "out.y4m"], options].concat());
        read(&run.path("out.y4m"))
    };
    // Frame 1 of each pair, and the last frame with the picture that stays; rounded on the way to the file and back.
    let near = |a: [u8; 3], b: [u8; 3]| (0..3).all(|c| a[c].abs_diff(b[c]) <= 4);
    let alone = made(&[]);
    let beside = made(&["--side-by-side"]);
    assert_eq!((beside.len(), beside[0].width(), beside[0].height()), (4, 194, 65));
    for t in 0..4 {
        assert!(near(beside[t].pixel(40, 20), frames[t].pixel(40, 20)), "{t}");
        assert!(near(beside[t].pixel(97 + 40, 20), alone[t].pixel(40, 20)), "{t}");
    }
    let stacked = made(&["--stacked"]);
    assert_eq!((stacked[0].width(), stacked[0].height()), (97, 130));
    assert!(near(stacked[3].pixel(40, 20), frames[3].pixel(40, 20)));
    assert!(near(stacked[3].pixel(40, 85), alone[3].pixel(40, 20)));
    let over = made(&["--blend", "0.25"]);
    let (below, above) = (frames[1].pixel(40, 20), alone[1].pixel(40, 20));
    let mixed = [0, 1, 2].map(|c| (0.75 * f32::from(below[c]) + 0.25 * f32::from(above[c])) as u8);
    assert!(near(over[1].pixel(40, 20), mixed), "{:?} {mixed:?}", over[1].pixel(40, 20));
    assert_eq!(made(&["--style", "arrows"]).len(), 4);
    run.fails(2, &["estimate", "in.y4m", "--viz", "x.y4m", "--side-by-side", "--stacked"]);
    run.fails(2, &["estimate", "in.y4m", "--viz", "x.y4m", "--blend", "2"]);
    // Pictures of a pair too.
    run.write_frame("a.png", 40, 32, 0);
    run.write_frame("b.png", 40, 32, 1);
    run.ok(&["estimate", "a.png", "b.png", "-m", "dis", "--viz", "pair.png", "--side-by-side"]);
    assert_eq!(ferroflow::core::io::read_frame(run.path("pair.png")).unwrap().width(), 80);
});

cli!(a_stream_goes_through, |run| {
    write_video(&run, "in.y4m", 6);
    let through = |name: &str, input: Stdio| {
        let out = fs::File::create(run.path(name)).unwrap();
        let path = if name == "piped.y4m" { "-" } else { "in.y4m" };
        let mut command = run.command(&["estimate", path, "-m", "dis", "--viz", "-", "--norm", "fixed:3"]);
        assert!(command.stdin(input).stdout(out).status().unwrap().success());
        read(&run.path(name))
    };
    let named = through("named.y4m", Stdio::null());
    let piped = through("piped.y4m", fs::File::open(run.path("in.y4m")).unwrap().into());
    assert_eq!(named.len(), 6);
    assert_eq!(named, piped);
    assert_eq!(fs::read(run.path("named.y4m")).unwrap(), fs::read(run.path("piped.y4m")).unwrap());
    assert_eq!(rate_of(&run.path("piped.y4m")), rate_of(&run.path("in.y4m")));
    assert!(run.fails(2, &["estimate", "in.y4m", "--viz", "-", "--json"]).contains("standard output"));
});

cli!(what_looks_like_a_file_never_becomes_a_folder, |run| {
    write_video(&run, "in.y4m", 3);
    for (args, hint) in [
        (&["-o", "out.flo"][..], "--format"),
        (&["-o", "out.mp4"], "--viz out.mp4"),
        (&["--viz", "out.png"], "out.mp4"),
        (&["--viz", "pictures", "--fps", "3"], "--fps"),
    ] {
        let error = run.fails(2, &[&["estimate", "in.y4m", "-m", "dis"], args].concat());
        assert!(error.contains(hint), "{args:?}: {error}");
    }
    assert_eq!(run.files(""), ["in.y4m"]);
    // A folder that is there is one, whatever it is called.
    fs::create_dir(run.path("out.flo")).unwrap();
    run.ok(&["estimate", "in.y4m", "-m", "dis", "-o", "out.flo"]);
    assert_eq!(run.files("out.flo").len(), 2);
});

cli!(videos_of_other_kinds_are_written_by_ffmpeg, |run| {
    write_video(&run, "in.y4m", 9);
    if !has_ffmpeg() {
        let error = run.fails(1, &["estimate", "in.y4m", "-m", "dis", "--viz", "out.mp4"]);
        assert!(error.contains("ffmpeg") && error.contains(".y4m"), "{error}");
        return;
    }
    for name in ["out.mp4", "out.gif", "out.mkv"] {
        run.ok(&["estimate", "in.y4m", "-m", "dis", "--viz", name, "--side-by-side"]);
        let pictures = read(&run.path(name));
        let height = if name == "out.gif" { 65 } else { 66 };
        assert_eq!((pictures.len(), pictures[0].width(), pictures[0].height()), (9, 194, height), "{name}");
    }
    assert_eq!(rate_of(&run.path("out.mp4")), rate_of(&run.path("in.y4m")));
    // Sound stays, whatever the container makes of it.
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-i",
            "in.y4m",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:duration=0.3",
            "-c:v",
            "mpeg4",
            "sound.mp4",
        ])
        .current_dir(run.path(""))
        .status();
    assert!(made.unwrap().success());
    for name in ["with.mp4", "with.mkv"] {
        run.ok(&["estimate", "sound.mp4", "-m", "dis", "--viz", name]);
        let said =
            Command::new("ffmpeg").args(["-hide_banner", "-i", name]).current_dir(run.path("")).output().unwrap();
        assert!(String::from_utf8_lossy(&said.stderr).contains("Audio:"), "{name}");
        assert_eq!(read(&run.path(name)).len(), 9, "{name}");
    }
    assert!(run.files("").iter().all(|name| !name.starts_with('.')));
});

cli!(flow_streams_to_another_program, |run| {
    write_video(&run, "in.y4m", 5);
    run.ok(&["estimate", "in.y4m", "-m", "dis", "-o", "flows"]);
    let flow = |index: usize| fs::read(run.path(&format!("flows/{index:06}.flo"))).unwrap();
    let streamed = run.output(&["estimate", "in.y4m", "-m", "dis", "-o", "-"]);
    assert!(streamed.status.success());
    assert_eq!(streamed.stdout, (0..4).flat_map(flow).collect::<Vec<u8>>());
    assert!(String::from_utf8(streamed.stderr).unwrap().contains("pairs a second"));
    let arrays = run.output(&["estimate", "in.y4m", "-m", "dis", "-o", "-", "--format", "npy", "-q"]);
    let one = arrays.stdout.len() / 4;
    for (index, bytes) in arrays.stdout.chunks(one).enumerate() {
        assert_eq!(io::npy::decode(bytes).unwrap(), io::flo::decode(&flow(index)).unwrap());
    }
    assert!(arrays.stderr.is_empty());
    // A single pair too, and pictures beside it.
    run.write_frame("a.png", 64, 48, 0);
    run.write_frame("b.png", 64, 48, 2);
    let pair = run.output(&["estimate", "a.png", "b.png", "-m", "dis", "-o", "-", "--viz", "flow.png"]);
    assert_eq!(io::flo::decode(&pair.stdout).unwrap().width(), 64);
    assert!(run.path("flow.png").exists());
    for wrong in [["--json"].as_slice(), &["--viz", "-"], &["--bidirectional"], &["--format", "kitti"]] {
        run.fails(2, &[&["estimate", "in.y4m", "-m", "dis", "-o", "-"], wrong].concat());
    }
    assert!(!run.path("-").exists());
    // Whoever has seen enough leaves: that is no failure.
    let mut child =
        run.command(&["estimate", "in.y4m", "-m", "dis", "-o", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
});

// What GUIDE tells readers in Python to do.
cli!(python_reads_a_stream_of_flow, |run| {
    let python =
        |code: &str| Command::new("python3").args(["-c", code]).output().is_ok_and(|said| said.status.success());
    if !python("import numpy") {
        println!("skipped: no python3 with numpy");
        return;
    }
    write_video(&run, "in.y4m", 4);
    let guide = include_str!("../../../GUIDE.md");
    let begin = guide.find("    import struct, sys, numpy").unwrap();
    let code: String =
        guide[begin..].lines().take_while(|line| line.starts_with("    ")).map(|l| l[4..].to_string() + "\n").collect();
    let flows = run.output(&["estimate", "in.y4m", "-m", "dis", "-o", "-"]).stdout;
    fs::write(run.path("flows"), flows).unwrap();
    let input = fs::File::open(run.path("flows")).unwrap();
    let said = Command::new("python3").args(["-c", &code]).stdin(input).output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap().lines().count(), 3, "{}", String::from_utf8_lossy(&said.stderr));
});

cli!(a_rotated_video_is_shown_upright, |run| {
    if !has_ffmpeg() {
        return;
    }
    write_video(&run, "in.y4m", 6);
    let ffmpeg = |args: &[&str]| {
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-y"])
            .args(args)
            .current_dir(run.path(""))
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    };
    assert!(ffmpeg(&["-i", "in.y4m", "-vf", "crop=96:64", "-pix_fmt", "yuv420p", "flat.mp4"]));
    // From version 6 on, and before.
    let turned = ffmpeg(&["-display_rotation", "90", "-i", "flat.mp4", "-c", "copy", "turned.mp4"])
        || ffmpeg(&["-i", "flat.mp4", "-c", "copy", "-metadata:s:v", "rotate=90", "turned.mp4"]);
    assert!(turned);
    run.ok(&["estimate", "turned.mp4", "-m", "dis", "--viz", "out.mp4"]);
    let (source, pictures) = (read(&run.path("turned.mp4")), read(&run.path("out.mp4")));
    assert_eq!((source[0].width(), source[0].height()), (64, 96), "frames are upright");
    assert_eq!((pictures.len(), pictures[0].width(), pictures[0].height()), (6, 64, 96));
    // Upright pixels need no turning: the rotation must not be there twice.
    let told = Command::new("ffmpeg").args(["-hide_banner", "-i"]).arg(run.path("out.mp4")).output().unwrap();
    assert!(!String::from_utf8_lossy(&told.stderr).contains("rotation"));
});
