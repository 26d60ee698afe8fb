//! Emits ONNX nodes: unique names, shared constants, and what differs from one operator set to the next.

use std::collections::{HashMap, HashSet};

use super::proto::{Attribute, Node, Tensor, TensorHead, Values, kind};

/// A graph in the making.
pub(super) struct Emit<'w> {
    /// Version of the operator set.
    pub opset: i64,
    pub nodes: Vec<Node>,
    pub tensors: Vec<Tensor<'w>>,
    /// Name of the node of ours that is being lowered; temporaries are named after it.
    pub scope: String,
    temporaries: usize,
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), String>,
}

impl<'w> Emit<'w> {
    pub fn new(opset: i64) -> Self {
        Self {
            opset,
            nodes: Vec::new(),
            tensors: Vec::new(),
            scope: String::new(),
            temporaries: 0,
            constants: HashMap::new(),
        }
    }

    /// The nodes and constants that `outputs` need: not what only a branch without readers or a form not taken asked for.
    pub fn needed_for<'o>(self, outputs: impl IntoIterator<Item = &'o str>) -> (Vec<Node>, Vec<Tensor<'w>>) {
        let Self { mut nodes, mut tensors, .. } = self;
        let mut needed: HashSet<String> = outputs.into_iter().map(str::to_string).collect();
        nodes.reverse();
        nodes.retain(|node| {
            let is_read = node.output.iter().any(|name| needed.contains(name));
            if is_read {
                needed.extend(node.input.iter().cloned());
            }
            is_read
        });
        nodes.reverse();
        tensors.retain(|tensor| needed.contains(&tensor.head.name));
        (nodes, tensors)
    }

    /// Starts lowering a node of ours.
    pub fn begin(&mut self, name: &str) {
        self.scope = name.to_string();
        self.temporaries = 0;
    }

    /// A node with one output, a temporary; returns its name.
    pub fn op(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = format!("{}/{}_{}", self.scope, op_type.to_lowercase(), self.temporaries);
        self.temporaries += 1;
        self.node(op_type, inputs, vec![output.clone()], attributes);
        output
    }

    /// A node.
    pub fn node(&mut self, op_type: &str, inputs: &[&str], output: Vec<String>, attribute: Vec<Attribute>) {
        self.nodes.push(Node {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            name: format!("{}:{op_type}", output[0]),
            output,
            op_type: op_type.to_string(),
            attribute,
        });
    }

    /// Gives the last node's only output another name: that of our node.
    pub fn rename_last(&mut self, name: &str) {
        if let Some(last) = self.nodes.last_mut() {
            last.name = format!("{name}:{}", last.op_type);
            last.output = vec![name.to_string()];
        }
    }

    /// The last node's first output.
    pub fn last_output(&self) -> String {
        self.nodes.last().map(|n| n.output[0].clone()).unwrap_or_default()
    }

    /// A constant of `f32`.
    pub fn floats(&mut self, values: &[f32], dims: &[i64]) -> String {
        self.constant(kind::FLOAT, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A scalar constant.
    pub fn float(&mut self, value: f32) -> String {
        self.floats(&[value], &[])
    }

    /// A constant list of `i64`.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(kind::INT64, &[values.len() as i64], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A scalar constant.
    pub fn int(&mut self, value: i64) -> String {
        self.constant(kind::INT64, &[], value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, kind: i32, dims: &[i64], bytes: Vec<u8>) -> String {
        let key = (kind, dims.to_vec(), bytes);
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        let head = TensorHead { dims: dims.to_vec(), kind, name: name.clone() };
        self.tensors.push(Tensor { head, values: Values::Own(key.2.clone()) });
        self.constants.insert(key, name.clone());
        name
    }

    pub fn cast(&mut self, x: &str, to: i32) -> String {
        self.op("Cast", &[x], vec![Attribute::int("to", to.into())])
    }

    pub fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], vec![Attribute::ints("perm", order)])
    }

    pub fn concat(&mut self, parts: &[&str], axis: i64) -> String {
        self.op("Concat", parts, vec![Attribute::int("axis", axis)])
    }

    /// `from..to` along each axis; a negative end counts from the back.
    pub fn slice(&mut self, x: &str, axes: &[i64], from: &[i64], to: &[i64], step: &[i64]) -> String {
        let (from, to) = (self.ints(from), self.ints(to));
        let (axes, step) = (self.ints(axes), self.ints(step));
        self.op("Slice", &[x, &from, &to, &axes, &step], vec![])
    }

    /// Mean or sum over axes that are kept with size 1. The axes moved from attribute to input.
    pub fn reduce(&mut self, op_type: &str, x: &str, axes: &[i64]) -> String {
        let as_input = self.opset >= if op_type == "ReduceSum" { 13 } else { 18 };
        let keep = Attribute::int("keepdims", 1);
        if as_input {
            let axes = self.ints(axes);
            self.op(op_type, &[x, &axes], vec![keep])
        } else {
            self.op(op_type, &[x], vec![Attribute::ints("axes", axes), keep])
        }
    }

    /// Removes an axis of size 1.
    pub fn squeeze(&mut self, x: &str, axis: i64) -> String {
        if self.opset >= 13 {
            let axes = self.ints(&[axis]);
            self.op("Squeeze", &[x, &axes], vec![])
        } else {
            self.op("Squeeze", &[x], vec![Attribute::ints("axes", &[axis])])
        }
    }

    /// Equal parts along an axis.
    pub fn split(&mut self, x: &str, parts: usize, axis: i64) -> Vec<String> {
        let outputs: Vec<String> =
            (0..parts).map(|i| format!("{}/split_{}_{i}", self.scope, self.temporaries)).collect();
        self.temporaries += 1;
        let mut attributes = vec![Attribute::int("axis", axis)];
        if self.opset >= 18 {
            attributes.push(Attribute::int("num_outputs", parts as i64));
        }
        self.node("Split", &[x], outputs.clone(), attributes);
        outputs
    }

    /// Values limited to `low..=high`, each a scalar's name.
    pub fn clip(&mut self, x: &str, low: &str, high: &str) -> String {
        self.op("Clip", &[x, low, high], vec![])
    }

    /// `factor` times larger along both axes of `[N, C, H, W]`.
    pub fn resize(&mut self, x: &str, factor: usize, mode: &str, coordinates: &str) -> String {
        let scales = self.floats(&[1.0, 1.0, factor as f32, factor as f32], &[4]);
        // Up to 12 the region of interest had to be there, if empty.
        let region = if self.opset < 13 { self.floats(&[], &[0]) } else { String::new() };
        let mut attributes =
            vec![Attribute::word("mode", mode), Attribute::word("coordinate_transformation_mode", coordinates)];
        if mode == "nearest" {
            attributes.push(Attribute::word("nearest_mode", "floor"));
        }
        self.op("Resize", &[x, &region, &scales], attributes)
    }

    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b], vec![])
    }

    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b], vec![])
    }

    pub fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b], vec![])
    }
}
