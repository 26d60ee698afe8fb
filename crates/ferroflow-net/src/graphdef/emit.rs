//! Emits TensorFlow's nodes: names, shared constants and attributes.

use std::collections::{BTreeMap, HashMap};

use super::proto::{Attribute, Ints, Node, Shape, Tensor, Value, kind};

/// A graph in the making.
#[derive(Default)]
pub(super) struct Emit {
    pub nodes: Vec<Node>,
    constants: HashMap<(i32, Vec<usize>, Vec<u8>), String>,
    /// Name of the node of ours that is being lowered.
    scope: String,
    temporaries: usize,
}

impl Emit {
    /// Starts lowering a node of ours.
    pub fn begin(&mut self, name: &str) {
        self.scope = name.to_string();
        self.temporaries = 0;
    }

    /// A node of floats; returns its name.
    pub fn op(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        let mut attributes = attributes.to_vec();
        attributes.push(("T", Value::Type(kind::FLOAT)));
        self.node(op, inputs, &attributes)
    }

    /// A node with all of its attributes given.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        let name = format!("{}/{op}_{}", self.scope, self.temporaries);
        self.temporaries += 1;
        self.named(&name, op, inputs, attributes);
        name
    }

    /// A node of this name.
    pub fn named(&mut self, name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) {
        let attribute = |(key, value): &(&str, Value)| (key.to_string(), Attribute { value: Some(value.clone()) });
        self.nodes.push(Node {
            name: name.into(),
            op: op.into(),
            input: inputs.iter().map(|input| input.to_string()).collect(),
            attr: attributes.iter().map(attribute).collect::<BTreeMap<_, _>>(),
        });
    }

    /// Gives the last node the name of ours that it is the value of.
    pub fn rename_last(&mut self, name: &str) {
        if let Some(last) = self.nodes.last_mut() {
            last.name = name.into();
        }
    }

    /// A constant of this name.
    pub fn variable(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.tensor(name, kind::FLOAT, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }

    /// A constant of floats.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.constant(kind::FLOAT, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A scalar constant.
    pub fn float(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    /// A constant list of integers.
    pub fn ints(&mut self, values: &[i32]) -> String {
        self.constant(kind::INT32, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A scalar constant.
    pub fn int(&mut self, value: i32) -> String {
        self.constant(kind::INT32, &[], value.to_le_bytes().to_vec())
    }

    /// A constant list of sides.
    pub fn sides(&mut self, sides: &[usize]) -> String {
        self.ints(&sides.iter().map(|&side| side as i32).collect::<Vec<_>>())
    }

    fn constant(&mut self, kind: i32, shape: &[usize], content: Vec<u8>) -> String {
        let key = (kind, shape.to_vec(), content);
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        self.tensor(&name, kind, shape, key.2.clone());
        self.constants.insert(key, name.clone());
        name
    }

    fn tensor(&mut self, name: &str, kind: i32, shape: &[usize], content: Vec<u8>) {
        let tensor = Tensor { kind, shape: Some(Shape::of(shape)), content };
        self.named(name, "Const", &[], &[("dtype", Value::Type(kind)), ("value", Value::Tensor(tensor))]);
    }

    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b], &[])
    }

    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b], &[])
    }

    pub fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b], &[])
    }

    pub fn reshape(&mut self, x: &str, sides: &[usize]) -> String {
        let sides = self.sides(sides);
        self.op("Reshape", &[x, &sides], &[("Tshape", INDEX)])
    }

    /// `sides` values along every axis, from `from` on.
    pub fn slice(&mut self, x: &str, from: &[usize], sides: &[usize]) -> String {
        let (from, sides) = (self.sides(from), self.sides(sides));
        self.op("Slice", &[x, &from, &sides], &[("Index", INDEX)])
    }

    /// Joins along the channels.
    pub fn concat(&mut self, parts: &[&str]) -> String {
        let axis = self.int(3);
        let inputs: Vec<&str> = parts.iter().copied().chain([axis.as_str()]).collect();
        self.op("ConcatV2", &inputs, &[("N", Value::Int(parts.len() as i64)), ("Tidx", INDEX)])
    }

    /// Zeros around rows and columns: above, below, left, right.
    pub fn pad(&mut self, x: &str, [top, bottom, left, right]: [usize; 4]) -> String {
        let pads = [0, 0, top, bottom, left, right, 0, 0].map(|pad| pad as i32);
        let content = pads.iter().flat_map(|v| v.to_le_bytes()).collect();
        let pads = self.constant(kind::INT32, &[4, 2], content);
        self.op("Pad", &[x, &pads], &[("Tpaddings", INDEX)])
    }
}

/// The type of sizes, axes and places.
pub(super) const INDEX: Value = Value::Type(kind::INT32);

/// An attribute that is a list of integers, one for each axis: `[1, rows, columns, 1]`.
pub(super) fn per_axis(value: usize) -> Value {
    Value::Ints(Ints { values: vec![1, value as i64, value as i64, 1] })
}

/// An attribute that is a word.
pub(super) fn word(word: &str) -> Value {
    Value::Word(word.as_bytes().to_vec())
}
