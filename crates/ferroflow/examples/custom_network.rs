//! A network of one's own: a graph, from which everything else follows.
//!
//!     cargo run --release -p ferroflow --example custom_network -- examples/bunny1.jpg examples/bunny2.jpg mine.onnx
//!
//! The graph says what each layer is called and what it reads; shapes, parameters, cost, the estimator and the ONNX file come
//! from it. Its weights are random here, and so is its flow: training is what `ferroflow::train` is for.

use std::{collections::BTreeMap, env, path::Path, process::ExitCode};

use ferroflow::{
    Error, Estimator, Model, Weights,
    core::io,
    infer::NetworkOptions,
    net::{
        CheckpointLayout, Fit, Graph, Protocol, PyramidUnit,
        graph::{Builder, Correlation, Filter, Frame, Grid, Naming, Size, k},
        onnx,
    },
};

/// Features of both frames at 1/8, their cost volume, four convolutions that read it.
fn graph() -> Graph {
    let mut net = Builder::new(Naming::Dotted);
    let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
    // [2N, 3, H, W]: one pass for both frames, so that they share the layers.
    let both = net.stack("frames", &frames);
    let scaled = net.affine("scaled", both, &[1.0 / 255.0], &[-0.5]);
    let conv1 = net.conv_leaky("conv1", scaled, k(5).stride(2).out(16)); // 1/2
    let conv2 = net.conv_leaky("conv2", conv1, k(3).stride(2).out(32)); // 1/4
    let conv3 = net.conv_leaky("conv3", conv2, k(3).stride(2).out(32)); // 1/8
    let first = net.part("first", conv3, 0, 2);
    let second = net.part("second", conv3, 1, 2);
    // [N, 81, H/8, W/8]: how alike are a pixel and those up to 4 away from it in the other frame.
    let cost = net.correlation("cost", first, second, Correlation { max_displacement: 4, stride: 1 });
    let x = net.concat("cost_and_features", &[cost, first]);
    let x = net.conv_leaky("conv4", x, k(3).out(64));
    let x = net.conv_leaky("conv5", x, k(3).dilation(2).out(64));
    let x = net.conv_leaky("conv6", x, k(3).out(32));
    // Pixels of its own resolution, an eighth of those of the frames.
    let coarse = net.conv("flow8", x, k(3).out(2));
    let flow = net.scale("flow8_pixels", coarse, 8.0);
    net.finish(flow, Filter::Bilinear, Grid::HalfPixel, &[coarse])
}

fn model() -> Model {
    Model {
        name: "mine",
        options: BTreeMap::new(),
        graph: graph(),
        stride: 8,
        min_size: Size { height: 16, width: 16 },
        fit: Fit::ZEROS,
        protocol: Protocol { fit: Fit::ZEROS, batch: None },
        test_gains: &[],
        level_params: Vec::new(),
        layout: CheckpointLayout::Oihw,
        pyramid_unit: PyramidUnit::Pixels(8.0),
        paper: "none yet",
        description: "an example",
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [first, second, file] = &arguments[..] else {
        eprintln!("usage: custom_network FIRST SECOND NETWORK.onnx");
        return ExitCode::from(2);
    };
    match run(first, second, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(first: &str, second: &str, file: &str) -> Result<(), Error> {
    let (first, second) = (io::read_frame(first)?, io::read_frame(second)?);
    let model = model();
    let sizes = model.sizes_for(Size { height: first.height(), width: first.width() });
    let cost = model.graph.cost(&sizes)?;
    println!("{} parameters, {:.2} GFLOP for these frames", model.graph.parameter_count(), cost.flop / 1e9);

    let weights = Weights::random(&model.graph, 1);
    let mut bytes = Vec::new();
    onnx::export(&model.graph, &weights, &onnx::Options::default(), &mut bytes)?;
    io::write_bytes(Path::new(file), &bytes)?;
    println!("wrote {file}");

    let flow = Estimator::network(model, weights, NetworkOptions::default()).estimate(&first, &second)?;
    println!("a flow of {}x{}", flow.height(), flow.width());
    Ok(())
}
