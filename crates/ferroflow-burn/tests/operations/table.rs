//! The table: a row for every operation with each of its settings, in a small network of its own.

use ferroflow_net::NodeId;
use ferroflow_net::graph::{
    Builder, Correlation, Filter, FlowOrder, Frame, Graph, Grid, Lookup, MomentsOver, Naming, OnPixel, Padding, Size,
    Sizes, Warp, WarpBorder, k, kr,
};

/// An operation with its settings.
pub struct Row {
    /// The operation as [`crate::coverage::operation`] names it, then its settings.
    pub name: String,
    /// What it reads are convolutions of the frames, as a rule, so that their gradients show its own; what it gives
    /// becomes the flow.
    pub graph: Graph,
    pub sizes: Sizes,
    /// Why the CPU's plan for training does not take it, if it does not.
    pub refused: Option<&'static str>,
    /// Whether differences of the flow are its slope: not where a warp samples on pixels.
    pub smooth: bool,
    /// Whether it is written to ONNX, where the flow has the size of the frames.
    pub exported: bool,
}

impl Row {
    fn frames(mut self, batch: usize, height: usize, width: usize) -> Self {
        self.sizes = Sizes::new(batch, height, width);
        self
    }

    fn flow(mut self, height: usize, width: usize) -> Self {
        self.sizes.output = Size { height, width };
        self.exported = false;
        self
    }

    fn refused(self, reason: &'static str) -> Self {
        Self { refused: Some(reason), ..self }
    }

    fn on_pixels(self) -> Self {
        Self { smooth: false, ..self }
    }
}

/// What a row's network begins with.
#[derive(Clone, Copy)]
struct Start {
    frames: [NodeId; 2],
    /// Six channels of both frames, -1..1.
    x: NodeId,
}

/// A row of 2 pairs of 6 x 8; `build` gives the operation's value, or what is made of it.
fn row(name: impl Into<String>, build: impl FnOnce(&mut Builder, Start) -> NodeId) -> Row {
    finished(name, Filter::Bilinear, Grid::HalfPixel, build)
}

/// The same with an output that resizes in this way.
fn finished(
    name: impl Into<String>,
    filter: Filter,
    grid: Grid,
    build: impl FnOnce(&mut Builder, Start) -> NodeId,
) -> Row {
    let mut net = Builder::new(Naming::Dotted);
    let frames = [Frame::First, Frame::Second].map(|frame| net.frame(frame));
    let both = net.concat("frames", &frames);
    let x = net.affine("unit", both, &[1.0 / 128.0], &[-1.0]);
    let value = build(&mut net, Start { frames, x });
    let flow = if net.channels_of(value) == 2 { value } else { net.conv("head", value, k(1).out(2)) };
    let graph = net.finish(flow, filter, grid, &[value]);
    Row { name: name.into(), graph, sizes: Sizes::new(2, 6, 8), refused: None, smooth: true, exported: true }
}

/// Features `a` and `b` of as many channels.
fn pair(net: &mut Builder, x: NodeId, channels: usize) -> [NodeId; 2] {
    ["a", "b"].map(|name| net.conv(name, x, k(3).out(channels)))
}

/// Every row.
pub fn rows() -> Vec<Row> {
    let parts: [fn() -> Vec<Row>; 9] =
        [views, pointwise, convolutions, depthwise_convolutions, statistics, correlations, lookups, warps, resizes];
    parts.iter().flat_map(|rows| rows()).collect()
}

