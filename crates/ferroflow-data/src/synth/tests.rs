use ferroflow_core::Size;

use super::*;

/// Bilinear sample of one channel, `None` outside.
fn bilinear(frame: &ferroflow_core::Frame, x: f32, y: f32, channel: usize) -> Option<f32> {
    let (w, h) = (frame.width(), frame.height());
    if !(x >= 0.0 && y >= 0.0 && x <= (w - 1) as f32 && y <= (h - 1) as f32) {
        return None;
    }
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(h - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    let at = |x: usize, y: usize| f32::from(frame.pixel(x, y)[channel]);
    Some((at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx) * (1.0 - fy) + (at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx) * fy)
}

/// Absolute differences between frame 1 and frame 2 warped by the flow, where visible and away from layer edges.
fn warp_errors(sample: &Sample) -> Vec<f32> {
    let (flow, occlusion) = (sample.flow.as_ref().unwrap(), sample.occlusion.as_ref().unwrap());
    let (w, h) = (flow.width(), flow.height());
    // Away from edges: the flow is smooth and nothing is occluded within two pixels.
    let smooth = |x: usize, y: usize| {
        let (u, v) = flow.get(x, y);
        (y - 2..=y + 2).all(|b| {
            (x - 2..=x + 2).all(|a| {
                let f = flow.get(a, b);
                (f.0 - u).abs() + (f.1 - v).abs() < 1.5 && !occlusion.get(a, b)
            })
        })
    };
    let mut errors = Vec::new();
    for y in 2..h - 2 {
        for x in 2..w - 2 {
            if smooth(x, y) {
                let (u, v) = flow.get(x, y);
                for channel in 0..3 {
                    if let Some(value) = bilinear(&sample.second, x as f32 + u, y as f32 + v, channel) {
                        errors.push((value - f32::from(sample.first.pixel(x, y)[channel])).abs());
                    }
                }
            }
        }
    }
    errors
}

#[test]
fn warping_frame_2_by_the_flow_gives_frame_1() {
    for preset in PRESETS {
        let synth = Synth::new(Preset::named(preset).unwrap().without_effects(), 3, Size::new(320, 448));
        let mut errors = Vec::new();
        for index in 0..4 {
            errors.append(&mut warp_errors(&synth.sample(index * 5)));
        }
        errors.sort_by(f32::total_cmp);
        let mean = errors.iter().map(|&e| f64::from(e)).sum::<f64>() / errors.len() as f64;
        let p99 = errors[errors.len() * 99 / 100];
        println!("{preset}: {} values, mean {mean:.3}, 99th percentile {p99:.2} grey levels", errors.len());
        assert!(errors.len() > 200_000, "{preset}: too little of the scene is visible in both frames");
        assert!(mean < 1.5 && p99 < 12.0, "{preset}: mean {mean}, p99 {p99}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_any_order() {
    in_any_order(&Preset::auto());
    in_any_order(&Preset::world());
}

fn in_any_order(preset: &Preset) {
    let make = || Synth::new(preset.clone(), 11, Size::new(64, 96));
    let (a, b) = (make(), make());
    let forward: Vec<Sample> = (0..6).map(|i| a.sample(i)).collect();
    let backward: Vec<Sample> = std::thread::scope(|s| {
        let handles: Vec<_> = (0..6)
            .rev()
            .map(|i| {
                s.spawn({
                    let b = &b;
                    move || b.sample(i)
                })
            })
            .collect();
        handles.into_iter().rev().map(|h| h.join().unwrap()).collect()
    });
    assert_eq!(forward, backward);
    assert_ne!(forward[0].first, forward[1].first);
    assert_ne!(Synth::new(preset.clone(), 12, Size::new(64, 96)).sample(0).first, forward[0].first);
}

/// SHA-256 of both frames, the flow with what is known of it, and the occlusion of the first 32 pairs of a preset.
fn hash(preset: &str) -> String {
    use sha2::{Digest, Sha256};
    let synth = Synth::new(Preset::named(preset).unwrap(), 1, Size::new(96, 128));
    let mut hash = Sha256::new();
    for index in 0..32 {
        let sample = synth.sample(index);
        let (flow, occlusion) = (sample.flow.unwrap(), sample.occlusion.unwrap());
        hash.update(sample.first.rgb());
        hash.update(sample.second.rgb());
        for (u, v) in flow.u().iter().zip(flow.v()) {
            hash.update(u.to_le_bytes());
            hash.update(v.to_le_bytes());
        }
        if let Some(known) = flow.validity() {
            hash.update(bytes(known));
        }
        hash.update(bytes(&occlusion));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(mask: &ferroflow_core::Mask) -> Vec<u8> {
    mask.data().iter().map(|&set| u8::from(set)).collect()
}

/// The same on every machine, and the same as ever: a run that is resumed sees the pairs it saw before.
#[test]
fn the_bytes_are_those_of_every_other_machine() {
    for (preset, expected) in [
        ("chairs", "7cec4cd7c41a18170f00ed61f562d5030db5631663b23df82662ae57494b9dc7"),
        ("sdhom", "11c3eb13b9c0e3a6b9f0ae916e15a0615ee29730a8e3d6ef28eddddadcdb5470"),
        ("things", "f40d2000655ec29df14bb569f0620b044040c6c100518a38b4899248a19d1dcb"),
        ("auto", "f1b62338ad2931c3073c817f8cce857c964320e1d2eb58629f1facb22af061be"),
        ("shifts", "1377c6848692962558077ae845c6bd675423967137118ea77cd856799676fd9a"),
        ("world", "5828c8c10df1e79d7a09b8852e823aceeaecf645ed3a74d8b5fe4d8f5c057877"),
        ("wild", "c3ef4344def1d7d00669d0a295da30829ad69cfb1ebe7cbb8c4d580cc089d8c2"),
    ] {
        assert_eq!(hash(preset), expected, "{preset}");
    }
}

#[test]
fn any_size_works() {
    for (w, h) in [(1, 1), (7, 3), (65, 33)] {
        for preset in [Preset::things(), Preset::world(), Preset::wild()] {
            let sample = Synth::new(preset, 5, Size::new(h, w)).sample(2);
            assert_eq!(sample.first.size(), Size::new(h, w));
        }
    }
}

#[test]
fn the_users_pictures_replace_textures_and_objects() {
    let dir = tempfile::tempdir().unwrap();
    let (textures, objects) = (dir.path().join("textures"), dir.path().join("objects"));
    std::fs::create_dir_all(&textures).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    let grey = ferroflow_core::Frame::from_fn(Size::new(30, 40), |x, _| [100 + (x / 8) as u8; 3]);
    ferroflow_core::io::write_frame(textures.join("grey.png"), &grey).unwrap();
    // A red disc on nothing.
    let disc = image::RgbaImage::from_fn(64, 64, |x, y| {
        let inside = (x as i32 - 32).pow(2) + (y as i32 - 32).pow(2) < 900;
        image::Rgba(if inside { [250, 0, 0, 255] } else { [0, 0, 0, 0] })
    });
    disc.save(objects.join("disc.png")).unwrap();
    let plain = Synth::new(Preset::chairs().without_effects(), 3, Size::new(192, 256));
    let synth = plain.clone().with_pictures(Some(&textures), Some(&objects)).unwrap();
    let sample = synth.sample(4);
    let is_red = |p: [u8; 3]| p[0] > 100 && p[1] < 60 && p[2] < 60;
    let share = |frame: &ferroflow_core::Frame, f: &dyn Fn([u8; 3]) -> bool| {
        let (w, h) = (frame.width(), frame.height());
        (0..w * h).filter(|i| f(frame.pixel(i % w, i / w))).count() as f32 / (w * h) as f32
    };
    assert!(share(&sample.first, &is_red) > 0.05 && share(&sample.second, &is_red) > 0.05);
    // What is not red is the grey texture, whatever its tint: nothing else is in the scene.
    assert!(share(&sample.first, &|p| p[1].abs_diff(p[2]) > 90) < 0.02);
    let mut errors = warp_errors(&sample);
    errors.sort_by(f32::total_cmp);
    assert!(errors[errors.len() * 99 / 100] < 12.0);
    assert!(plain.with_pictures(Some(&dir.path().join("absent")), None).is_err());
}

#[test]
fn motion_scales_with_the_frame_where_a_preset_says_so() {
    let mean = |preset: &Preset, w: usize, h: usize| {
        let flow = Synth::new(preset.clone(), 2, Size::new(h, w)).sample(3).flow.unwrap();
        let lengths = flow.u().iter().zip(flow.v()).map(|(u, v)| f64::from((u * u + v * v).sqrt()));
        lengths.sum::<f64>() / (w * h) as f64
    };
    for preset in [Preset::world(), Preset::wild()] {
        let ratio = mean(&preset, 512, 384) / mean(&preset, 128, 96);
        assert!((ratio - 4.0).abs() < 0.4, "{}: {ratio}", preset.name);
    }
}

#[test]
fn a_worlds_unknown_pixels_are_few_and_count_as_occluded() {
    let synth = Synth::new(Preset::world(), 4, Size::new(96, 128));
    let mut unknown = 0;
    for index in 0..24 {
        let sample = synth.sample(index);
        let (flow, occlusion) = (sample.flow.unwrap(), sample.occlusion.unwrap());
        for y in 0..96 {
            for x in 0..128 {
                let (u, v) = flow.get(x, y);
                assert!(u.is_finite() && v.is_finite() && u.abs() + v.abs() < 224.0);
                if !flow.is_valid(x, y) {
                    unknown += 1;
                    assert!(occlusion.get(x, y), "pair {index}: ({x}, {y})");
                }
            }
        }
    }
    assert!(unknown < 24 * 128 * 96 / 50, "{unknown}");
}
