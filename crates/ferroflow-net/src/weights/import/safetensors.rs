//! safetensors: an 8-byte header length, a JSON header, the values.

use std::io::{Read, Seek};

use serde_json::{Map, Value};

use super::{Budget, Contents, Element, Format, ImportError, Tensor, read_bytes, slots};

const FORMAT: Format = Format::Safetensors;

/// The largest header the format accepts.
const MAX_HEADER: u64 = 100_000_000;

/// Whether `head` opens like a safetensors file: a length within the file, then `{`.
pub(super) fn detect(head: &[u8], length: u64) -> Option<Format> {
    let header = u64::from_le_bytes(*head.first_chunk()?);
    (header <= MAX_HEADER && header <= length && head.get(8) == Some(&b'{')).then_some(FORMAT)
}

/// Every weight of the file; `length` is the file's.
pub(super) fn read(file: &mut (impl Read + Seek), length: u64) -> Result<Contents, ImportError> {
    let damaged = |reason: &str| ImportError::damaged(FORMAT, reason);
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| damaged("shorter than its header length"))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size > length - 8 {
        return Err(damaged("the header reaches past the end of the file"));
    }
    let header = read_bytes(file, size).map_err(|_| damaged("the header is cut off"))?;
    let header: Map<String, Value> =
        serde_json::from_slice(&header).map_err(|e| damaged(&format!("the header is not JSON: {e}")))?;

    let mut contents = Contents::default();
    let mut budget = Budget::new(FORMAT, length);
    let mut stored = Vec::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            let words = entry.as_object().into_iter().flatten();
            contents.words = words.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect();
            continue;
        }
        let broken = || damaged(&format!("the entry `{name}` has no type, shape or offsets"));
        let kind = entry.get("dtype").and_then(Value::as_str).ok_or_else(broken)?;
        let shape = integers(entry.get("shape")).ok_or_else(broken)?;
        let [from, to] = integers(entry.get("data_offsets")).and_then(|v| v.try_into().ok()).ok_or_else(broken)?;
        let element = match kind {
            "F16" => Some(Element::F16),
            "BF16" => Some(Element::Bf16),
            "F32" => Some(Element::F32),
            "F64" => Some(Element::F64),
            _ => None,
        };
        let element = match (slots::slot(&name), element) {
            (None, Some(element)) => element,
            (slot, _) => {
                contents.skipped.count(slot.unwrap_or(slots::Slot::Other));
                continue;
            }
        };
        let bytes = to.checked_sub(from).ok_or_else(broken)?;
        if to as u64 > length - 8 - size {
            return Err(damaged(&format!("the values of `{name}` reach past the end of the file")));
        }
        if budget.take(&name, &shape)?.checked_mul(element.size()) != Some(bytes) {
            return Err(damaged(&format!("`{name}` has {bytes} bytes for the shape {shape:?}")));
        }
        stored.push((from, to, element, name, shape));
    }
    // In the order of their values: the reader's buffer is filled again only where something lies between two of them.
    stored.sort_unstable_by_key(|&(from, ..)| from);
    let mut at = 0;
    for (from, to, element, name, shape) in stored {
        let read = file.seek_relative(from as i64 - at as i64).and_then(|()| read_bytes(file, (to - from) as u64));
        let bytes = read.map_err(|_| damaged(&format!("the values of `{name}` are cut off")))?;
        contents.tensors.push(Tensor { data: element.decode(&bytes), name, shape });
        at = to;
    }
    contents.tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(contents)
}

fn integers(value: Option<&Value>) -> Option<Vec<usize>> {
    value?.as_array()?.iter().map(|v| usize::try_from(v.as_u64()?).ok()).collect()
}
