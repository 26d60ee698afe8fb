//! `motion` on videos in every form.

mod common;

use std::{fs, io::Write, process::Stdio};

use common::{Run, cli};
use ferroflow::core::io;
use serde_json::Value;

/// A video in grey whose pattern moves right.
fn write_video(run: &Run, name: &str, frames: usize, speed: usize) {
    let mut video = b"YUV4MPEG2 W96 H64 F25:1 Cmono\n".to_vec();
    for t in 0..frames {
        video.extend_from_slice(b"FRAME\n");
        video.extend((0..96 * 64).map(|i| {
            let (x, y) = ((i % 96) as f32 - (speed * t) as f32, (i / 96) as f32);
            (128.0 + 30.0 * ((0.31 * x).sin() + (0.27 * y + 0.05 * x).cos() + (0.11 * (x + 2.0 * y)).sin())) as u8
        }));
    }
    fs::write(run.path(name), video).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

cli!(each_video_is_a_line_and_a_broken_one_stops_nothing, |run| {
    fs::create_dir_all(run.path("videos")).unwrap();
    write_video(&run, "videos/fast.y4m", 12, 3);
    write_video(&run, "videos/slow.y4m", 12, 0);
    fs::create_dir_all(run.path("frames")).unwrap();
    for i in 0..4 {
        run.write_frame(&format!("frames/f{i}.png"), 80, 48, 2 * i);
    }
    let found = lines(&run.ok(&["motion", "videos", "frames", "-m", "dis", "--json"]));
    let names: Vec<&str> = found.iter().map(|line| line["video"].as_str().unwrap()).collect();
    assert_eq!(names, ["videos/fast.y4m", "videos/slow.y4m", "frames"]);
    let number = |line: usize, key: &str| found[line][key].as_f64().unwrap();
    assert!((number(0, "median") - 3.0).abs() < 0.2 && (number(0, "pan") - 3.0).abs() < 0.2, "{}", found[0]);
    assert!((number(2, "median") - 2.0).abs() < 0.2, "{}", found[2]);
    assert_eq!((number(1, "mean"), number(1, "static_share"), number(1, "repeated")), (0.0, 1.0, 11.0));
    assert_eq!((number(0, "frames"), number(0, "pairs"), &found[0]["size"]), (12.0, 11.0, &"64x96".into()));
    let text = run.ok(&["motion", "videos/fast.y4m", "-m", "dis"]);
    assert!(text.starts_with("videos/fast.y4m: 12 frames of 64x96; motion 3."), "{text}");
    fs::write(run.path("videos/cut.y4m"), &fs::read(run.path("videos/fast.y4m")).unwrap()[..9000]).unwrap();
    let output = run.output(&["motion", "none.y4m", "videos", "-m", "dis", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(found.len(), 4);
    assert!(found[0]["error"].as_str().unwrap().contains("none.y4m") && found[1]["error"].is_string(), "{found:?}");
    assert!(found[2]["mean"].is_number() && found[2]["error"].is_null());
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 of 4 videos"));
});

cli!(masks_show_what_moves_and_lists_name_videos, |run| {
    fs::create_dir_all(run.path("frames")).unwrap();
    // A patch moves before a wall.
    for i in 0..3usize {
        let name = format!("frames/f{i}.png");
        run.write_frame(&name, 96, 64, 0);
        let mut frame = io::read_frame(run.path(&name)).unwrap();
        for y in 16..48 {
            for x in 0..32 {
                let at = (y * 96 + 20 + 3 * i + x) * 3;
                let (u, v) = (x as f32, y as f32);
                let level = (128.0 + 60.0 * (0.35 * u + 0.1 * v).sin() + 40.0 * (0.3 * v - 0.05 * u).cos()) as u8;
                frame.rgb_mut()[at..at + 3].fill(level);
            }
        }
        io::write_frame(run.path(&name), &frame).unwrap();
    }
    let mut child = run
        .command(&["motion", "--list", "-", "-m", "dis", "--json", "--masks", "masks", "--longest-side", "96"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"frames\n\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let found = lines(std::str::from_utf8(&output.stdout).unwrap());
    let share = found[0]["moving_share"].as_f64().unwrap();
    assert!((0.1..0.3).contains(&share), "{share}");
    assert_eq!(run.files("masks"), ["frames/f0.png", "frames/f1.png"]);
    let mask = io::read_mask(run.path("masks/frames/f1.png")).unwrap();
    assert!(mask.get(38, 32) && !mask.get(5, 5) && !mask.get(90, 60));
    let again = ["motion", "frames", "-m", "dis", "--masks", "masks", "--no-clobber"];
    assert!(run.output(&again).status.code() == Some(1));
    fs::write(run.path("empty.txt"), "\n").unwrap();
    assert!(run.fails(2, &["motion", "--list", "empty.txt"]).contains("empty"));
    assert!(run.fails(2, &["motion", "frames", "--still", "x"]).contains("pixels"));
});
