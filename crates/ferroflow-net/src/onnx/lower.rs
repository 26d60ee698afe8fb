//! The graph's operations, written as ONNX's.

use std::collections::HashMap;

use super::emit::Emit;
use super::plan::{Interface, plan};
use super::proto::{self, Attribute, Tensor, TensorHead, Values, kind};
use super::warp::Geometry;
use super::{
    CorrelationForm, Indices, OnnxError, Options, Part, Precision, WarpForm, convex_upsample, correlation, int32,
    lookup, warp,
};
use crate::graph::{Filter, Graph, Grid, MomentsOver, NodeId, Op, ParamId, Shape, Smooth};
use crate::weights::Weights;

/// A lowered network.
pub(super) struct Lowered<'w> {
    pub graph: proto::GraphHead,
    pub tensors: Vec<Tensor<'w>>,
}

pub(super) fn lower<'w>(
    graph: &'w Graph,
    weights: &'w Weights,
    shapes: &'w [Shape],
    options: &'w Options,
    flow: NodeId,
) -> Result<Lowered<'w>, OnnxError> {
    let plan = plan(graph, shapes, options, flow)?;
    let mut lower = Lower {
        emit: Emit::new(options.opset),
        graph,
        weights,
        shapes,
        options,
        values: HashMap::new(),
        parts: HashMap::new(),
        sizes: HashMap::new(),
        geometries: HashMap::new(),
        products: HashMap::new(),
        params: HashMap::new(),
        outputs: plan.outputs.iter().filter_map(|value| Some((value.node?, value.name.clone()))).collect(),
    };
    for (id, name) in &plan.fed {
        lower.set(*id, name.clone(), false);
    }
    if let Some(stacked) = plan.stacked {
        lower.emit.begin("frames");
        let name = lower.emit.concat(&["x1", "x2"], 0);
        lower.set(stacked, name, false);
    }
    for i in (0..graph.nodes.len()).filter(|&i| !plan.left_out[i]) {
        lower.node(NodeId(i as u32));
    }
    let narrow = options.indices == Indices::Int32;
    if narrow {
        lower.emit.merge_slices();
    }
    let (mut node, mut tensors) = lower.emit.needed_for(plan.outputs.iter().map(|value| value.name.as_str()));
    if narrow {
        int32::narrow(&mut node, &mut tensors);
    }
    let infos = |values: &[Interface]| values.iter().map(|value| value.info(graph, shapes, options)).collect();
    let name = if options.part == Part::Features { "features" } else { "flow" }.into();
    Ok(Lowered {
        graph: proto::GraphHead { node, name, input: infos(&plan.inputs), output: infos(&plan.outputs) },
        tensors,
    })
}

/// The name of a node's value, in the precision in which it was computed and, once asked for, in the other.
#[derive(Clone, Default)]
struct Value {
    single: Option<String>,
    half: Option<String>,
}

struct Lower<'w> {
    emit: Emit<'w>,
    graph: &'w Graph,
    weights: &'w Weights,
    /// The shape of every node at the size of the file, or at some size if that is open.
    shapes: &'w [Shape],
    options: &'w Options,
    values: HashMap<NodeId, Value>,
    /// Outputs of splits along the batch.
    parts: HashMap<(NodeId, usize), Vec<String>>,
    /// Sizes read off values at run time, by node and axis.
    sizes: HashMap<(NodeId, usize), String>,
    geometries: HashMap<Shape, Geometry>,
    /// What lookups in the same maps share, by the maps and the number of levels.
    products: HashMap<(NodeId, NodeId, usize), Vec<lookup::Level>>,
    params: HashMap<ParamId, String>,
    /// What goes out, by its name.
    outputs: HashMap<NodeId, String>,
}

impl<'w> Lower<'w> {
    fn set(&mut self, id: NodeId, name: String, half: bool) {
        let value =
            if half { Value { half: Some(name), single: None } } else { Value { single: Some(name), half: None } };
        self.values.insert(id, value);
    }

    /// A value in single precision.
    fn single(&mut self, id: NodeId) -> String {
        let value = self.values.get(&id).cloned().unwrap_or_default();
        if let Some(name) = value.single {
            return name;
        }
        let name = self.emit.cast(&value.half.unwrap_or_default(), kind::FLOAT);
        self.values.entry(id).or_default().single = Some(name.clone());
        name
    }