fn views() -> Vec<Row> {
    vec![
        row("frame, one channel of each", |net, s| net.channels("y", s.x, &[3, 1])),
        row("concat of few channels", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            net.concat("y", &[a, s.x, b])
        }),
        row("concat of blocks and of parts of them", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let c = net.conv("c", s.x, k(1).out(16));
            let inner = net.concat("inner", &[a, c]);
            let y = net.concat("y", &[inner, b, s.x]);
            net.conv("reader", y, k(3).out(5))
        }),
        row("concat of a value with itself", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            net.concat("y", &[a, b, a])
        }),
        row("concat of a value with a concatenation of it", |net, s| {
            let [a, b] = pair(net, s.x, 16);
            let inner = net.concat("inner", &[a, b]);
            let y = net.concat("y", &[inner, a]);
            net.conv("reader", y, k(3).out(2))
        }),
        row("stack", |net, s| {
            let [a, b] = pair(net, s.x, 5);
            let stacked = net.stack("y", &[a, b, a]);
            let shared = net.conv("shared", stacked, k(3).out(4));
            let [first, second] = [0, 1].map(|i| net.part(&format!("part{i}"), shared, i, 3));
            net.difference("change", first, second)
        }),
        row("stack of frames", |net, s| {
            let stacked = net.stack("y", &s.frames);
            let unit = net.affine("signed", stacked, &[1.0 / 128.0], &[-1.0]);
            let shared = net.conv("shared", unit, k(3).out(4));
            let parts = [0, 1].map(|i| net.part(&format!("part{i}"), shared, i, 2));
            net.concat("both", &parts)
        }),
        row("part", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let stacked = net.stack("stacked", &[a, b]);
            let y = net.part("y", stacked, 1, 2);
            net.sum("sum", y, a)
        }),
        row("part, beside another part of the same value", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let stacked = net.stack("stacked", &[a, b]);
            let shared = net.conv_leaky("shared", stacked, k(3).out(18));
            let parts = ["y", "z", "y'"].iter().enumerate().map(|(i, name)| net.part(name, shared, i % 2, 2));
            let parts: Vec<NodeId> = parts.collect();
            net.concat("both", &parts)
        }),
        row("channels, another order", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            net.channels("y", a, &[2, 1, 0])
        }),
        row("channels, a slice", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            net.channels("y", a, &[1, 2])
        }),
        row("channels, one twice", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            net.channels("y", a, &[0, 0, 2])
        }),
        row("channels, a whole block", |net, s| {
            let a = net.conv("a", s.x, k(3).out(35));
            net.channels("y", a, &(16..32).collect::<Vec<u32>>())
        }),
        row("zeros", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            let zeros = net.zeros("y", a, 5);
            net.concat("both", &[a, zeros])
        }),
    ]
}

