//! PyTorch's `.pth.tar`, in the container of `torch.save` before 1.6, which versions from 0.4 to today's read: pickles, then the
//! values of each tensor.

use std::io::{self, Write};

use safetensors::tensor::View;

use super::{Stored, store};

/// The key of a tensor's values is its number.
pub(super) fn write(out: &mut impl Write, stored: &store::Stored, arrays: Vec<(&str, Stored<'_>)>) -> io::Result<()> {
    // The magic number, the version of the protocol, and what the machine was like.
    out.write_all(&Pickle::new().long(&MAGIC).finish())?;
    out.write_all(&Pickle::new().int(PROTOCOL).finish())?;
    let sizes = [("short", 2), ("int", 4), ("long", 4)];
    let sizes = sizes.into_iter().fold(Pickle::default(), |pickle, (name, size)| pickle.text(name).int(size));
    let system = Pickle::default().text("protocol_version").int(PROTOCOL).text("little_endian").flag(true);
    let system = system.text("type_sizes").dict(sizes);
    out.write_all(&Pickle::new().dict(system).finish())?;

    let state = arrays
        .iter()
        .enumerate()
        .fold(Pickle::default(), |pickle, (number, (name, array))| pickle.text(name).tensor(number, array.shape()));
    let root = beside(stored).text("state_dict").ordered_dict(state);
    out.write_all(&Pickle::new().dict(root).finish())?;

    let keys = (0..arrays.len()).fold(Pickle::default(), |pickle, number| pickle.text(&number.to_string()));
    out.write_all(&Pickle::new().list(keys).finish())?;
    for (_, array) in &arrays {
        let data = array.data();
        out.write_all(&((data.len() / size_of::<f32>()) as u64).to_le_bytes())?;
        out.write_all(&data)?;
    }
    Ok(())
}

/// What training scripts keep beside the weights, as far as it is known.
fn beside(stored: &store::Stored) -> Pickle {
    let store::Stored { model, provenance, .. } = stored;
    let epoch = provenance.notes.get("epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    // What scripts write that have measured nothing yet.
    let best = provenance.metrics.get("best_EPE").copied().unwrap_or(1e10);
    let mut pickle = Pickle::default().text("epoch").int(epoch).text("best_EPE").float(best);
    let name = model.name.trim_end_matches("-bn");
    let known = ARCHITECTURES.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs);
    let known = known.or(name.starts_with("lightflow").then_some("flownetl"));
    if let Some(arch) = provenance.notes.get("arch").map(String::as_str).or(known) {
        pickle = pickle.text("arch").text(arch);
    }
    if let crate::model::PyramidUnit::Pixels(unit) = model.pyramid_unit
        && name.starts_with("lightflow")
    {
        pickle = pickle.text("div_flow").float(unit.into());
    }
    pickle
}

/// Names of the classes in NVIDIA's code.
const ARCHITECTURES: [(&str, &str); 6] = [
    ("flownet2", "FlowNet2"),
    ("flownet2-c", "FlowNet2C"),
    ("flownet2-s", "FlowNet2S"),
    ("flownet2-sd", "FlowNet2SD"),
    ("flownet2-cs", "FlowNet2CS"),
    ("flownet2-css", "FlowNet2CSS"),
];

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

const PROTOCOL: i32 = 1001;

/// Opcodes of Python's pickle, protocol 2.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn finish(self) -> Vec<u8> {
        self.op(b".").0
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn long(self, little_endian: &[u8]) -> Self {
        self.op(&[0x8a, little_endian.len() as u8]).op(little_endian)
    }

    fn int(self, value: i32) -> Self {
        self.op(b"J").op(&value.to_le_bytes())
    }

    /// A size: `int` as long as it fits.
    fn size(self, value: usize) -> Self {
        match i32::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.long(&(value as u64).to_le_bytes()),
        }
    }

    fn float(self, value: f64) -> Self {
        self.op(b"G").op(&value.to_be_bytes())
    }

    fn flag(self, value: bool) -> Self {
        self.op(&[if value { 0x88 } else { 0x89 }])
    }

    fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// A dictionary of keys and values.
    fn dict(self, items: Pickle) -> Self {
        self.op(b"}(").op(&items.0).op(b"u")
    }

    fn list(self, items: Pickle) -> Self {
        self.op(b"](").op(&items.0).op(b"e")
    }

    fn ordered_dict(self, items: Pickle) -> Self {
        self.empty_ordered_dict().op(b"(").op(&items.0).op(b"u")
    }

    fn empty_ordered_dict(self) -> Self {
        self.op(b"ccollections\nOrderedDict\n)R")
    }

    fn tuple(self, items: impl IntoIterator<Item = usize>) -> Self {
        items.into_iter().fold(self.op(b"("), Self::size).op(b"t")
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)` of a storage of its own.
    fn tensor(self, number: usize, shape: &[usize]) -> Self {
        let strides = (1..=shape.len()).map(|axis| shape[axis..].iter().product());
        let storage = self
            .op(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage")
            .op(b"ctorch\nFloatStorage\n")
            .text(&number.to_string())
            .text("cpu")
            .size(shape.iter().product())
            .op(b"NtQ");
        let array = storage.int(0).tuple(shape.iter().copied()).tuple(strides);
        array.flag(false).empty_ordered_dict().op(b"tR")
    }
}