    /// A value in the precision of convolutions.
    fn working(&mut self, id: NodeId) -> String {
        if self.options.precision == Precision::F32 {
            return self.single(id);
        }
        let value = self.values.get(&id).cloned().unwrap_or_default();
        if let Some(name) = value.half {
            return name;
        }
        let name = self.emit.cast(&value.single.unwrap_or_default(), kind::FLOAT16);
        self.values.entry(id).or_default().half = Some(name.clone());
        name
    }

    fn is_half(&self, id: NodeId) -> bool {
        self.values.get(&id).is_some_and(|v| v.half.is_some())
    }

    /// A value in the precision it has.
    fn any(&mut self, id: NodeId) -> String {
        if self.is_half(id) { self.working(id) } else { self.single(id) }
    }

    fn shape(&self, id: NodeId) -> Shape {
        self.shapes[id.0 as usize]
    }

    fn param(&mut self, id: ParamId) -> String {
        let (param, values) = (self.graph.param(id), self.weights.get(id));
        let half = self.options.precision == Precision::F16;
        let (tensors, name) = (&mut self.emit.tensors, param.name.clone());
        self.params
            .entry(id)
            .or_insert_with(|| {
                let kind = if half { kind::FLOAT16 } else { kind::FLOAT };
                let dims = param.shape.iter().map(|&d| d as i64).collect();
                let values = if half { Values::F16(values) } else { Values::F32(values) };
                tensors.push(Tensor { head: TensorHead { dims, kind, name: name.clone() }, values });
                name
            })
            .clone()
    }

    /// The size of a value along an axis, an `i64` list of one.
    fn size(&mut self, id: NodeId, axis: usize) -> String {
        let is_fixed = if axis == 0 { self.options.batch.is_some() } else { self.options.size.is_some() };
        if is_fixed {
            return self.emit.ints(&[self.shape(id)[axis] as i64]);
        }
        if let Some(name) = self.sizes.get(&(id, axis)) {
            return name.clone();
        }
        let x = self.any(id);
        let shape = self.emit.op("Shape", &[&x], vec![]);
        let axis_index = self.emit.ints(&[axis as i64]);
        let name = self.emit.op("Gather", &[&shape, &axis_index], vec![Attribute::int("axis", 0)]);
        self.sizes.insert((id, axis), name.clone());
        name
    }