fn pointwise() -> Vec<Row> {
    let mut rows = vec![
        row("leaky ReLU behind a convolution", |net, s| net.conv_leaky("a", s.x, k(3).out(19))),
        row("leaky ReLU on its own", |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            let y = net.leaky("y", a);
            net.difference("change", a, y)
        }),
        row("affine, one factor", |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            net.scale("y", a, -0.7)
        }),
        row("affine, factors and summands", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            let y = net.affine("y", a, &[1.5, -2.0, 0.25], &[0.5, 1.0, -1.0]);
            net.affine("again", y, &[0.5], &[0.25, 0.0, 0.5])
        }),
        row("affine of a sum", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            let sum = net.sum("sum", a, b);
            let y = net.affine("y", sum, &[1.5, -2.0, 0.25], &[0.5]);
            net.leaky("leaky", y)
        }),
        row("affine of frames", |net, s| {
            let picked = net.channels("picked", s.x, &[4, 0, 5]);
            net.affine("y", picked, &[1.5, -2.0, 0.25], &[0.5, 1.0, -1.0])
        }),
        row("add", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            net.sum("y", a, b)
        }),
        row("add of a value to itself", |net, s| {
            let a = net.conv("a", s.x, k(3).out(3));
            net.sum("y", a, a)
        }),
        row("add behind a convolution", |net, s| {
            let a = net.conv_leaky("a", s.x, k(3).out(19));
            let b = net.conv("b", a, k(3).out(19));
            let y = net.sum("y", a, b);
            net.leaky("leaky", y)
        }),
        row("sub", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let y = net.difference("y", a, b);
            net.leaky("leaky", y)
        }),
    ];
    type Curve = fn(&mut Builder, &str, NodeId) -> NodeId;
    let curves: [(&str, Curve); 4] =
        [("sigmoid", Builder::sigmoid), ("tanh", Builder::tanh), ("GELU", Builder::gelu), ("ReLU", Builder::relu)];
    for (name, curve) in curves {
        let kind = if name == "ReLU" { "leaky ReLU" } else { "smooth activation" };
        rows.push(row(format!("{kind}, {name} behind a convolution"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            let y = curve(net, "y", a);
            net.conv("reader", y, k(3).out(2))
        }));
        rows.push(row(format!("{kind}, {name} of a sum with a convolution"), |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let sum = net.sum("sum", a, b);
            let y = curve(net, "y", sum);
            net.conv("reader", y, k(3).out(2))
        }));
        rows.push(row(format!("{kind}, {name} on its own"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            let y = curve(net, "y", a);
            let both = net.difference("change", a, y);
            net.conv("reader", both, k(1).out(2))
        }));
        rows.push(row(format!("{kind}, {name} of few channels"), |net, s| {
            let a = net.conv("a", s.x, k(3).stride(2).out(2));
            let fine = net.resize("fine", a, 2, Filter::Bilinear, Grid::HalfPixel);
            let y = curve(net, "y", fine);
            net.sum("sum", y, fine)
        }));
        rows.push(row(format!("{kind}, {name} behind a depthwise convolution"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            let b = net.conv("b", a, k(3));
            let y = curve(net, "y", b);
            net.conv("pointwise", y, k(1).out(2))
        }));
    }
    rows.push(row("product", |net, s| {
        let [a, b] = pair(net, s.x, 19);
        net.product("y", a, b)
    }));
    rows.push(row("product of a value and itself", |net, s| {
        let a = net.conv("a", s.x, k(3).out(3));
        net.product("y", a, a)
    }));
    rows.push(row("product of a sigmoid and frames", |net, s| {
        let a = net.conv("a", s.x, k(3).out(6));
        let gate = net.sigmoid("gate", a);
        net.product("y", gate, s.x)
    }));
    rows.push(row("lerp", |net, s| {
        let [a, b] = pair(net, s.x, 19);
        let t = net.conv("t", s.x, k(1).out(19));
        net.lerp("y", a, b, t)
    }));
    rows.push(row("lerp of a value and itself by itself", |net, s| {
        let [a, b] = pair(net, s.x, 3);
        let y = net.lerp("y", a, b, a);
        net.lerp("z", y, y, b)
    }));
    rows.push(row("lerp as a GRU has it, with the same weights and the same context each time", |net, s| {
        let x = net.conv("input", s.x, k(3).out(70));
        let mut h = net.conv("state", s.x, k(3).out(35));
        h = net.tanh("h", h);
        for i in 0..3 {
            let hx = net.concat(&format!("hx{i}"), &[h, x]);
            let [z, r] = ["z", "r"].map(|name| {
                let linear = net.conv((format!("{name}{i}.conv"), name), hx, kr(1, 5).out(35));
                net.sigmoid(&format!("{name}{i}"), linear)
            });
            let reset = net.product(&format!("rh{i}"), r, h);
            let rhx = net.concat(&format!("rhx{i}"), &[reset, x]);
            let q = net.conv((format!("q{i}.conv"), "q"), rhx, kr(5, 1).out(35));
            let q = net.tanh(&format!("q{i}"), q);
            h = net.lerp(&format!("h{i}"), h, q, z);
        }
        net.conv("reader", h, k(3).out(2))
    }));
    for channels in [3, 19] {
        rows.push(row(format!("channel scale of {channels} channels"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(channels));
            let y = net.channel_scale("y.gamma", a);
            net.leaky("leaky", y)
        }));
        rows.push(row(format!("channel scale of a sum of {channels} channels"), |net, s| {
            let [a, b] = pair(net, s.x, channels);
            let sum = net.sum("sum", a, b);
            let y = net.channel_scale("y.gamma", sum);
            net.sum("again", y, a)
        }));
    }
    rows.push(
        row("detach", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            let fixed = net.detach("y", a);
            let product = net.product("product", fixed, b);
            net.sum("sum", product, a)
        })
        .on_pixels(),
    );
    rows.push(
        row("detach of a value that is read once and of frames", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            let y = net.conv("c", a, k(3).out(3));
            let fixed = net.detach("y", y);
            let frames = net.detach("frames'", s.x);
            let own = net.conv("own", a, k(3).out(3));
            net.concat("all", &[fixed, b, frames, own])
        })
        .on_pixels(),
    );
    for floor in [0.0, 1.0] {
        rows.push(row(format!("channel norm from {floor}"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(19));
            net.channel_norm("y", a, floor)
        }));
    }
    rows.push(row("channel norm of frames", |net, s| {
        let difference = net.difference("difference", s.frames[0], s.frames[1]);
        let y = net.channel_norm("y", difference, 0.0);
        net.scale("unit norm", y, 1.0 / 128.0)
    }));
    rows
}

