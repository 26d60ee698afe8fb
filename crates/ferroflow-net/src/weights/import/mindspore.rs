//! MindSpore's `.ckpt`: one protobuf message `Checkpoint { repeated Value { tag, TensorProto { dims, type, content } } }`
//! (mindspore/ccsrc/utils/checkpoint.proto), without any magic number.
//!
//! Read as a stream, so that a file of any size takes the memory of its weights only. A tensor above 512 MiB is split
//! into consecutive values of one tag, each repeating the full dimensions.

use std::io::{self, Read, Seek, SeekFrom};

use super::{Budget, Contents, Element, Format, ImportError, Tensor, read_bytes, slots};

const FORMAT: Format = Format::Mindspore;

/// Protobuf's wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// Whether `head` opens with a value of a checkpoint: field 1 with a length, in it field 1 with a printable tag.
pub(super) fn detect(head: &[u8], length: u64) -> Option<Format> {
    let mut rest = head;
    if rest.is_empty() || !length_delimited(&mut rest, 1, length) || rest.first() != Some(&0x0a) {
        return None;
    }
    rest = &rest[1..];
    let (tag, _) = varint(&mut rest).ok()?;
    let seen = rest.get(..(tag as usize).min(rest.len()).min(64))?;
    (tag > 0 && tag < length && seen.iter().all(|b| b.is_ascii_graphic())).then_some(FORMAT)
}

fn length_delimited(rest: &mut &[u8], field: u64, limit: u64) -> bool {
    let key = varint(rest);
    let size = varint(rest);
    matches!((key, size), (Ok((k, _)), Ok((n, _))) if k == field << 3 | u64::from(LENGTH_DELIMITED) && n > 0 && n < limit)
}

/// Every weight of the file; `length` is the file's.
pub(super) fn read(file: &mut (impl Read + Seek), length: u64) -> Result<Contents, ImportError> {
    let mut contents = Contents::default();
    let mut budget = Budget::new(FORMAT, length);
    let mut wire = Wire { input: file, at: 0 };
    let mut tensors: Vec<Tensor> = Vec::new();
    while wire.at < length {
        match wire.key(length)? {
            (1, LENGTH_DELIMITED) => {
                let value = read_value(&mut wire, length)?;
                let Some(piece) = value.weight(&mut contents)? else { continue };
                match tensors.last_mut() {
                    Some(whole) if whole.name == piece.name => {
                        if whole.shape != piece.shape {
                            let reason = format!("the pieces of `{}` differ in shape", whole.name);
                            return Err(ImportError::damaged(FORMAT, reason));
                        }
                        whole.data.extend(piece.data);
                    }
                    _ => {
                        budget.take(&piece.name, &piece.shape)?;
                        tensors.push(piece);
                    }
                }
            }
            (_, kind) => wire.skip(kind, length)?,
        }
    }
    if let Some(t) = tensors.iter().find(|t| t.data.len() != t.shape.iter().product::<usize>()) {
        let reason = format!("`{}` holds {} values for the shape {:?}", t.name, t.data.len(), t.shape);
        return Err(ImportError::damaged(FORMAT, reason));
    }
    contents.tensors = tensors;
    Ok(contents)
}

/// One `Value` of the message.
#[derive(Default)]
struct Value {
    name: String,
    shape: Vec<usize>,
    kind: String,
    content: Vec<u8>,
}

fn read_value(wire: &mut Wire<'_, impl Read + Seek>, end: u64) -> Result<Value, ImportError> {
    let mut value = Value::default();
    let end = wire.enter(end)?;
    while wire.at < end {
        match wire.key(end)? {
            (1, LENGTH_DELIMITED) => value.name = wire.text(end)?,
            (2, LENGTH_DELIMITED) => {
                let end = wire.enter(end)?;
                while wire.at < end {
                    match wire.key(end)? {
                        (1, VARINT) => value.shape.push(wire.dimension(end)?),
                        // Packed dimensions: not what MindSpore writes, but the same message.
                        (1, LENGTH_DELIMITED) => {
                            let end = wire.enter(end)?;
                            while wire.at < end {
                                value.shape.push(wire.dimension(end)?);
                            }
                        }
                        (2, LENGTH_DELIMITED) => value.kind = wire.text(end)?,
                        (3, LENGTH_DELIMITED) => value.content = wire.bytes(end)?,
                        (_, kind) => wire.skip(kind, end)?,
                    }
                }
            }
            (3, LENGTH_DELIMITED) => {
                return Err(ImportError::unsupported(FORMAT, format!("`{}` is a map tensor", value.name)));
            }
            (_, kind) => wire.skip(kind, end)?,
        }
    }
    if value.shape.len() > 16 {
        return Err(ImportError::damaged(FORMAT, format!("`{}` has more than 16 dimensions", value.name)));
    }
    if value.shape == [0] {
        value.shape.clear(); // MindSpore reads the dimensions [0] as a scalar
    }
    Ok(value)
}