    fn convolve(&mut self, op: &str, x: NodeId, weight: ParamId, bias: Option<ParamId>, attributes: Vec<Attribute>) {
        let inputs: Vec<String> = [Some(self.working(x)), Some(self.param(weight)), bias.map(|bias| self.param(bias))]
            .into_iter()
            .flatten()
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.emit.op(op, &inputs, attributes);
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let output = self.outputs.get(&id).cloned();
        let name = output.as_deref().unwrap_or(&node.name);
        self.emit.begin(name);
        let input = |i: usize| node.inputs[i];
        let mut half = false;
        match &node.op {
            Op::Frame(_) => return self.set(id, name.to_string(), false),
            Op::Part { index, of } => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                let parts = match self.parts.get(&(input(0), *of)) {
                    Some(parts) => parts.clone(),
                    None => {
                        let parts = self.emit.split(&x, *of, 0);
                        self.parts.insert((input(0), *of), parts.clone());
                        parts
                    }
                };
                return self.set(id, parts[*index].clone(), half);
            }
            Op::Conv(c) => {
                half = self.options.precision == Precision::F16;
                let p = c.padding;
                let square = |name: &str, v: usize| Attribute::ints(name, &[v as i64, v as i64]);
                let attributes = vec![
                    Attribute::ints("kernel_shape", &c.kernel.map(|v| v as i64)),
                    square("strides", c.stride),
                    square("dilations", c.dilation),
                    Attribute::int("group", c.groups as i64),
                    Attribute::ints("pads", &[p.top, p.left, p.bottom, p.right].map(|v| v as i64)),
                ];
                self.convolve("Conv", input(0), c.weight, c.bias, attributes);
            }
            Op::Deconv(d) => {
                half = self.options.precision == Precision::F16;
                let attributes = vec![
                    Attribute::ints("kernel_shape", &[4, 4]),
                    Attribute::ints("strides", &[2, 2]),
                    Attribute::ints("pads", &[1, 1, 1, 1]),
                ];
                self.convolve("ConvTranspose", input(0), d.weight, d.bias, attributes);
            }
            Op::BatchNorm(b) => {
                half = self.options.precision == Precision::F16;
                let x = self.working(input(0));
                let [scale, shift, mean, variance] = [b.scale, b.shift, b.mean, b.variance].map(|p| self.param(p));
                let attributes = vec![Attribute::float("epsilon", b.epsilon)];
                self.emit.op("BatchNormalization", &[&x, &scale, &shift, &mean, &variance], attributes);
            }
            Op::LeakyRelu { slope } => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                if *slope == 0.0 {
                    self.emit.op("Relu", &[&x], vec![]);
                } else {
                    self.emit.op("LeakyRelu", &[&x], vec![Attribute::float("alpha", *slope)]);
                }
            }
            Op::Smooth(Smooth::Sigmoid | Smooth::Tanh) => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                let name = if node.op == Op::Smooth(Smooth::Tanh) { "Tanh" } else { "Sigmoid" };
                self.emit.op(name, &[&x], vec![]);
            }
            Op::Smooth(Smooth::Gelu) => {
                let x = self.single(input(0));
                let factor = self.emit.float(std::f32::consts::FRAC_1_SQRT_2);
                let scaled = self.emit.mul(&x, &factor);
                let erf = self.emit.op("Erf", &[&scaled], vec![]);
                let one = self.emit.float(1.0);
                let sum = self.emit.add(&erf, &one);
                let half_of = self.emit.float(0.5);
                let half_x = self.emit.mul(&x, &half_of);
                self.emit.mul(&half_x, &sum);
            }
            Op::Concat | Op::Stack => {
                half = node.inputs.iter().any(|&i| self.is_half(i));
                let parts: Vec<String> =
                    node.inputs.iter().map(|&i| if half { self.working(i) } else { self.single(i) }).collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.emit.concat(&parts, if node.op == Op::Stack { 0 } else { 1 });
            }
            Op::Channels(picked) => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                let picked: Vec<i64> = picked.iter().map(|&c| c.into()).collect();
                let indices = self.emit.ints(&picked);
                self.emit.op("Gather", &[&x, &indices], vec![Attribute::int("axis", 1)]);
            }
            Op::Affine { scale, offset } => {
                let x = self.single(input(0));
                self.affine(x, scale, offset);
            }
            Op::Add => {
                let (a, b) = (self.single(input(0)), self.single(input(1)));
                self.emit.add(&a, &b);
            }
            Op::Sub => {
                let (a, b) = (self.single(input(0)), self.single(input(1)));
                self.emit.sub(&a, &b);
            }
            Op::Product => {
                let (a, b) = (self.single(input(0)), self.single(input(1)));
                self.emit.mul(&a, &b);
            }
            Op::Lerp => {
                let [a, b, t] = [0, 1, 2].map(|i| self.single(input(i)));
                let change = self.emit.sub(&b, &a);
                let part = self.emit.mul(&t, &change);
                self.emit.add(&a, &part);
            }
            Op::InstanceNorm { epsilon } => {
                let x = self.single(input(0));
                self.normalised(&x, &[2, 3], *epsilon);
            }
            Op::LayerNorm(norm) => {
                let x = self.single(input(0));
                let unit = self.normalised(&x, &[1], norm.epsilon);
                let scale = self.per_channel(norm.scale);
                let scaled = self.emit.mul(&unit, &scale);
                let shift = self.per_channel(norm.shift);
                self.emit.add(&scaled, &shift);
            }
            Op::ChannelScale { factor } => {
                let x = self.single(input(0));
                let factor = self.per_channel(*factor);
                self.emit.mul(&x, &factor);
            }
            Op::AveragePool { size } => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                let square = |name: &str| Attribute::ints(name, &[*size as i64; 2]);
                self.emit.op("AveragePool", &[&x], vec![square("kernel_shape"), square("strides")]);
            }
            Op::Attention => {
                let [q, k, v] = [0, 1, 2].map(|i| self.single(input(i)));
                self.attention(id, [&q, &k, &v]);
            }
            Op::Coordinates { centred } => self.coordinates(input(0), *centred),
            Op::Detach => {
                half = self.is_half(input(0));
                let x = self.any(input(0));
                self.emit.op("Identity", &[&x], vec![]);
            }
            Op::ChannelMean => {
                let inputs: Vec<String> = node.inputs.iter().map(|&i| self.single(i)).collect();
                let means: Vec<String> = inputs.iter().map(|x| self.emit.reduce("ReduceMean", x, &[2, 3])).collect();
                self.mean(&means);
            }
            Op::ChannelNorm { floor } => {
                let x = self.single(input(0));
                let squares = self.emit.mul(&x, &x);
                let mut sum = self.emit.reduce("ReduceSum", &squares, &[1]);
                if *floor > 0.0 {
                    let floor = self.emit.float(*floor);
                    sum = self.emit.op("Max", &[&sum, &floor], vec![]);
                }
                self.emit.op("Sqrt", &[&sum], vec![]);
            }
            Op::Correlation(c) => {
                let (f1, f2) = (self.single(input(0)), self.single(input(1)));
                let [_, channels, ..] = self.shape(input(0));
                let form = self.options.correlation;
                let width = match form {
                    CorrelationForm::Slices => String::new(),
                    CorrelationForm::MatMul => self.size(input(0), 3),
                };
                correlation::lower(&mut self.emit, form, *c, [&f1, &f2], channels, &width);
            }
            Op::Lookup(l) => {
                let flow = self.single(input(2));
                let sides = [2, 3].map(|axis| self.size(input(0), axis));
                let key = (input(0), input(1), l.levels);
                if !self.products.contains_key(&key) {
                    let (first, second) = (self.single(input(0)), self.single(input(1)));
                    let [_, channels, h, w] = self.shape(input(0));
                    let known = |size: usize| self.options.size.is_some().then_some(size);
                    let [height, width] = sides.clone();
                    let sides = [(height, h), (width, w)].map(|(name, size)| lookup::Side { name, known: known(size) });
                    let levels = lookup::levels(&mut self.emit, *l, [&first, &second], channels, sides);
                    self.products.insert(key, levels);
                }
                self.prepare_geometry(input(0));
                let geometry = &self.geometries[&self.shapes[input(0).0 as usize]];
                let (grids, levels) = ([&geometry.columns, &geometry.rows], &self.products[&key]);
                let grids = grids.map(String::as_str);
                lookup::lower(&mut self.emit, *l, levels, &flow, grids, sides.each_ref().map(String::as_str));
            }
            Op::Warp(w) => {
                let (image, flow) = (self.single(input(0)), self.single(input(1)));
                self.prepare_geometry(input(0));
                let geometry = &self.geometries[&self.shapes[input(0).0 as usize]];
                let form = self.options.warp.unwrap_or(match self.options.opset {
                    ..16 => WarpForm::Gather,
                    _ => WarpForm::GridSample,
                });
                let is_sampled =
                    form == WarpForm::GridSample && warp::grid_sample(&mut self.emit, *w, [&image, &flow], geometry);
                if !is_sampled {
                    warp::gather(&mut self.emit, *w, [&image, &flow], geometry);
                }
            }
            Op::Resize { factor, filter, grid } => {
                let x = self.single(input(0));
                self.resize(&x, *factor, *filter, *grid);
            }
            Op::ConvexUpsample { factor } => {
                let (flow, logits) = (self.single(input(0)), self.single(input(1)));
                convex_upsample::lower(&mut self.emit, &flow, &logits, *factor);
            }
            Op::ToOutput { filter, grid } => {
                // The output has the size of the frames, and the flow is in their pixels already.
                let x = self.single(input(0));
                let factor = self.shape(id)[2] / self.shape(input(0))[2];
                self.resize(&x, factor, *filter, *grid);
            }
            Op::Moments(over) => {
                let inputs = [self.single(input(0)), self.single(input(1))];
                let (mut means, mut variances) = (Vec::new(), Vec::new());
                for x in &inputs {
                    let mean = self.emit.reduce("ReduceMean", x, &[1, 2, 3]);
                    let centred = self.emit.sub(x, &mean);
                    let squares = self.emit.mul(&centred, &centred);
                    variances.push(self.emit.reduce("ReduceMean", &squares, &[1, 2, 3]));
                    means.push(mean);
                }
                let (mean, variance) = (self.mean(&means), self.mean(&variances));
                let both = self.emit.concat(&[&mean, &variance], 1);
                if *over == MomentsOver::Batch {
                    self.emit.reduce("ReduceMean", &both, &[0]);
                }
            }
            Op::Standardise { epsilon } => {
                let (x, moments) = (self.single(input(0)), self.single(input(1)));
                let parts = self.emit.split(&moments, 2, 1);
                let epsilon = self.emit.float(*epsilon);
                let safe = self.emit.add(&parts[1], &epsilon);
                let deviation = self.emit.op("Sqrt", &[&safe], vec![]);
                let centred = self.emit.sub(&x, &parts[0]);
                self.emit.op("Div", &[&centred, &deviation], vec![]);
            }
            Op::Zeros { channels } => {
                let [n, h, w] = [0, 2, 3].map(|axis| self.size(input(0), axis));
                let channels = self.emit.ints(&[*channels as i64]);
                let shape = self.emit.concat(&[&n, &channels, &h, &w], 0);
                self.emit.op("ConstantOfShape", &[&shape], vec![]);
            }
        }
        if output.is_some() && half {
            let last = self.emit.last_output();
            self.emit.cast(&last, kind::FLOAT);
            half = false;
        }
        self.emit.rename_last(name);
        self.set(id, name.to_string(), half);
    }

    /// `scale * x + offset`, each one number or one per channel.
    fn affine(&mut self, mut x: String, scale: &[f32], offset: &[f32]) {
        let dims = |v: &[f32]| if v.len() == 1 { vec![] } else { vec![1, v.len() as i64, 1, 1] };
        let scales = scale.iter().any(|&s| s != 1.0);
        if scales {
            let factor = self.emit.floats(scale, &dims(scale));
            x = self.emit.mul(&x, &factor);
        }
        if offset.iter().any(|&o| o != 0.0) {
            let summand = self.emit.floats(offset, &dims(offset));
            self.emit.add(&x, &summand);
        } else if !scales {
            self.emit.op("Identity", &[&x], vec![]);
        }
    }

    /// A value less its mean over `axes`, divided by its standard deviation over them.
    fn normalised(&mut self, x: &str, axes: &[i64], epsilon: f32) -> String {
        let emit = &mut self.emit;
        let mean = emit.reduce("ReduceMean", x, axes);
        let centred = emit.sub(x, &mean);
        let squares = emit.mul(&centred, &centred);
        let variance = emit.reduce("ReduceMean", &squares, axes);
        let epsilon = emit.float(epsilon);
        let safe = emit.add(&variance, &epsilon);
        let deviation = emit.op("Sqrt", &[&safe], vec![]);
        emit.op("Div", &[&centred, &deviation], vec![])
    }

    /// Attention, as products of matrices of all pixels.
    fn attention(&mut self, id: NodeId, inputs: [&str; 3]) {
        let node = self.graph.node(id);
        let [channels, values] = [0, 2].map(|i| self.shape(node.inputs[i])[1]);
        // The batch as it is, and as many pixels as there are.
        let mut flat = |x: &str, channels: usize| {
            let shape = self.emit.ints(&[0, channels as i64, -1]);
            self.emit.op("Reshape", &[x, &shape], vec![])
        };
        let [q, k] = [inputs[0], inputs[1]].map(|x| flat(x, channels));
        let v = flat(inputs[2], values);
        let emit = &mut self.emit;
        let scale = emit.float((1.0 / (channels as f64).sqrt()) as f32);
        let scaled = emit.mul(&q, &scale);
        let rows = emit.transpose(&scaled, &[0, 2, 1]);
        let products = emit.op("MatMul", &[&rows, &k], vec![]);
        let weights = emit.op("Softmax", &[&products], vec![Attribute::int("axis", 2)]);
        let columns = emit.transpose(&weights, &[0, 2, 1]);
        let sums = emit.op("MatMul", &[&v, &columns], vec![]);
        let [n, h, w] = [0, 2, 3].map(|axis| self.size(node.inputs[2], axis));
        let values = self.emit.ints(&[values as i64]);
        let shape = self.emit.concat(&[&n, &values, &h, &w], 0);
        self.emit.op("Reshape", &[&sums, &shape], vec![]);
    }

    /// Column and row of each pixel.
    fn coordinates(&mut self, like: NodeId, centred: bool) {
        self.prepare_geometry(like);
        let [n, h, w] = [0, 2, 3].map(|axis| self.size(like, axis));
        let one = self.emit.ints(&[1]);
        let shape = self.emit.concat(&[&n, &one, &h, &w], 0);
        let zeros = self.emit.op("ConstantOfShape", &[&shape], vec![]);
        let geometry = &self.geometries[&self.shapes[like.0 as usize]];
        let emit = &mut self.emit;
        let planes =
            [(&geometry.columns, &geometry.last[0]), (&geometry.rows, &geometry.last[1])].map(|(line, last)| {
                let plane = emit.add(&zeros, line);
                if !centred {
                    return plane;
                }
                let (one, half) = (emit.float(1.0), emit.float(0.5));
                let size = emit.add(last, &one);
                let middle = emit.mul(&size, &half);
                emit.sub(&plane, &middle)
            });
        emit.concat(&[&planes[0], &planes[1]], 1);
    }

    /// A parameter of one number per channel, in single precision.
    fn per_channel(&mut self, id: ParamId) -> String {
        let values = self.weights.get(id);
        self.emit.floats(values, &[1, values.len() as i64, 1, 1])
    }

    /// The mean of values of one shape.
    fn mean(&mut self, values: &[String]) -> String {
        let mut sum = values[0].clone();
        for value in &values[1..] {
            sum = self.emit.add(&sum, value);
        }
        let share = self.emit.float(1.0 / values.len() as f32);
        self.emit.mul(&sum, &share)
    }

    fn resize(&mut self, x: &str, factor: usize, filter: Filter, grid: Grid) {
        if factor == 1 {
            self.emit.op("Identity", &[x], vec![]);
            return;
        }
        let (mode, coordinates) = match (filter, grid) {
            (Filter::Nearest, _) => ("nearest", "asymmetric"),
            (Filter::Bilinear, Grid::HalfPixel) => ("linear", "half_pixel"),
            (Filter::Bilinear, Grid::AlignCorners) => ("linear", "align_corners"),
            (Filter::Bilinear, Grid::Asymmetric) => ("linear", "asymmetric"),
        };
        self.emit.resize(x, factor, mode, coordinates);
    }

    /// What the warps of images of this size share.
    fn prepare_geometry(&mut self, image: NodeId) {
        let shape = self.shape(image);
        if self.geometries.contains_key(&shape) {
            return;
        }
        let [n, channels, height, width] = shape;
        let [batch_name, height_name, width_name] = [0, 2, 3].map(|axis| self.size(image, axis));
        let emit = &mut self.emit;
        let line = |length: usize| (0..length).map(|i| i as f32).collect::<Vec<_>>();
        let (columns, rows, last) = if self.options.size.is_some() {
            let last = [emit.float(width as f32 - 1.0), emit.float(height as f32 - 1.0)];
            (emit.floats(&line(width), &[width as i64]), emit.floats(&line(height), &[height as i64, 1]), last)
        } else {
            let one = emit.float(1.0);
            let [(columns, last_column), (rows, last_row)] = [&width_name, &height_name].map(|size| {
                let line = range(emit, size);
                let line = emit.cast(&line, kind::FLOAT);
                let scalar = emit.squeeze(size, 0);
                let scalar = emit.cast(&scalar, kind::FLOAT);
                (line, emit.sub(&scalar, &one))
            });
            let upright = emit.ints(&[-1, 1]);
            (columns, emit.op("Reshape", &[&rows, &upright], vec![]), [last_column, last_row])
        };
        let images = match (self.options.batch, self.options.size) {
            (Some(1), _) => emit.int(0),
            (Some(_), Some(_)) => {
                let firsts: Vec<i64> = (0..n).map(|i| (i * height * width) as i64).collect();
                let list = emit.ints(&firsts);
                let each = emit.ints(&[-1, 1, 1]);
                emit.op("Reshape", &[&list, &each], vec![])
            }
            _ => {
                let numbers = range(emit, &batch_name);
                let area = emit.mul(&height_name, &width_name);
                let firsts = emit.mul(&numbers, &area);
                let each = emit.ints(&[-1, 1, 1]);
                emit.op("Reshape", &[&firsts, &each], vec![])
            }
        };
        self.geometries.insert(shape, Geometry { columns, rows, last, width: width_name, images, channels });
    }
}

/// 0, 1, .. up to a size given as a list of one, `i64`.
fn range(emit: &mut Emit<'_>, size: &str) -> String {
    let end = emit.squeeze(size, 0);
    let (zero, one) = (emit.int(0), emit.int(1));
    emit.op("Range", &[&zero, &end, &one], vec![])
}
