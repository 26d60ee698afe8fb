//! Draws the contact sheet and the displacement histogram of the documentation, and prints the generator's speed:
//! `cargo run --release -p ferroflow-data --example synth_sheet -- chairs docs`. Two numbers may follow: how many rows of two
//! pairs, and by what factor the 512x384 frames are shrunk.

use std::path::Path;
use std::time::Instant;

use ferroflow_core::io::{write_bytes, write_frame};
use ferroflow_core::viz::{Colours, Normalisation, Scaler, picture};
use ferroflow_core::{Frame, Size};
use ferroflow_data::synth::{PRESETS, Preset, Synth};

/// Pairs side by side.
const COLUMNS: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "chairs".into());
    let preset = Preset::named(&name).ok_or_else(|| format!("no preset '{name}'; there are {PRESETS:?}"))?;
    let synth = Synth::new(preset.clone(), 1, Size::new(384, 512));

    let pairs = 150;
    let mut lengths: Vec<f32> = Vec::new();
    for index in 0..pairs {
        let sample = synth.sample(index * 3);
        if let Some(flow) = sample.flow {
            lengths.extend(flow.u().iter().zip(flow.v()).step_by(7).map(|(u, v)| (u * u + v * v).sqrt()));
        }
    }
    lengths.sort_by(f32::total_cmp);
    let mean = lengths.iter().map(|&m| f64::from(m)).sum::<f64>() / lengths.len() as f64;
    let quantiles: Vec<String> =
        [10, 25, 50, 75, 90, 99].iter().map(|q| format!("{q}%: {:.2}", lengths[lengths.len() * q / 100])).collect();
    println!("{name}: displacement mean {mean:.2} px, {}", quantiles.join(", "));

    let speed = Synth::new(preset, 1, Size::new(320, 448));
    speed.sample(0);
    let start = Instant::now();
    (0..64).for_each(|index| drop(speed.sample(index)));
    println!(
        "{name}: {:.1} pairs/s of 448x320 on one thread, from an almost empty bank",
        64.0 / start.elapsed().as_secs_f64()
    );

    if let Some(out) = arguments.next() {
        let out = Path::new(&out);
        let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
        let (rows, shrink) = (number(12)?, number(4)?);
        let sheet = sheet(&synth, rows, shrink);
        write_frame(out.join(format!("synth-{name}.png")), &sheet)?;
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 70).encode(
            sheet.rgb(),
            sheet.width() as u32,
            sheet.height() as u32,
            image::ExtendedColorType::Rgb8,
        )?;
        write_bytes(out.join(format!("synth-{name}.jpg")), &jpeg)?;
        write_bytes(out.join("synth-displacements.svg"), histogram(&name, &lengths).as_bytes())?;
    }
    Ok(())
}

/// Frame 1, frame 2, flow and occlusion of some pairs.
fn sheet(synth: &Synth, rows: usize, factor: usize) -> Frame {
    let (w, h) = (512 / factor, 384 / factor);
    let mut panels: Vec<Frame> = Vec::new();
    for index in 0..COLUMNS * rows {
        let sample = synth.sample(index as u64 * 7);
        let (Some(flow), Some(occlusion)) = (sample.flow, sample.occlusion) else { continue };
        let colours = picture(&flow, Colours::default(), &mut Scaler::new(Normalisation::Percentile(99.0)));
        let mask = Frame::from_fn(Size::new(384, 512), |x, y| [u8::from(occlusion.get(x, y)) * 255; 3]);
        panels.extend([sample.first, sample.second, colours, mask].iter().map(|frame| shrink(frame, factor)));
    }
    Frame::from_fn(Size { height: rows * h, width: COLUMNS * 4 * w }, |x, y| {
        panels[y / h * COLUMNS * 4 + x / w].pixel(x % w, y % h)
    })
}

/// The mean of every block of pixels.
fn shrink(frame: &Frame, factor: usize) -> Frame {
    Frame::from_fn(Size { height: frame.height() / factor, width: frame.width() / factor }, |x, y| {
        let mut sum = [0usize; 3];
        for i in 0..factor * factor {
            let pixel = frame.pixel(x * factor + i % factor, y * factor + i / factor);
            (0..3).for_each(|k| sum[k] += usize::from(pixel[k]));
        }
        sum.map(|s| (s / (factor * factor)) as u8)
    })
}

/// Share of pixels by displacement, beside that of the eight FlyingChairs pairs that can be had freely (counts only).
fn histogram(name: &str, sorted: &[f32]) -> String {
    const EDGES: [f32; 10] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, f32::INFINITY];
    const CHAIRS: [f32; 9] = [0.2275, 0.2325, 0.0638, 0.1657, 0.0346, 0.2334, 0.0296, 0.0128, 0.0001];
    let below = |edge: f32| sorted.partition_point(|&m| m < edge) as f32 / sorted.len() as f32;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"300\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"640\" height=\"300\" fill=\"white\"/>\n",
    );
    for (i, real) in CHAIRS.into_iter().enumerate() {
        let ours = below(EDGES[i + 1]) - below(EDGES[i]);
        let x = 50 + i * 64;
        for (offset, share, colour) in [(0, ours, "#2a6fbb"), (26, real, "#c8c8c8")] {
            let height = share * 700.0;
            let top = 250.0 - height;
            svg += &format!(
                "<rect x=\"{}\" y=\"{top:.1}\" width=\"24\" height=\"{height:.1}\" fill=\"{colour}\"/>\n",
                x + offset
            );
        }
        let label = if i == 8 { "over 128".into() } else { format!("{}-{}", EDGES[i], EDGES[i + 1]) };
        svg += &format!("<text x=\"{}\" y=\"266\" text-anchor=\"middle\">{label}</text>\n", x + 25);
    }
    svg += &format!(
        "<text x=\"320\" y=\"288\" text-anchor=\"middle\">displacement in pixels at 512x384, share of all pixels</text>\n\
         <text x=\"60\" y=\"24\" fill=\"#2a6fbb\">synth:{name}, 150 pairs</text>\n\
         <text x=\"60\" y=\"42\" fill=\"#808080\">FlyingChairs, eight published sample pairs</text>\n</svg>\n"
    );
    svg
}
