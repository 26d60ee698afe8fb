//! Indices of 32 bits and merged slices, as Ascend's compiler wants them: what the FlowNet2 project's `fix_onnx.py` does to a file,
//! and yet a file that keeps to the standard.

use std::collections::HashSet;

use super::emit::Emit;
use super::proto::{Attribute, Node, Tensor, TensorHead, Values, kind};

impl Emit<'_> {
    /// Makes one slice of a slice of a slice, where they cut along different axes. What nobody reads after that stays, for
    /// [`Emit::needed_for`] to leave out.
    pub fn merge_slices(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].op_type != "Slice" {
                continue;
            }
            let read = &self.nodes[at].input[0];
            let inner = self.nodes[..at].iter().position(|node| node.op_type == "Slice" && node.output[0] == *read);
            let Some(inner) = inner else { continue };
            // Starts, ends, axes and steps, which are constants in every slice here.
            let bounds = |node: &Node| node.input[1..].iter().map(|name| self.list(name)).collect::<Option<Vec<_>>>();
            let (Some(first), Some(second)) = (bounds(&self.nodes[inner]), bounds(&self.nodes[at])) else { continue };
            const AXES: usize = 2;
            if first.len() != 4 || second.len() != 4 || first[AXES].iter().any(|axis| second[AXES].contains(axis)) {
                continue;
            }
            let merged: Vec<String> =
                first.iter().zip(&second).map(|(a, b)| self.ints(&[&a[..], b].concat())).collect();
            let source = self.nodes[inner].input[0].clone();
            self.nodes[at].input = [source].into_iter().chain(merged).collect();
        }
    }

    /// The values of a constant list.
    fn list(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.tensors.iter().find(|tensor| tensor.head.name == name)?;
        integers(tensor)
    }
}

/// Makes every index, and every number that indices are computed from, an `int32`. Shapes, pads and lists of axes stay `int64`,
/// because the operators that read them take nothing else. Sizes must be constants: what `Shape` gives is an `int64`.
pub(super) fn narrow(nodes: &mut [Node], tensors: &mut Vec<Tensor<'_>>) {
    let mut integer: HashSet<String> =
        tensors.iter().filter(|t| t.head.kind == kind::INT64).map(|t| t.head.name.clone()).collect();
    for node in nodes.iter() {
        let carries = !matches!(node.op_type.as_str(), "Cast" | "ConstantOfShape") && integer.contains(&node.input[0]);
        if carries || is_cast_to_wide(node) {
            integer.extend(node.output.iter().cloned());
        }
    }
    let wide = wide_values(nodes, &integer);
    let is_wide_input =
        |node: &Node, i: usize| wants_wide(node, i) || (is_data(node, i) && wide.contains(&node.output[0]));

    let (mut narrowed, mut kept) = (HashSet::new(), HashSet::new());
    for node in nodes.iter() {
        for (i, name) in node.input.iter().enumerate().filter(|(_, name)| integer.contains(*name)) {
            if is_wide_input(node, i) { &mut kept } else { &mut narrowed }.insert(name.clone());
        }
    }
    let name_of = |name: &str| if kept.contains(name) { format!("{name}_int32") } else { name.to_string() };
    for node in nodes.iter_mut() {
        for i in 0..node.input.len() {
            let is_constant = tensors.iter().any(|t| t.head.name == node.input[i] && t.head.kind == kind::INT64);
            if is_constant && !is_wide_input(node, i) {
                node.input[i] = name_of(&node.input[i]);
            }
        }
        if is_cast_to_wide(node) && !wide.contains(&node.output[0]) {
            node.attribute = vec![Attribute::int("to", kind::INT32.into())];
        }
    }
    let mut copies = Vec::new();
    for tensor in tensors.iter().filter(|tensor| narrowed.contains(&tensor.head.name)) {
        let Some(values) = integers(tensor) else { continue };
        let clamped = values.iter().map(|&v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
        let values = Values::Own(clamped.flat_map(i32::to_le_bytes).collect());
        let name = name_of(&tensor.head.name);
        copies.push(Tensor { head: TensorHead { name, kind: kind::INT32, ..tensor.head.clone() }, values });
    }
    tensors.retain(|tensor| !narrowed.contains(&tensor.head.name) || kept.contains(&tensor.head.name));
    tensors.extend(copies);
}

/// The computed integers that an operator reads which takes `int64` alone, and all that they are computed with.
fn wide_values(nodes: &[Node], integer: &HashSet<String>) -> HashSet<String> {
    let computed: HashSet<&String> =
        nodes.iter().flat_map(|node| &node.output).filter(|o| integer.contains(*o)).collect();
    let mut wide: HashSet<String> = HashSet::new();
    loop {
        let before = wide.len();
        for node in nodes.iter().rev() {
            let data = |i: usize| is_data(node, i) && integer.contains(&node.output[0]);
            let is_wide = wide.contains(&node.output[0])
                || node.input.iter().enumerate().any(|(i, name)| data(i) && wide.contains(name));
            for (i, name) in node.input.iter().enumerate().filter(|(_, name)| computed.contains(name)) {
                if wants_wide(node, i) || (is_wide && data(i)) {
                    wide.insert(name.clone());
                }
            }
            if is_wide && integer.contains(&node.output[0]) {
                wide.extend(node.output.iter().cloned());
            }
        }
        if wide.len() == before {
            return wide;
        }
    }
}

/// Whether an operator takes nothing but `int64` as this input.
fn wants_wide(node: &Node, input: usize) -> bool {
    match node.op_type.as_str() {
        "ConstantOfShape" => input == 0,
        "Resize" => input == 3,
        "Reshape" | "Pad" | "Expand" | "Squeeze" | "Unsqueeze" | "ReduceMean" | "ReduceSum" | "Split" => input == 1,
        _ => false,
    }
}

/// Whether an input is of the output's type.
fn is_data(node: &Node, input: usize) -> bool {
    match node.op_type.as_str() {
        "Cast" | "ConstantOfShape" => false,
        "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Clip" | "Concat" => true,
        _ => input == 0,
    }
}

fn is_cast_to_wide(node: &Node) -> bool {
    node.op_type == "Cast" && node.attribute.iter().any(|a| a.name == "to" && a.i == Some(kind::INT64.into()))
}

fn integers(tensor: &Tensor<'_>) -> Option<Vec<i64>> {
    match &tensor.values {
        Values::Own(bytes) if tensor.head.kind == kind::INT64 => {
            Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
        }
        _ => None,
    }
}