fn convolutions() -> Vec<Row> {
    let mut rows = Vec::new();
    let specs = [
        ("1x1", k(1).out(5)),
        ("3x3", k(3).out(19)),
        ("3x3 without bias", k(3).out(4).no_bias()),
        ("5x5", k(5).out(3)),
        ("3x3, dilation 2", k(3).dilation(2).out(4)),
        ("3x3, dilation 4", k(3).dilation(4).out(17)),
        ("7x7", k(7).out(18)),
        ("1x5", kr(1, 5).out(19)),
        ("5x1", kr(5, 1).out(19)),
        ("1x5, dilation 2", kr(1, 5).dilation(2).out(4)),
        ("3x1 without bias", kr(3, 1).out(35).no_bias()),
        ("2x4, uneven padding", kr(2, 4).out(5).padding(Padding { top: 0, left: 2, bottom: 1, right: 1 })),
        ("1x7 to a flow", kr(1, 7).out(2)),
    ];
    for (name, spec) in specs {
        rows.push(row(format!("convolution {name}"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(18));
            net.conv("y", a, spec)
        }));
    }
    let strided = [
        ("3x3", k(3).out(4)),
        ("1x1", k(1).out(5)),
        ("3x5", kr(3, 5).out(18)),
        ("7x7", k(7).out(18)),
        ("3x3, uneven padding", k(3).out(4).padding(Padding::before_after(0, 1))),
    ];
    for (name, spec) in strided {
        let behind = move |net: &mut Builder, from: NodeId| {
            let y = net.conv("y", from, spec.stride(2));
            net.conv("coarse", y, k(3).out(2))
        };
        rows.push(row(format!("convolution {name}, stride 2"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(18));
            behind(net, a)
        }));
        rows.push(row(format!("convolution {name}, stride 2, of frames"), |net, s| behind(net, s.x)));
    }
    rows.push(row("convolution run twice with the same weights", |net, s| {
        let a = net.conv("a", s.x, k(3).out(4));
        let once = net.conv_leaky(("once", "y"), a, k(3).out(4));
        net.conv_leaky(("twice", "y"), once, k(3).out(4))
    }));
    for bias in [true, false] {
        rows.push(row(format!("transposed convolution, bias {bias}"), |net, s| {
            let a = net.conv("a", s.x, k(3).stride(2).out(18));
            let y = net.deconv("y", a, 3, bias);
            net.leaky("leaky", y)
        }));
    }
    rows.push(row("transposed convolution to a flow", |net, s| {
        let a = net.conv("a", s.x, k(3).stride(2).out(3));
        net.deconv("y", a, 2, true)
    }));
    rows
}

