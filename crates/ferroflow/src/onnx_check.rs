//! Runs an exported file in rten, a runtime in Rust, and compares it with our own flow.

use anyhow::Context;
use ferroflow_cpu::plan::{self, Pixels, Plan};
use ferroflow_net::{graph::Sizes, onnx, weights::store::Stored};

/// How far two flows are apart, pixels.
pub struct Difference {
    /// Mean over all components.
    pub mean: f64,
    /// Largest.
    pub largest: f64,
    /// Mean size of our own components, to judge by.
    pub motion: f64,
}

/// Runs `file`, exported of `stored` with `options`, on a textured pair of `sizes`.
///
/// # Errors
/// If the runtime does not take the file.
pub fn difference(file: &[u8], stored: &Stored, options: &onnx::Options, sizes: &Sizes) -> anyhow::Result<Difference> {
    if options.inputs == onnx::Inputs::Normalised {
        anyhow::bail!("--check feeds images: export with --inputs images to check");
    }
    let shape = [sizes.batch, 3, sizes.input.height, sizes.input.width];
    let (first, second) = (texture(shape, 0), texture(shape, 3));
    let mut ours = vec![0.0; 2 * sizes.batch * sizes.output.height * sizes.output.width];
    let weights: Vec<&[f32]> = stored.weights.iter().collect();
    Plan::new(&stored.model.graph, &weights, *sizes, &plan::Options::default())?.run(
        Pixels::Planar(&first),
        Pixels::Planar(&second),
        &mut ours,
    )?;

    let model = rten::Model::load(file.to_vec()).context("rten does not load the file")?;
    let mut inputs = Vec::new();
    for (name, values) in [("frame1", &first), ("frame2", &second)] {
        let id = model.node_id(name)?;
        inputs.push((id, rten::ValueView::from_shape(shape, values)?.into()));
    }
    let [flow] = model.run_n(inputs, [model.node_id("flow")?], None).context("rten does not run the file")?;
    let (_, theirs) = flow.into_shape_vec::<f32, 4>()?;
    anyhow::ensure!(theirs.len() == ours.len(), "rten gives {} values, not {}", theirs.len(), ours.len());

    let apart = || ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs()));
    Ok(Difference {
        mean: apart().sum::<f64>() / ours.len() as f64,
        largest: apart().fold(0.0, f64::max),
        motion: ours.iter().map(|v| f64::from(v.abs())).sum::<f64>() / ours.len() as f64,
    })
}

/// Smooth waves in three colours, moved by `shift` pixels: `[N, 3, H, W]`, 0..=255.
fn texture([n, channels, height, width]: [usize; 4], shift: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(n * channels * height * width);
    for plane in 0..n * channels {
        for y in 0..height {
            for x in 0..width {
                let (x, y, phase) = ((x + shift) as f32, y as f32, plane as f32);
                let wave = (0.21 * x + phase).sin() + (0.17 * y - phase).cos() + (0.05 * (x + y)).sin();
                values.push((128.0 + 40.0 * wave).round());
            }
        }
    }
    values
}
