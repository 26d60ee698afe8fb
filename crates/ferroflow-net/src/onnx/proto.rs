//! The part of `onnx.proto` that a network of ours needs, and a writer that never copies the weights.

use std::io::{self, Write};

use prost::Message;

/// `TensorProto.DataType`.
pub(super) mod kind {
    pub const FLOAT: i32 = 1;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const FLOAT16: i32 = 10;
}

/// `ModelProto` without its graph (field 7).
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelHead {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(string, tag = "6")]
    pub doc_string: String,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    /// Empty: ONNX's own operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto` without its initialisers (field 5).
#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphHead {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    // ONNX is of protobuf 2, which does not pack lists.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

impl Attribute {
    pub fn int(name: &str, i: i64) -> Self {
        Self { name: name.into(), i: Some(i), kind: 2, ..Self::default() }
    }

    pub fn float(name: &str, f: f32) -> Self {
        Self { name: name.into(), f: Some(f), kind: 1, ..Self::default() }
    }

    pub fn ints(name: &str, ints: &[i64]) -> Self {
        Self { name: name.into(), ints: ints.to_vec(), kind: 7, ..Self::default() }
    }

    pub fn word(name: &str, word: &str) -> Self {
        Self { name: name.into(), s: Some(word.as_bytes().to_vec()), kind: 3, ..Self::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Type>,
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub param: Option<String>,
}

/// `TensorProto` without its values (`raw_data`, field 9).
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorHead {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(string, tag = "8")]
    pub name: String,
}

/// Values of an initialiser.
pub(super) enum Values<'w> {
    /// Weights, as they lie in memory.
    F32(&'w [f32]),
    /// Weights, rounded to half precision while writing.
    F16(&'w [f32]),
    /// Constants of the lowering.
    Own(Vec<u8>),
}

impl Values<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::F32(v) => 4 * v.len() as u64,
            Self::F16(v) => 2 * v.len() as u64,
            Self::Own(v) => v.len() as u64,
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        const STEP: usize = 1 << 14;
        match self {
            Self::Own(v) => out.write_all(v),
            Self::F32(v) => v
                .chunks(STEP)
                .try_for_each(|part| out.write_all(&part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())),
            Self::F16(v) => v.chunks(STEP).try_for_each(|part| {
                let halves = part.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes());
                out.write_all(&halves.collect::<Vec<u8>>())
            }),
        }
    }
}

/// An initialiser.
pub(super) struct Tensor<'w> {
    pub head: TensorHead,
    pub values: Values<'w>,
}

/// Writes a whole `ModelProto`. Fields may come in any order, so the large ones are streamed behind the rest.
pub(super) fn write(
    head: &ModelHead,
    graph: &GraphHead,
    tensors: &[Tensor<'_>],
    out: &mut impl Write,
) -> io::Result<()> {
    let key = |field: u64| field << 3 | 2;
    let tensor_size = |t: &Tensor<'_>| {
        let bytes = t.values.bytes();
        t.head.encoded_len() as u64 + varint(key(9)).len() as u64 + varint(bytes).len() as u64 + bytes
    };
    let listed = |t: &Tensor<'_>| {
        let size = tensor_size(t);
        varint(key(5)).len() as u64 + varint(size).len() as u64 + size
    };
    let graph_size = graph.encoded_len() as u64 + tensors.iter().map(listed).sum::<u64>();
    out.write_all(&head.encode_to_vec())?;
    out.write_all(&varint(key(7)))?;
    out.write_all(&varint(graph_size))?;
    out.write_all(&graph.encode_to_vec())?;
    for tensor in tensors {
        out.write_all(&varint(key(5)))?;
        out.write_all(&varint(tensor_size(tensor)))?;
        out.write_all(&tensor.head.encode_to_vec())?;
        out.write_all(&varint(key(9)))?;
        out.write_all(&varint(tensor.values.bytes()))?;
        tensor.values.write(out)?;
    }
    Ok(())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