fn depthwise_convolutions() -> Vec<Row> {
    let mut rows = Vec::new();
    let specs = [
        ("stride 1", k(3)),
        ("stride 1 without bias", k(3).no_bias()),
        ("stride 2", k(3).stride(2)),
        ("stride 2, uneven padding", k(3).stride(2).padding(Padding::before_after(0, 1))),
        ("7x7", k(7)),
        ("5x3 without bias", kr(5, 3).no_bias()),
        ("5x5, uneven padding", k(5).padding(Padding { top: 3, left: 0, bottom: 1, right: 4 })),
    ];
    for (name, spec) in specs {
        for channels in [3, 35] {
            rows.push(row(format!("depthwise convolution, {name}, {channels} channels"), |net, s| {
                let a = net.conv("a", s.x, k(3).out(channels));
                let y = net.conv("y", a, spec);
                let y = net.leaky("leaky", y);
                net.conv("reader", y, k(3).out(2))
            }));
        }
    }
    rows.push(row("depthwise convolution of frames", |net, s| net.conv("y", s.x, k(3))));
    rows.push(row("depthwise convolution, padding 2", |net, s| {
        let a = net.conv("a", s.x, k(3).out(5));
        let y = net.conv("y", a, k(3).padding(Padding { top: 2, left: 0, bottom: 0, right: 2 }));
        net.conv_leaky("reader", y, k(3).out(2))
    }));
    rows.push(row("depthwise convolution and batch norm", |net, s| {
        let a = net.conv("a", s.x, k(3).out(5));
        let y = net.conv("y", a, k(3));
        let y = net.batch_norm("norm", y);
        net.leaky("leaky", y)
    }));
    rows.push(row("depthwise convolution of an enlarged value and another", |net, s| {
        let [coarse, fine] = [("a", 2), ("b", 1)].map(|(name, stride)| net.conv(name, s.x, k(3).stride(stride).out(5)));
        let enlarged = net.resize("enlarged", coarse, 2, Filter::Nearest, Grid::HalfPixel);
        let both = net.concat("both", &[enlarged, fine]);
        net.conv("y", both, k(3))
    }));
    // Followed by a 1x1 convolution: the separable block.
    for stride in [1, 2] {
        rows.push(row(format!("depthwise convolution, separable block, stride {stride}"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(18));
            let y = net.conv("y", a, k(3).stride(stride).no_bias());
            let y = net.batch_norm("norm1", y);
            let y = net.leaky("leaky1", y);
            let y = net.conv("pointwise", y, k(1).out(5).no_bias());
            let y = net.batch_norm("norm2", y);
            let y = net.leaky("leaky2", y);
            net.conv("reader", y, k(3).out(2))
        }));
    }
    rows.push(row("depthwise convolution, separable block of frames", |net, s| {
        let y = net.conv("y", s.x, k(3).no_bias());
        let y = net.batch_norm("norm1", y);
        let y = net.leaky("leaky", y);
        let y = net.conv("pointwise", y, k(1).out(5).no_bias());
        net.batch_norm("norm2", y)
    }));
    rows.push(row("depthwise convolution, then 1x1, with biases", |net, s| {
        let a = net.conv("a", s.x, k(3).out(18));
        let y = net.conv_leaky("y", a, k(3));
        net.conv_leaky("pointwise", y, k(1).out(5))
    }));
    rows.push(row("depthwise convolution, then 1x1, with one norm", |net, s| {
        let a = net.conv("a", s.x, k(3).out(18));
        let y = net.conv("y", a, k(3).no_bias());
        let y = net.batch_norm("norm", y);
        let y = net.leaky("leaky", y);
        net.conv("pointwise", y, k(1).out(5))
    }));
    rows
}

fn statistics() -> Vec<Row> {
    let mut rows = vec![
        row("batch norm behind a convolution", |net, s| {
            let a = net.conv("a", s.x, k(3).out(18).no_bias());
            let y = net.batch_norm("y", a);
            net.leaky("leaky", y)
        }),
        row("batch norm of a sum", |net, s| {
            let [a, b] = pair(net, s.x, 3);
            let sum = net.sum("sum", a, b);
            net.batch_norm("y", sum)
        }),
        row("channel mean of frames", |net, s| {
            let mean = net.channel_mean("y", &s.frames);
            let centred = net.difference("centred", s.frames[1], mean);
            let unit = net.scale("signed", centred, 1.0 / 128.0);
            net.conv("reader", unit, k(3).out(4))
        }),
        row("channel mean of values", |net, s| {
            let [a, b] = pair(net, s.x, 19);
            let mean = net.channel_mean("y", &[a, b]);
            net.difference("centred", b, mean)
        })
        .refused("mean"),
    ];
    for channels in [3, 35] {
        rows.push(row(format!("instance norm of {channels} channels"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(channels));
            let y = net.instance_norm("y", a);
            let y = net.relu("relu", y);
            net.conv("reader", y, k(3).out(2))
        }));
        rows.push(row(format!("layer norm of {channels} channels"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(channels));
            net.layer_norm("y", a, 1e-3)
        }));
    }
    rows.push(row("instance norm of a stack", |net, s| {
        let [a, b] = pair(net, s.x, 19);
        let both = net.stack("both", &[a, b]);
        let y = net.instance_norm("y", both);
        let [a, b] = [0, 1].map(|i| net.part(&format!("part{i}"), y, i, 2));
        net.product("product", a, b)
    }));
    rows.push(row("layer norm, then 1x1 and GELU, as ConvNeXt has it", |net, s| {
        let a = net.conv("a", s.x, k(3).out(19));
        let b = net.conv("b", a, k(7));
        let y = net.layer_norm("y", b, 1e-6);
        let wide = net.conv("wide", y, k(1).out(40));
        let wide = net.gelu("gelu", wide);
        let narrow = net.conv("narrow", wide, k(1).out(19));
        let scaled = net.channel_scale("gamma", narrow);
        net.sum("sum", a, scaled)
    }));
    for over in [MomentsOver::Pair, MomentsOver::Batch] {
        for operation in ["moments", "standardise"] {
            rows.push(row(format!("{operation}, over {over:?}"), |net, s| {
                let [a, b] = pair(net, s.x, 19);
                let (a, b) = net.standardise(["moments", "a'", "b'"], a, b, over, 1e-3);
                net.concat("both", &[a, b])
            }));
        }
    }
    rows
}

