//! Runs an exported file in rten, a runtime in Rust, and compares its flow with Ferroflow's own.

use ferroflow_cpu::plan::{self, Pixels, Plan, PlanError, RunError};
use ferroflow_net::{graph::Sizes, onnx, weights::store::Stored};

use crate::onnx_run::{self, OnnxHalves, OnnxNetwork};

/// Why an exported file could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The file does not take the inputs that a network of this library takes.
    #[error("a check feeds images: export with images as inputs to check")]
    Inputs,
    /// Our own flow cannot be computed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Our own flow cannot be computed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The runtime cannot run the file.
    #[error(transparent)]
    Onnx(#[from] onnx_run::RunError),
}

/// How far two flows are apart, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean difference over all components.
    pub mean: f64,
    /// Largest difference of a component.
    pub largest: f64,
    /// Mean magnitude of the components of Ferroflow's own flow, to judge the difference by.
    pub motion: f64,
}

/// Exported files of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// All of it.
    Whole(Vec<u8>),
    /// Features, and flow from them.
    Halves([Vec<u8>; 2]),
}

/// Runs what was exported from `stored` with `options` on a textured pair of `sizes`, and compares the flows.
///
/// # Errors
/// If the runtime cannot run the file, or the flow cannot be computed here.
pub fn difference(
    exported: Exported,
    stored: &Stored,
    options: &onnx::Options,
    sizes: &Sizes,
) -> Result<Difference, CheckError> {
    if options.inputs == onnx::Inputs::Normalised {
        return Err(CheckError::Inputs);
    }
    let size = sizes.input;
    let shape = [sizes.batch, 3, size.height, size.width];
    let (first, second) = (texture(shape, 0), texture(shape, 3));
    let mut ours = vec![0.0; 2 * sizes.batch * sizes.output.height * sizes.output.width];
    let weights: Vec<&[f32]> = stored.weights.iter().collect();
    Plan::new(&stored.model.graph, &weights, *sizes, &plan::Options::default())?.run(
        Pixels::Planar(&first),
        Pixels::Planar(&second),
        &mut ours,
    )?;

    let frames = [&first[..], &second];
    let theirs = match exported {
        Exported::Whole(file) => OnnxNetwork::new(file)?.run(frames, sizes.batch, size)?,
        Exported::Halves([features, flow]) => OnnxHalves::new(features, flow)?.run(frames, sizes.batch, size)?,
    };
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
