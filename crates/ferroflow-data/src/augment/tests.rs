//! The originals' own results (when they are at hand), and the property that matters: warped frames agree.

use std::collections::HashMap;

use ferroflow_core::{FlowField, Frame};

use super::*;
use crate::synth::{Preset, Synth};

type Golden = HashMap<String, Image>;

/// Tensors of a golden file, `[C, H, W]` or `[N, C, H, W]` (frames under `NAME/0`, `NAME/1`), as images.
fn golden(name: &str) -> Option<Golden> {
    let bytes = std::fs::read(ferroflow_testing::shared(&format!("golden/augment/{name}"))?).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut out = Golden::new();
    for (name, view) in tensors.tensors() {
        let values: Vec<f32> = match view.dtype() {
            safetensors::Dtype::U8 => view.data().iter().map(|&b| f32::from(b)).collect(),
            _ => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        };
        let shape = view.shape();
        let (count, shape) = if shape.len() == 4 { (shape[0], &shape[1..]) } else { (1, shape) };
        let (channels, h, w) = (shape[0], shape[1], shape[2]);
        for i in 0..count {
            let part = &values[i * channels * h * w..];
            let image = Image::from_fn(Size::new(h, w), channels, |x, y, c| part[(c * h + y) * w + x]);
            out.insert(if count > 1 { format!("{name}/{i}") } else { name.clone() }, image);
        }
    }
    Some(out)
}

fn close(what: &str, found: &Image, expected: &Image, limit: f32) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let worst = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= limit, "{what}: differs by {worst}, limit {limit}");
}

fn pair_of(g: &Golden, scale: f32) -> Pair {
    let image = |n: &str| {
        let mut i = g[n].clone();
        i.data.iter_mut().for_each(|v| *v *= scale);
        i
    };
    Pair {
        images: [image("in/image1"), image("in/image2")],
        flow: Some(g["in/flow"].clone()),
        valid: None,
        occlusion: None,
    }
}

fn check(g: &Golden, name: &str, found: &Pair, image_limit: f32) {
    close(&format!("{name}/image1"), &found.images[0], &g[&format!("{name}/image1")], image_limit);
    close(&format!("{name}/image2"), &found.images[1], &g[&format!("{name}/image2")], image_limit);
    close(&format!("{name}/flow"), found.flow.as_ref().unwrap(), &g[&format!("{name}/flow")], 1e-3);
}

#[test]
fn lightflow_agrees_with_the_original() {
    let Some(g) = golden("lightflow_tfoptflow.safetensors") else { return };
    let pair = || pair_of(&g, 1.0);
    // Float images within 1e-5 of their range of 255, rotations 1e-3.
    let (plain, rotated) = (2.6e-3, 0.255);
    check(&g, "lightflow/translate", &lightflow::translate(pair(), 7, -4), plain);
    check(&g, "lightflow/translate_b", &lightflow::translate(pair(), -3, 9), plain);
    check(&g, "lightflow/rotate", &lightflow::rotate(pair(), 6.5, -2.25), rotated);
    check(&g, "lightflow/rotate_same", &lightflow::rotate(pair(), -8.0, 0.0), rotated);
    check(&g, "lightflow/flip_horizontal", &pair().flip(true), plain);
    check(&g, "lightflow/flip_vertical", &pair().flip(false), plain);
    check(&g, "lightflow/crop", &pair().crop((5, 3), Size::new(24, 32)), plain);
    check(&g, "lightflow/center_crop", &lightflow::center_crop(pair(), Size::new(23, 32)), plain);
}

#[test]
fn tfoptflow_agrees_with_the_original() {
    let Some(g) = golden("lightflow_tfoptflow.safetensors") else { return };
    let pair = || pair_of(&g, 1.0);
    let (w, h) = (56.0f32, 40.0f32);
    let shift = |pair: Pair, tw: f32, th: f32| tfoptflow::translate(pair, (tw * w) as isize, (th * h) as isize);
    check(&g, "tfoptflow/fliplr", &pair().flip(true), 0.0);
    check(&g, "tfoptflow/flipud", &pair().flip(false), 0.0);
    check(&g, "tfoptflow/translate", &shift(pair(), 0.049, -0.04), 0.0);
    // OpenCV resizes 8-bit frames in fixed point: one grey level.
    check(&g, "tfoptflow/scale_up", &tfoptflow::scale(pair(), 1.043), 1.0);
    check(&g, "tfoptflow/scale_down", &tfoptflow::scale(pair(), 0.957), 1.0);
    let all = shift(pair().flip(true).flip(false), -0.03, 0.05);
    check(&g, "tfoptflow/all", &tfoptflow::scale(all, 1.021), 1.0);
}