fn correlations() -> Vec<Row> {
    let mut rows = Vec::new();
    for (channels, values) in [(3, 2), (19, 35)] {
        rows.push(row(format!("attention of {channels} channels to {values}"), |net, s| {
            let v = net.conv("v", s.x, k(1).out(values));
            let [queries, keys] = pair(net, s.x, channels);
            net.attention("y", queries, keys, v)
        }));
    }
    rows.push(row("attention of a value to itself", |net, s| {
        let a = net.conv("a", s.x, k(3).out(19));
        net.attention("y", a, a, a)
    }));
    rows.push(row("attention to places, as global matching has it", |net, s| {
        let [a, b] = pair(net, s.x, 19);
        net.global_matching("y", a, b)
    }));
    for centred in [false, true] {
        rows.push(row(format!("coordinates, centred {centred}"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(2));
            let places = net.coordinates("y", a, centred);
            net.product("product", a, places)
        }));
    }
    for (max_displacement, stride) in [(0, 1), (2, 1), (4, 2), (5, 2), (9, 3)] {
        let correlation = Correlation { max_displacement, stride };
        for channels in [3, 19] {
            rows.push(row(format!("correlation, {max_displacement} by {stride}, of {channels} channels"), |net, s| {
                let [a, b] = pair(net, s.x, channels);
                net.correlation("y", a, b, correlation)
            }));
        }
    }
    let correlation = Correlation { max_displacement: 2, stride: 1 };
    rows.push(row("correlation and leaky ReLU", |net, s| {
        let [a, b] = pair(net, s.x, 19);
        let y = net.correlation("y", a, b, correlation);
        net.leaky("leaky", y)
    }));
    rows.push(row("correlation of a value with itself", |net, s| {
        let a = net.conv("a", s.x, k(3).out(3));
        net.correlation("y", a, a, correlation)
    }));
    rows
}

fn lookups() -> Vec<Row> {
    // Levels of odd sizes, and none at all; windows inside and over the border.
    let sizes = [(3, 4, [2, 6, 8]), (4, 2, [1, 9, 7]), (1, 1, [1, 1, 2]), (2, 3, [1, 13, 18])];
    let mut rows: Vec<Row> = sizes
        .into_iter()
        .map(|(radius, levels, [batch, height, width])| {
            let name = format!("lookup, radius {radius}, {levels} levels, {batch} of {height} x {width}");
            row(name, |net, s| {
                let features = pair(net, s.x, 19);
                let flow = net.conv("motion", s.x, k(3).out(2));
                let flow = net.affine("far", flow, &[1.7], &[0.37]);
                net.lookup("y", features, flow, Lookup { radius, levels })
            })
            .frames(batch, height, width)
        })
        .collect();
    rows.push(row("lookup in one map, by channels of it", |net, s| {
        let a = net.conv("a", s.x, k(3).out(35));
        let flow = net.channels("motion", a, &[20, 18]);
        net.lookup("y", [a, a], flow, Lookup { radius: 2, levels: 2 })
    }));
    rows.push(row("lookup twice in a pair", |net, s| {
        let features = pair(net, s.x, 16);
        let flow = net.conv("motion", s.x, k(3).out(2));
        let first = net.lookup("y", features, flow, Lookup { radius: 1, levels: 2 });
        let more = net.conv("more", first, k(1).out(2));
        let second = net.lookup("again", features, more, Lookup { radius: 1, levels: 2 });
        net.concat("both", &[first, second])
    }));
    rows
}

