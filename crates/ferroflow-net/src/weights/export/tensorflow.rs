//! TensorFlow's V2 bundle: `PREFIX.index`, `PREFIX.data-00000-of-00001`, and the folder's `checkpoint`, which names the latest.
//!
//! Names with a `/.ATTRIBUTES/` are those of an object graph (`tf.train.Checkpoint`), which then stands in the bundle too.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ferroflow_core::io::outputs::with_suffix;
use prost::Message;
use safetensors::tensor::View;

use super::{Stored, written};
use crate::weights::import::tensorflow::{
    OBJECT_SUFFIX, checksum,
    proto::{Dimension, Entry, Header, TensorShape, Version, kind},
    table,
};

/// The files of a bundle: values, index, and the note of the latest.
pub(super) fn files(prefix: &Path) -> [PathBuf; 3] {
    let folder = prefix.parent().unwrap_or(Path::new(""));
    let name = prefix.file_name().unwrap_or_default();
    let beside = |suffix| with_suffix(folder, name, suffix);
    [beside(".data-00000-of-00001"), beside(".index"), folder.join("checkpoint")]
}

/// Keys and values of the index are in the order of the keys; the values of the tensors are too.
pub(super) fn write(prefix: &Path, arrays: Vec<(&str, Stored<'_>)>) -> io::Result<()> {
    let [values, index, latest] = files(prefix);
    // UFlow's names are paths from the root of a checkpoint's objects; those of graph variables begin with their network's name.
    let is_object_graph = arrays.iter().any(|(name, _)| name.starts_with("feature_model/"));
    let suffix = if is_object_graph { OBJECT_SUFFIX } else { "" };
    let mut arrays: BTreeMap<String, Stored<'_>> =
        arrays.into_iter().map(|(name, array)| (format!("{name}{suffix}"), array)).collect();
    let graph = is_object_graph.then(|| string(&ObjectGraph::of(arrays.keys()).encode_to_vec()));

    let header = Header { shards: 1, endianness: 0, version: Some(Version { producer: 1 }) };
    let mut index_entries = vec![(String::new(), header.encode_to_vec())];
    let mut offset = 0;
    written(&values, |out| {
        let mut put = |out: &mut dyn Write, name: String, mut entry: Entry, bytes: &[u8]| -> io::Result<()> {
            (entry.offset, entry.size) = (offset, bytes.len() as i64);
            offset += bytes.len() as i64;
            index_entries.push((name, entry.encode_to_vec()));
            out.write_all(bytes)
        };
        if let Some((bytes, crc32c)) = &graph {
            let entry =
                Entry { kind: kind::STRING, shape: Some(TensorShape::default()), crc32c: *crc32c, ..Entry::default() };
            put(out, GRAPH_KEY.into(), entry, bytes)?;
        }
        while let Some((name, array)) = arrays.pop_first() {
            let dims = array.shape().iter().map(|&side| Dimension { size: side as i64 }).collect();
            let bytes = array.data();
            let shape = Some(TensorShape { dims });
            let entry = Entry { kind: kind::FLOAT, shape, crc32c: checksum::masked(&bytes), ..Entry::default() };
            put(out, name, entry, &bytes)?;
        }
        Ok(())
    })?;
    let table = table::write(&index_entries);
    written(&index, |out| out.write_all(&table))?;
    let name = prefix.file_name().unwrap_or_default().to_string_lossy();
    written(&latest, |out| write!(out, "model_checkpoint_path: \"{name}\"\nall_model_checkpoint_paths: \"{name}\"\n"))
}

/// The key of the object graph. It comes before those of all variables.
const GRAPH_KEY: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";

/// A scalar string as a tensor's bytes, and their checksum, which runs over the length as 4 bytes.
fn string(text: &[u8]) -> (Vec<u8>, u32) {
    let length = (text.len() as u32).to_le_bytes();
    let length_sum = checksum::masked(&length).to_le_bytes();
    let mut bytes = Vec::with_capacity(text.len() + 9);
    prost::encoding::encode_varint(text.len() as u64, &mut bytes);
    bytes.extend_from_slice(&length_sum);
    bytes.extend_from_slice(text);
    (bytes, checksum::masked(&[&length[..], &length_sum, text].concat()))
}

/// `TrackableObjectGraph`: objects, the root first, and what each calls its parts.
#[derive(Clone, PartialEq, Message)]
struct ObjectGraph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Object>,
}

#[derive(Clone, PartialEq, Message)]
struct Object {
    #[prost(message, repeated, tag = "1")]
    children: Vec<Reference>,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Reference {
    #[prost(int32, tag = "1")]
    node: i32,
    #[prost(string, tag = "2")]
    name: String,
}

/// Where a variable's value lies.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    full_name: String,
    #[prost(string, tag = "3")]
    key: String,
}

impl ObjectGraph {
    /// The objects that the keys of variables are paths through.
    fn of<'k>(keys: impl Iterator<Item = &'k String>) -> Self {
        let mut graph = Self { nodes: vec![Object::default()] };
        for key in keys {
            let path = key.strip_suffix(OBJECT_SUFFIX).unwrap_or(key);
            let variable = path.split('/').fold(0, |at, name| graph.child(at, name));
            let attribute = Attribute { name: "VARIABLE_VALUE".into(), full_name: path.into(), key: key.clone() };
            graph.nodes[variable].attributes.push(attribute);
        }
        graph
    }

    fn child(&mut self, parent: usize, name: &str) -> usize {
        if let Some(known) = self.nodes[parent].children.iter().find(|child| child.name == name) {
            return known.node as usize;
        }
        self.nodes.push(Object::default());
        let node = self.nodes.len() - 1;
        self.nodes[parent].children.push(Reference { node: node as i32, name: name.into() });
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_objects() {
        let keys = ["a/0/kernel", "a/0/bias", "b"].map(|name| format!("{name}{OBJECT_SUFFIX}"));
        let graph = ObjectGraph::of(keys.iter());
        assert_eq!(graph.nodes.len(), 6);
        let names = |at: usize| graph.nodes[at].children.iter().map(|c| c.name.as_str()).collect::<Vec<_>>();
        assert_eq!((names(0), names(1), names(2)), (vec!["a", "b"], vec!["0"], vec!["kernel", "bias"]));
        assert_eq!(graph.nodes[3].attributes[0].key, keys[0]);
    }
}
