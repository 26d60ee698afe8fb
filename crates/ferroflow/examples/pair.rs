//! The flow of two images, as a file and as a picture.
//!
//!     cargo run --release -p ferroflow --example pair -- examples/bunny1.jpg examples/bunny2.jpg flow.png
//!
//! A fourth argument names a weight file; without one the network whose weights come along estimates.

use std::{env, path::Path, process::ExitCode};

use ferroflow::{
    Error, Estimator, FlowField,
    core::{
        io,
        viz::{Colours, Normalisation, Scaler, picture},
    },
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (images, weights) = match &arguments[..] {
        [first, second, picture] => ([first, second, picture], None),
        [first, second, picture, weights] => ([first, second, picture], Some(Path::new(weights))),
        _ => {
            eprintln!("usage: pair FIRST SECOND FLOW.png [WEIGHTS.safetensors]");
            return ExitCode::from(2);
        }
    };
    match estimate(images.map(Path::new), weights) {
        Ok(flow) => {
            let (x, y) = (flow.width() / 2, flow.height() / 2);
            let (u, v) = flow.get(x, y);
            println!("the pixel in the middle moved {u:.2} px to the right and {v:.2} px down");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Estimates the flow from the first image to the second, draws it, and writes it beside the drawing as a `.flo` file.
pub fn estimate([first, second, drawing]: [&Path; 3], weights: Option<&Path>) -> Result<FlowField, Error> {
    let estimator = match weights {
        Some(file) => Estimator::open(file)?,
        None => Estimator::builtin()?,
    };
    let flow = estimator.estimate(&io::read_frame(first)?, &io::read_frame(second)?)?;
    let mut scaler = Scaler::new(Normalisation::Frame);
    io::write_frame(drawing, &picture(&flow, Colours::default(), &mut scaler))?;
    io::write_flow(drawing.with_extension("flo"), &flow)?;
    Ok(flow)
}
