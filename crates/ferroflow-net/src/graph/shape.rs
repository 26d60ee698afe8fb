//! Shape inference.

use ferroflow_core::Size;

use super::{Graph, NodeId, Op};

/// `[N, C, H, W]`
pub type Shape = [usize; 4];

/// The batch and the sizes that an execution is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// Number of pairs in a batch.
    pub batch: usize,
    /// Size of the frames the network sees; a multiple of its stride.
    pub input: Size,
    /// Size of the flow it returns ([`Op::ToOutput`]).
    pub output: Size,
}

impl Sizes {
    /// `batch` pairs of `height` x `width`, flow of the same size.
    pub fn new(batch: usize, height: usize, width: usize) -> Self {
        let e = Size { height, width };
        Self { batch, input: e, output: e }
    }
}

/// The error of inputs that do not fit an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node `{node}` cannot take inputs of shape {inputs:?}: {reason}")]
pub struct ShapeError {
    /// The node's name.
    pub node: String,
    /// The shapes of its inputs.
    pub inputs: Vec<Shape>,
    /// What the operation needs.
    pub reason: String,
}

impl Graph {
    /// The shape of every node's value, in order.
    pub fn shapes(&self, sizes: &Sizes) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&NodeId(i)| shapes[i as usize]).collect();
            let shape = node.op.output_shape(&inputs, sizes).map_err(|reason| ShapeError {
                node: node.name.clone(),
                inputs: inputs.clone(),
                reason,
            })?;
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

impl Op {
    /// The shape of its value, or what is wrong with these inputs.
    pub fn output_shape(&self, inputs: &[Shape], sizes: &Sizes) -> Result<Shape, String> {
        infer(self, inputs, sizes)
    }
}