fn warps() -> Vec<Row> {
    let borders = [
        WarpBorder::Replicate,
        WarpBorder::Zeros,
        WarpBorder::ZerosMasked { threshold: 0.999 },
        WarpBorder::ZerosMasked { threshold: 0.5 },
        WarpBorder::Extrapolate,
        WarpBorder::Caffe,
    ];
    let mut rows = Vec::new();
    let orders = [FlowOrder::Uv, FlowOrder::Vu, FlowOrder::NegatedVu];
    for (border, order) in borders.into_iter().flat_map(|border| orders.map(|order| (border, order))) {
        let warp = Warp { border, order, scale: 2.7, on_pixel: OnPixel::Right };
        rows.push(row(format!("warp, {border:?}, {order:?}"), |net, s| {
            let [image, flow] = [("image", 3), ("motion", 2)].map(|(name, c)| net.conv(name, s.x, k(3).out(c)));
            net.warp("y", image, flow, warp)
        }));
    }
    let rules = [
        (WarpBorder::Replicate, OnPixel::Right),
        (WarpBorder::Replicate, OnPixel::Zero),
        (WarpBorder::Replicate, OnPixel::ZeroButLast),
        (WarpBorder::Zeros, OnPixel::Right),
        (WarpBorder::Zeros, OnPixel::Zero),
        (WarpBorder::Caffe, OnPixel::Right),
    ];
    for (border, on_pixel) in rules {
        let warp = Warp { border, order: FlowOrder::Uv, scale: 1.0, on_pixel };
        rows.push(
            row(format!("warp, {border:?}, by a flow of zero, {on_pixel:?}"), |net, s| {
                let image = net.conv("image", s.x, k(3).out(19));
                let flow = net.conv("motion", s.x, k(3).out(2).no_bias().gain(0.0));
                net.warp("y", image, flow, warp)
            })
            .on_pixels(),
        );
    }
    let warp = Warp { border: WarpBorder::Replicate, order: FlowOrder::Uv, scale: 1.0, on_pixel: OnPixel::Right };
    // Nothing else reads the warped map: both are one step, whose gradient warps again.
    let together = [
        (4, 1, 19, [2, 6, 8], WarpBorder::ZerosMasked { threshold: 0.999 }, FlowOrder::Uv),
        (3, 1, 9, [1, 17, 35], WarpBorder::Replicate, FlowOrder::NegatedVu),
        (4, 3, 1, [3, 1, 18], WarpBorder::Extrapolate, FlowOrder::Vu),
        (0, 1, 8, [1, 33, 2], WarpBorder::Caffe, FlowOrder::Uv),
        (6, 1, 5, [1, 7, 9], WarpBorder::Zeros, FlowOrder::Vu),
    ];
    for (max_displacement, stride, channels, [batch, height, width], border, order) in together {
        let name = format!("correlation, {max_displacement} by {stride}, of {channels} channels with a warped map");
        let correlated = row(name, |net, s| {
            let [a, b] = pair(net, s.x, channels);
            let flow = net.conv("motion", s.x, k(3).out(2));
            let warped = net.warp("warped", b, flow, Warp { border, order, scale: 2.7, on_pixel: OnPixel::Right });
            net.correlation("y", a, warped, Correlation { max_displacement, stride })
        });
        rows.push(correlated.frames(batch, height, width));
    }
    rows.push(row("correlation of features with themselves, warped", |net, s| {
        let a = net.conv("a", s.x, k(3).out(2));
        let warped = net.warp("warped", a, a, warp);
        net.correlation("y", a, warped, Correlation { max_displacement: 2, stride: 1 })
    }));
    rows.push(row("warp by channels of one block", |net, s| {
        let [image, flow] = [("image", 19), ("motion", 35)].map(|(name, c)| net.conv(name, s.x, k(3).out(c)));
        let flow = net.channels("picked", flow, &[20, 18]);
        net.warp("y", image, flow, warp)
    }));
    rows.push(row("warp by the value that is warped", |net, s| {
        let a = net.conv("a", s.x, k(3).out(2));
        net.warp("y", a, a, warp)
    }));
    // As FlowNet2 has it: the second frame warped, and what is left.
    rows.push(row("warp of a frame", |net, s| {
        let [first, second] = s.frames.map(|frame| frame);
        let flow = net.conv("motion", s.x, k(3).stride(2).out(2));
        let flow = net.resize("fine", flow, 2, Filter::Bilinear, Grid::HalfPixel);
        let warped = net.warp("y", second, flow, warp);
        let difference = net.difference("difference", first, warped);
        let error = net.channel_norm("error", difference, 0.0);
        let scaled = [("warped", warped), ("error'", error)].map(|(name, value)| net.scale(name, value, 1.0 / 128.0));
        net.concat("all", &[s.x, scaled[0], flow, scaled[1]])
    }));
    rows
}