impl Value {
    /// The tensor, unless it is not a weight: then it is counted, and a number is kept.
    fn weight(self, contents: &mut Contents) -> Result<Option<Tensor>, ImportError> {
        let Self { name, shape, kind, content } = self;
        let kind = kind.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let element = match kind.as_str() {
            "float16" => Some(Element::F16),
            "bfloat16" => Some(Element::Bf16),
            "float32" => Some(Element::F32),
            "float64" => Some(Element::F64),
            _ => None,
        };
        if let Some(number) = scalar(&kind, element, &content) {
            contents.numbers.insert(name.clone(), number);
        }
        let element = match (slots::slot(&name), element) {
            (None, Some(element)) => element,
            (slot, _) => {
                contents.skipped.count(slot.unwrap_or(slots::Slot::Other));
                return Ok(None);
            }
        };
        if content.len() % element.size() != 0 {
            return Err(ImportError::damaged(FORMAT, format!("`{name}` ends within a value")));
        }
        Ok(Some(Tensor { name, shape, data: element.decode(&content) }))
    }
}

/// The value of a scalar, whatever its type.
fn scalar(kind: &str, element: Option<Element>, content: &[u8]) -> Option<f64> {
    match (kind, element) {
        ("int32", _) => content.try_into().ok().map(i32::from_le_bytes).map(f64::from),
        ("int64", _) => content.try_into().ok().map(i64::from_le_bytes).map(|v| v as f64),
        (_, Some(element)) if content.len() == element.size() => Some(f64::from(element.decode(content)[0])),
        _ => None,
    }
}

fn varint(input: &mut impl Read) -> io::Result<(u64, u64)> {
    let mut value = 0u64;
    for (used, shift) in (1..).zip((0..64).step_by(7)) {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok((value, used));
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Protobuf's wire format over a stream. `end` is where the message being read ends; nothing is read beyond it.
struct Wire<'f, F> {
    input: &'f mut F,
    at: u64,
}

impl<F: Read + Seek> Wire<'_, F> {
    fn varint(&mut self, end: u64) -> Result<u64, ImportError> {
        let (value, used) = varint(self.input).map_err(|e| self.broken(&e))?;
        self.at += used;
        if self.at > end { Err(self.overrun()) } else { Ok(value) }
    }

    /// Field number and wire type.
    fn key(&mut self, end: u64) -> Result<(u64, u8), ImportError> {
        let key = self.varint(end)?;
        Ok((key >> 3, (key & 7) as u8))
    }

    /// The length of what follows, which must lie within the message; returns where it ends.
    fn enter(&mut self, end: u64) -> Result<u64, ImportError> {
        let size = self.varint(end)?;
        self.at.checked_add(size).filter(|&e| e <= end).ok_or_else(|| self.overrun())
    }

    fn bytes(&mut self, end: u64) -> Result<Vec<u8>, ImportError> {
        let size = self.enter(end)? - self.at;
        let bytes = read_bytes(self.input, size).map_err(|e| self.broken(&e))?;
        self.at += size;
        Ok(bytes)
    }

    fn text(&mut self, end: u64) -> Result<String, ImportError> {
        String::from_utf8(self.bytes(end)?).map_err(|_| ImportError::damaged(FORMAT, "a name is not UTF-8"))
    }

    fn dimension(&mut self, end: u64) -> Result<usize, ImportError> {
        // A negative dimension is a varint near 2^64 and fails here or as too large.
        usize::try_from(self.varint(end)?).map_err(|_| self.overrun())
    }

    fn skip(&mut self, kind: u8, end: u64) -> Result<(), ImportError> {
        let size = match kind {
            VARINT => return self.varint(end).map(|_| ()),
            FIXED64 => 8,
            FIXED32 => 4,
            LENGTH_DELIMITED => self.enter(end)? - self.at,
            _ => return Err(ImportError::damaged(FORMAT, format!("wire type {kind} at byte {}", self.at))),
        };
        let to = self.at.checked_add(size).filter(|&to| to <= end).ok_or_else(|| self.overrun())?;
        self.input.seek(SeekFrom::Start(to)).map_err(|e| self.broken(&e))?;
        self.at = to;
        Ok(())
    }

    fn overrun(&self) -> ImportError {
        ImportError::damaged(FORMAT, format!("a length near byte {} reaches past its message", self.at))
    }

    fn broken(&self, error: &io::Error) -> ImportError {
        ImportError::damaged(FORMAT, format!("ends or cannot be read at byte {}: {error}", self.at))
    }
}