fn infer(op: &Op, inputs: &[Shape], sizes: &Sizes) -> Result<Shape, String> {
    let need = |count: usize| {
        if inputs.len() == count { Ok(()) } else { Err(format!("needs {count} inputs")) }
    };
    let one = || need(1).map(|()| inputs[0]);
    let same = |a: Shape, b: Shape| if a == b { Ok(a) } else { Err("both inputs must have one shape".into()) };
    match op {
        Op::Frame(_) => {
            need(0)?;
            Ok([sizes.batch, 3, sizes.input.height, sizes.input.width])
        }
        Op::Conv(c) => {
            let [n, channels, h, w] = one()?;
            if channels != c.in_channels {
                return Err(format!("needs {} channels", c.in_channels));
            }
            let out = |size: usize, kernel: usize| {
                let reach = c.dilation * (kernel - 1) + 1;
                size.checked_sub(reach).map(|s| s / c.stride + 1).ok_or("smaller than the kernel".to_string())
            };
            let (p, [rows, columns]) = (c.padding, c.kernel);
            Ok([n, c.out_channels, out(h + p.top + p.bottom, rows)?, out(w + p.left + p.right, columns)?])
        }
        Op::Deconv(d) => {
            let [n, channels, h, w] = one()?;
            if channels != d.in_channels {
                return Err(format!("needs {} channels", d.in_channels));
            }
            Ok([n, d.out_channels, 2 * h, 2 * w])
        }
        Op::BatchNorm(_)
        | Op::LeakyRelu { .. }
        | Op::Smooth(_)
        | Op::InstanceNorm { .. }
        | Op::LayerNorm(_)
        | Op::ChannelScale { .. }
        | Op::Detach => one(),
        Op::Affine { scale, offset } => {
            let s = one()?;
            let fits = |v: &[f32]| v.len() == 1 || v.len() == s[1];
            if fits(scale) && fits(offset) { Ok(s) } else { Err("one factor per channel, or one for all".into()) }
        }
        Op::Concat => {
            let &[n, _, h, w] = inputs.first().ok_or("needs at least one input")?;
            if inputs.iter().any(|s| [s[0], s[2], s[3]] != [n, h, w]) {
                return Err("all inputs must have one size".into());
            }
            Ok([n, inputs.iter().map(|s| s[1]).sum(), h, w])
        }
        Op::Stack => {
            let &first = inputs.first().ok_or("needs at least one input")?;
            if inputs.iter().any(|&s| s != first) {
                return Err("all inputs must have one shape".into());
            }
            Ok([inputs.len() * first[0], first[1], first[2], first[3]])
        }
        Op::Part { index, of } => {
            let [n, c, h, w] = one()?;
            if index >= of || n % of != 0 {
                return Err(format!("has no part {index} of {of}"));
            }
            Ok([n / of, c, h, w])
        }
        Op::Channels(picked) => {
            let [n, c, h, w] = one()?;
            if picked.iter().all(|&p| (p as usize) < c) {
                Ok([n, picked.len(), h, w])
            } else {
                Err("no such channel".into())
            }
        }
        Op::Add | Op::Product => {
            need(2)?;
            same(inputs[0], inputs[1])
        }
        Op::Lerp => {
            need(3)?;
            same(inputs[0], inputs[1])?;
            same(inputs[1], inputs[2]).map_err(|_| "all inputs must have one shape".into())
        }
        Op::Attention => {
            need(3)?;
            let [n, _, h, w] = same(inputs[0], inputs[1])?;
            let [images, channels, rows, columns] = inputs[2];
            if [images, rows, columns] == [n, h, w] {
                Ok([n, channels, h, w])
            } else {
                Err("the values must have the size of queries and keys".into())
            }
        }
        Op::Coordinates { .. } => one().map(|[n, _, h, w]| [n, 2, h, w]),
        Op::AveragePool { size } => {
            let [n, c, h, w] = one()?;
            if *size == 0 || h < *size || w < *size {
                return Err(format!("needs at least one window of {size} x {size} pixels"));
            }
            Ok([n, c, h / size, w / size])
        }
        Op::Sub => {
            need(2)?;
            let [n, c, ..] = inputs[0];
            if inputs[1] == [n, c, 1, 1] { Ok(inputs[0]) } else { same(inputs[0], inputs[1]) }
        }
        Op::ChannelMean => {
            let &first = inputs.first().ok_or("needs at least one input")?;
            if inputs.iter().any(|&s| s != first) {
                return Err("all inputs must have one shape".into());
            }
            Ok([first[0], first[1], 1, 1])
        }
        Op::ChannelNorm { .. } => one().map(|[n, _, h, w]| [n, 1, h, w]),
        Op::Correlation(c) => {
            need(2)?;
            let [n, _, h, w] = same(inputs[0], inputs[1])?;
            Ok([n, c.diameter() * c.diameter(), h, w])
        }
        Op::Lookup(lookup) => {
            need(3)?;
            let [n, _, h, w] = same(inputs[0], inputs[1])?;
            if lookup.levels == 0 || lookup.levels > 16 || lookup.radius > 7 {
                return Err("looks up 1 to 16 levels, and at most 7 pixels around".into());
            }
            if inputs[2] != [n, 2, h, w] {
                return Err("the flow must be [N, 2, H, W] of the features".into());
            }
            Ok([n, lookup.channels(), h, w])
        }
        Op::Warp(_) => {
            need(2)?;
            let ([n, _, h, w], flow) = (inputs[0], inputs[1]);
            if flow == [n, 2, h, w] { Ok(inputs[0]) } else { Err("the flow must be [N, 2, H, W] of the image".into()) }
        }
        Op::Resize { factor, .. } => one().map(|[n, c, h, w]| [n, c, factor * h, factor * w]),
        Op::ConvexUpsample { factor } => {
            need(2)?;
            let ([n, c, h, w], channels) = (inputs[0], factor.saturating_mul(*factor).saturating_mul(9));
            if *factor < 2 {
                return Err("the factor must be at least 2".into());
            }
            if c != 2 {
                return Err("a flow has two channels".into());
            }
            if inputs[1] != [n, channels, h, w] {
                return Err(format!("the logits must be [N, {channels}, h, w] of the flow"));
            }
            Ok([n, 2, factor * h, factor * w])
        }
        Op::ToOutput { .. } => {
            let [n, c, ..] = one()?;
            if c != 2 {
                return Err("a flow has two channels".into());
            }
            Ok([n, 2, sizes.output.height, sizes.output.width])
        }
        Op::Moments(_) => {
            need(2)?;
            same(inputs[0], inputs[1]).map(|[n, ..]| [n, 2, 1, 1])
        }
        Op::Standardise { .. } => {
            need(2)?;
            if inputs[1] == [inputs[0][0], 2, 1, 1] { Ok(inputs[0]) } else { Err("needs the output of Moments".into()) }
        }
        Op::Zeros { channels } => one().map(|[n, _, h, w]| [n, *channels, h, w]),
    }
}