/// Swaps the channels of a `(dy, dx)` flow.
fn swapped(flow: &Image) -> Image {
    Image::from_fn(flow.size(), 2, |x, y, c| flow.at(x, y, 1 - c))
}

#[test]
fn uflow_agrees_with_the_original() {
    let (Some(g), Some(images)) = (golden("uflow.safetensors"), golden("lightflow_tfoptflow.safetensors")) else {
        return;
    };
    let images = pair_of(&images, 1.0 / 255.0).images;
    let flow = swapped(&g["in/flow"]);
    let pair = || Pair {
        images: images.clone(),
        flow: Some(flow.clone()),
        valid: Some(g["in/mask"].clone()),
        occlusion: None,
    };
    let check = |name: &str, found: Pair, limit: f32| {
        for (i, image) in found.images.iter().enumerate() {
            close(&format!("{name}/images/{i}"), image, &g[&format!("{name}/images/{i}")], limit);
        }
        close(&format!("{name}/flow"), found.flow.as_ref().unwrap(), &swapped(&g[&format!("{name}/flow")]), 1e-3);
        close(&format!("{name}/mask"), found.valid.as_ref().unwrap(), &g[&format!("{name}/mask")], 1e-5);
    };
    check("flip_left_right", pair().flip(true), 1e-5);
    check("flip_up_down", pair().flip(false), 1e-5);
    check("scale", uflow::scale(pair(), 1.2), 1e-5);
    check("scale_second", uflow::scale_second(pair(), 1.04), 1e-5);
    check("rotation", uflow::rotate(pair(), 7f32.to_radians()), 1e-3);
    let (turned, mask) = uflow::rotate_flow(&flow, &g["in/mask"], 0.2);
    close("rotate/flow", &turned, &swapped(&g["rotate/flow"]), 1e-3);
    close("rotate/mask", &mask, &g["rotate/mask"], 1e-5);
    close("rotate/image1", &uflow::rotate_image(&images[0], 0.2), &g["rotate/image1"], 1e-3);
    for (name, size) in [("resize_up", Size::new(53, 78)), ("resize_down", Size::new(20, 31))] {
        // The original's resize without a mask: never antialiased, the vectors scaled.
        let mut resized = flow.resize(size);
        for p in resized.data.chunks_exact_mut(2) {
            (p[0], p[1]) = (p[0] * size.width as f32 / 56.0, p[1] * size.height as f32 / 40.0);
        }
        close(name, &resized, &swapped(&g[&format!("{name}/flow")]), 1e-3);
    }
    let per_pixel = |f: &dyn Fn([f32; 3]) -> [f32; 3], image: &Image| {
        let mut out = image.clone();
        out.data.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&f([p[0], p[1], p[2]])));
        out
    };
    for (i, image) in images.iter().enumerate() {
        let mut contrast = image.clone();
        uflow::adjust_contrast(&mut contrast, 1.15);
        close("contrast", &contrast, &g[&format!("photometric/contrast_1.15/{i}")], 1e-5);
        let saturation = per_pixel(&|c| uflow::adjust_saturation(c, 0.85), image);
        close("saturation", &saturation, &g[&format!("photometric/saturation_0.85/{i}")], 1e-5);
        let hue = per_pixel(&|c| uflow::adjust_hue(c, 0.2), image);
        close("hue", &hue, &g[&format!("photometric/hue_0.2/{i}")], 1e-4);
    }
}

/// A smooth pair without effects, small enough to be quick.
fn smooth() -> Sample {
    Synth::new(Preset::sdhom().without_effects(), 9, Size::new(120, 160)).sample(1)
}