fn resizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for (size, channels, height, width) in [(2, 19, 12, 8), (3, 3, 9, 15)] {
        let pooled = row(format!("average pool {size}"), |net, s| {
            let a = net.conv("a", s.x, k(3).out(channels));
            let y = net.avg_pool("y", a, size);
            net.conv("reader", y, k(3).out(2))
        });
        rows.push(pooled.frames(2, height, width));
    }
    let pooled = row("average pool 2 of odd sizes", |net, s| {
        let a = net.conv("a", s.x, k(3).out(19));
        net.avg_pool("y", a, 2)
    });
    rows.push(pooled.frames(1, 7, 5).flow(6, 4));
    let ways = [Grid::HalfPixel, Grid::AlignCorners, Grid::Asymmetric]
        .map(|grid| [Filter::Nearest, Filter::Bilinear].map(|filter| (filter, grid)));
    for (filter, grid) in ways.into_iter().flatten() {
        for factor in [1, 2, 4] {
            let resized = row(format!("resize by {factor}, {filter:?}, {grid:?}"), |net, s| {
                let a = net.conv("a", s.x, k(3).stride(factor).out(19));
                let y = net.resize("y", a, factor, filter, grid);
                net.scale("scaled", y, -1.5)
            });
            rows.push(resized.frames(2, 8, 12));
        }
        let output = |how: &str, stride: usize| {
            finished(format!("to output {how}, {filter:?}, {grid:?}"), filter, grid, |net, s| {
                net.conv("a", s.x, k(3).stride(stride).out(2))
            })
        };
        let other = output("of another size", 1).flow(11, 5);
        rows.extend([output("as it is", 1), output("of twice the size", 2), other]);
    }
    for (factor, [batch, height, width]) in
        [(2, [1, 1, 1]), (2, [2, 5, 7]), (2, [1, 18, 33]), (3, [2, 4, 3]), (4, [2, 3, 5]), (8, [1, 2, 3])]
    {
        let build = |net: &mut Builder, s: Start| {
            let coarse = k(3).stride(factor);
            let flow = net.conv("motion", s.x, coarse.out(2));
            let logits = net.conv("logits", s.x, coarse.out(9 * factor * factor));
            net.convex_upsample("y", flow, logits, factor)
        };
        let name = format!("convex upsampling by {factor} of {batch} of {height} x {width}");
        let frames = |row: Row| row.frames(batch, factor * height, factor * width);
        rows.push(frames(row(name.clone(), build)));
        rows.push(frames(row(format!("{name}, scaled"), |net, s| {
            let y = build(net, s);
            net.affine("scaled", y, &[factor as f32, -0.5], &[0.0])
        })));
        rows.push(frames(row(format!("{name}, to another size"), build)).flow(7, 9));
    }
    rows.push(row("convex upsampling of a flow by itself", |net, s| {
        let a = net.conv("a", s.x, k(3).stride(2).out(36));
        let flow = net.channels("motion", a, &[3, 21]);
        net.convex_upsample("y", flow, a, 2)
    }));
    rows
}