/// Median difference between frame 1 and frame 2 warped by the flow.
fn warp_error(sample: &Sample) -> f32 {
    let flow = sample.flow.as_ref().unwrap();
    let second = Image::from_frame(&sample.second);
    let (w, h) = (second.width, second.height);
    let mut errors: Vec<f32> = (0..w * h)
        .filter_map(|i| {
            let (x, y) = (i % w, i / w);
            let (u, v) = flow.known(x, y)?;
            let (px, py) = (x as f32 + u, y as f32 + v);
            let inside = px >= 0.0 && py >= 0.0 && px < (w - 1) as f32 && py < (h - 1) as f32;
            let seen = |c: usize| (second.sample_zero(px, py, c) - f32::from(sample.first.pixel(x, y)[c])).abs();
            inside.then(|| (seen(0) + seen(1) + seen(2)) / 3.0)
        })
        .collect();
    assert!(errors.len() > w * h / 4, "too little to compare");
    errors.sort_by(f32::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn frames_still_agree_after_every_augmentation() {
    let sample = smooth();
    assert!(warp_error(&sample) < 1.0);
    for name in NAMES {
        let augment = named(name, Size::new(64, 96), Beside::default()).unwrap();
        for seed in 0..4 {
            let mut random = Random::new(seed, &[]);
            let result = augment.apply(sample.clone(), &mut random.clone(), 0).unwrap();
            assert_eq!(result, augment.apply(sample.clone(), &mut random, 0).unwrap(), "{name}");
            if let Some(size) = augment.size() {
                assert_eq!(result.first.size(), size, "{name}");
            }
            // The noise of FlowNet (up to 15 grey levels) and colours drawn for each frame are no error of the flow.
            if name != "flownet" && !name.starts_with("raft") && !name.starts_with("uflow") {
                assert!(warp_error(&result) < 2.5, "{name} {seed}: {}", warp_error(&result));
            }
        }
    }
}

#[test]
fn uflow_moves_flow_and_frames_together() {
    let sample = smooth();
    let none = uflow::Geometric::NONE;
    let (both, second) = (12f32.to_radians(), 3f32.to_radians());
    for draws in [
        uflow::Geometric { scales: [1.4, 1.0], ..none },
        uflow::Geometric { scales: [1.0, 1.05], ..none },
        uflow::Geometric { scales: [1.0, 0.95], ..none },
        uflow::Geometric { rotations: [both, 0.0], ..none },
        uflow::Geometric { rotations: [0.0, second], ..none },
        uflow::Geometric { rotations: [0.0, -second], ..none },
        uflow::Geometric { crop_offset: 5, ..none },
        uflow::Geometric { flips: [true, true], scales: [1.3, 0.97], rotations: [-both, second], crop_offset: 5 },
    ] {
        for seed in 0..3 {
            let pair = draws.apply(Pair::from_sample(&sample), Size::new(64, 96), &mut Random::new(seed, &[]));
            let result = pair.into_sample("uflow".into());
            assert_eq!(result.first.size(), Size::new(64, 96));
            assert!(warp_error(&result) < 2.0, "{draws:?} {seed}: {}", warp_error(&result));
        }
    }
}

#[test]
fn uflow_crops_apart_and_keeps_unknown_flow_zero() {
    let size = Size::new(9, 12);
    let image = Image::from_fn(size, 3, |x, y, _| (x * 10 + y) as f32);
    let pair = Pair {
        images: [image.clone(), image],
        flow: Some(Image::from_fn(size, 2, |_, _, c| c as f32 + 1.0)),
        valid: Some(Image::from_fn(size, 1, |x, _, _| f32::from(u8::from(x != 4)))),
        occlusion: None,
    };
    let cut = uflow::crop_apart(pair, [(3, 2), (5, 1)], Size::new(5, 4));
    let flow = cut.flow.unwrap();
    assert_eq!((flow.at(0, 0, 0), flow.at(0, 0, 1)), (1.0 - 2.0, 2.0 + 1.0));
    assert_eq!((flow.at(1, 0, 0), flow.at(1, 0, 1)), (0.0, 0.0));
    assert_eq!((cut.images[0].at(0, 0, 0), cut.images[1].at(0, 0, 0)), (32.0, 51.0));
}

#[test]
fn flownet_moves_flow_and_frames_together() {
    let sample = smooth();
    let crop = Size::new(64, 96);
    for seed in 0..6 {
        let mut draws = flownet::Draws::draw(&mut Random::new(seed, &[]), 1.0, crop, sample.first.size());
        draws.noise = 0.0;
        draws.eigen = flownet::Eigen {
            power: [1.0; 3],
            add: [0.0; 3],
            factor: [1.0; 3],
            saturation: [1.0, 0.0, 1.0],
            length: [1.0, 0.0, 1.0],
            rotation: 0.0,
        };
        draws.chromatic = flownet::Chromatic { gamma: 1.0, brightness: 0.0, contrast: 1.0, color: [1.0; 3] };
        let result = flownet::apply(&sample, &draws, crop);
        assert!(warp_error(&result) < 3.0, "{seed}: {}", warp_error(&result));
    }
}

#[test]
fn flownet_s_schedule_has_its_published_points() {
    assert!((flownet::strength(0) - 0.5).abs() < 1e-4);
    assert!((flownet::strength(50_000) - 0.75).abs() < 1e-4);
    assert!((flownet::strength(u64::MAX) - 1.0).abs() < 1e-3);
}

#[test]
fn a_crop_too_large_is_an_error() {
    for name in ["crop", "flownet", "tfoptflow-heavy", "lightflow"] {
        let result =
            named(name, Size::new(64, 500), Beside::default()).unwrap().apply(smooth(), &mut Random::new(0, &[]), 0);
        assert!(matches!(result, Err(DataError::Crop { .. })), "{name}");
    }
    assert!(named("nonesuch", Size::new(8, 8), Beside::default()).is_none());
}

#[test]
fn what_is_cut_off_can_be_kept() {
    // Every pixel of frame 1 says where it is; frame 2 says so with another blue.
    let sample = |blue: u8| Frame::from_fn(Size::new(40, 50), |x, y| [x as u8, y as u8, blue]);
    let crop = Size::new(16, 20);
    for name in CROPPING {
        for seed in 0..4 {
            let sample = Sample {
                first: sample(3),
                second: sample(9),
                flow: Some(FlowField::zeros(Size::new(40, 50))),
                occlusion: None,
                original: None,
                surround: None,
                id: "a".into(),
            };
            let beside = |beside: Beside| {
                named(name, crop, beside).unwrap().apply(sample.clone(), &mut Random::new(seed, &[]), 0).unwrap()
            };
            let kept = beside(Beside { original: true, surround: true });
            let bare = beside(Beside::default());
            assert_eq!((bare.original, bare.surround), (None, None));
            assert_eq!((&bare.first, &bare.second, &bare.flow), (&kept.first, &kept.second, &kept.flow), "{name}");
            let Surround { frames, at } = kept.surround.unwrap();
            assert!(name == "uflow-geometric" || at[0] == at[1]);
            let original = kept.original.unwrap_or([kept.first, kept.second]);
            for ((frame, whole), at) in original.iter().zip(&frames).zip(at) {
                for (x, y) in [(0, 0), (19, 0), (7, 15)] {
                    assert_eq!(frame.pixel(x, y), whole.pixel(x + at.0, y + at.1), "{name}");
                }
            }
        }
    }
}

#[test]
fn the_centre_is_cut_out() {
    let source: crate::Spec = "synth:chairs@size=9x12,count=1".parse().unwrap();
    let sample = source.open().unwrap().get(0).unwrap();
    let augment = named("center", Size::new(4, 6), Beside::default()).unwrap();
    let cut = augment.apply(sample.clone(), &mut Random::new(1, &[]), 0).unwrap();
    // (9 - 4) / 2 rows and (12 - 6) / 2 columns lie before it.
    let pixel =
        |frame: &ferroflow_core::Frame, x: usize, y: usize| frame.rgb()[3 * (y * frame.width() + x)..][..3].to_vec();
    assert_eq!((cut.first.size(), pixel(&cut.first, 0, 0)), (Size::new(4, 6), pixel(&sample.first, 3, 2)));
    assert_eq!(cut.flow.as_ref().unwrap().get(5, 3), sample.flow.unwrap().get(8, 5));
    let error = named("center", Size::new(5, 6), Beside::default())
        .unwrap()
        .apply(cut, &mut Random::new(1, &[]), 0)
        .unwrap_err();
    assert!(error.to_string().contains("too small"), "{error}");
}
