//! Smallest whole files: two tensors, `a.weight` `[2, 3]` and `b` `[2]`, in every container.

use std::io::{Cursor, Write};

use crate::weights::import::tensorflow::bundle_sample;

const NAMES: [(&str, &[u8]); 2] = [("a.weight", &[2, 3]), ("b", &[2])];

fn values(tensor: usize) -> Vec<u8> {
    let count = NAMES[tensor].1.iter().map(|&d| usize::from(d)).product::<usize>();
    (0..count).flat_map(|i| (i as f32 - 1.5).to_le_bytes()).collect()
}

/// A file's name and its bytes, one per container.
pub(super) fn samples(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let (index, data) = bundle_sample(&[("a/kernel", &[2, 3], &values(0)), ("b", &[2], &values(1))]);
    std::fs::write(dir.join("bundle.data-00000-of-00001"), data).unwrap();
    let files = [
        ("net.pth", zip()),
        ("net.pth.tar", legacy()),
        ("old.pth", tar()),
        ("net.ckpt", mindspore()),
        ("net.safetensors", safetensors()),
        ("bundle.index", index),
    ];
    files.map(|(name, bytes)| (name.to_string(), bytes)).to_vec()
}

/// A pickle of `value`, protocol 2.
fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

fn text(s: &str) -> Vec<u8> {
    [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

fn integers(values: &[u8]) -> Vec<u8> {
    tuple(&values.iter().map(|&v| vec![b'K', v]).collect::<Vec<_>>())
}

/// The state dict as `torch.save` pickles it.
fn state_dict() -> Vec<u8> {
    pickle(&tensors())
}

/// A dictionary of both tensors; they refer to the storages "0" and "1".
fn tensors() -> Vec<u8> {
    let mut items = b"}(".to_vec();
    for (key, (name, shape)) in NAMES.iter().enumerate() {
        let stride: Vec<u8> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        let id = [
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(&key.to_string()),
            text("cpu"),
            vec![b'K', shape.iter().product()],
        ];
        let storage = [tuple(&id), b"Q".to_vec()].concat();
        let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
        let arguments =
            tuple(&[storage, b"K\x00".to_vec(), integers(shape), integers(&stride), b"\x89".to_vec(), hooks]);
        items.extend(text(name));
        items.extend(b"ctorch._utils\n_rebuild_tensor_v2\n");
        items.extend(arguments);
        items.extend(b"R");
    }
    items.extend(b"u");
    items
}

/// A training checkpoint in today's container: both tensors under each of these keys.
pub(super) fn checkpoint(keys: &[&str]) -> Vec<u8> {
    let mut root = b"}(".to_vec();
    for key in keys {
        root.extend(text(key));
        root.extend(tensors());
    }
    root.extend(b"u");
    zip_of(&pickle(&root))
}

/// Files that are taken for checkpoints: a name, the bytes, and words of what they are.
pub(super) fn mistaken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let array =
        [b"}".to_vec(), text("a"), b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btRs".to_vec()]
            .concat();
    let module =
        [b"c__main__\nM\n)\x81}".to_vec(), text("_modules"), b"ctorch.nn.modules.conv\nConv2d\n)\x81sb".to_vec()]
            .concat();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 37508264\n";
    let page = b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>";
    let script: [(&str, &[u8]); 3] =
        [("net/data.pkl", b"\x80\x02N."), ("net/constants.pkl", b"\x80\x02)."), ("net/code/__torch__.py", b"")];
    vec![
        ("lfs.pt", pointer.to_vec(), "Git LFS pointer to a file of 37508264 bytes"),
        ("page.pt", page.to_vec(), "web page"),
        ("arrays.pkl", pickle(&array), "plain Python pickle"),
        ("arrays.pt", zip_of(&pickle(&array)), "NumPy arrays"),
        ("arrays.npz", archive(&[("a.npy", b"\x93NUMPY")], true), "NumPy archive"),
        ("module.pt", zip_of(&pickle(&module)), "whole module"),
        ("script.pt", archive(&script, false), "TorchScript"),
        ("pictures.zip", archive(&[("1.png", b"x")], false), "without the data.pkl"),
    ]
}

/// An archive of uncompressed entries, or of compressed ones.
pub(super) fn archive(entries: &[(&str, &[u8])], compressed: bool) -> Vec<u8> {
    let method = if compressed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn zip() -> Vec<u8> {
    zip_of(&state_dict())
}

fn zip_of(pickle: &[u8]) -> Vec<u8> {
    let entries: [(&str, &[u8]); 4] =
        [("net/data.pkl", pickle), ("net/data/0", &values(0)), ("net/data/1", &values(1)), ("net/version", b"3\n")];
    archive(&entries, false)
}

const LITTLE_ENDIAN: &[u8] = b"}(X\x0d\0\0\0little_endian\x88u";

fn legacy() -> Vec<u8> {
    let keys = [&b"]("[..], &text("0"), &text("1"), b"e"].concat();
    let mut file = pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
    file.extend(pickle(b"M\xe9\x03"));
    file.extend(pickle(LITTLE_ENDIAN));
    file.extend(state_dict());
    file.extend(pickle(&keys));
    for (tensor, (_, shape)) in NAMES.iter().enumerate() {
        file.extend(shape.iter().map(|&d| i64::from(d)).product::<i64>().to_le_bytes());
        file.extend(values(tensor));
    }
    file
}

/// PyTorch before 0.1.10: tables of storages and tensors, and a pickle that names them by number.
fn tar() -> Vec<u8> {
    let mut storages = pickle(b"K\x02");
    let mut tensors = pickle(b"K\x02");
    let mut items = b"}(".to_vec();
    for (i, (name, shape)) in NAMES.iter().enumerate() {
        let (storage, tensor) = ([b'K', 1 + i as u8], [b'K', 5 + i as u8]);
        storages.extend(pickle(&tuple(&[storage.to_vec(), text("cpu"), b"ctorch\nFloatStorage\n".to_vec()])));
        storages.extend(shape.iter().map(|&d| i64::from(d)).product::<i64>().to_le_bytes());
        storages.extend(values(i));
        tensors.extend(pickle(&tuple(&[tensor.to_vec(), storage.to_vec(), b"ctorch\nFloatTensor\n".to_vec()])));
        tensors.extend((shape.len() as i64).to_le_bytes());
        tensors.extend(shape.iter().flat_map(|&d| i64::from(d).to_le_bytes()));
        tensors.extend(
            (0..shape.len()).flat_map(|k| shape[k + 1..].iter().map(|&d| i64::from(d)).product::<i64>().to_le_bytes()),
        );
        tensors.extend(0i64.to_le_bytes());
        items.extend([text(name), text(&(5 + i).to_string()), b"Q".to_vec()].concat());
    }
    items.extend(b"u");
    storages.extend(pickle(b"]"));
    let entries =
        [("sys_info", pickle(LITTLE_ENDIAN)), ("pickle", pickle(&items)), ("tensors", tensors), ("storages", storages)];
    let mut file = Vec::new();
    for (name, bytes) in entries {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        file.extend(header);
        file.extend(&bytes);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file.resize(file.len() + 1024, 0);
    file
}

fn mindspore() -> Vec<u8> {
    let field = |number: u8, payload: &[u8]| [&[number << 3 | 2, payload.len() as u8], payload].concat();
    let value = |i: usize| {
        let (name, shape) = NAMES[i];
        let dims: Vec<u8> = shape.iter().flat_map(|&d| [8, d]).collect();
        let tensor = [dims, field(2, b"Float32"), field(3, &values(i))].concat();
        field(1, &[field(1, name.as_bytes()), field(2, &tensor)].concat())
    };
    [value(0), value(1)].concat()
}

/// The values in another order than the names.
fn safetensors() -> Vec<u8> {
    let header = r#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values(1), &values(0)].concat()
}

/// Files that lie on purpose: a name, the bytes, and a word of the refusal.
pub(super) fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let header = r#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#;
    let huge = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let with_pickle = |pickle: &[u8]| archive(&[("net/data.pkl", pickle), ("net/version", b"3\n")], false);
    let system = pickle(b"}X\x01\0\0\0acposix\nsystem\n(X\x02\0\0\0lstRs");
    let evaluated = pickle(b"}X\x01\0\0\0ac__builtin__\neval\n(X\x01\0\0\x001tRs");
    let expanded = {
        // One value seen as 2^28 of them, by strides of zero.
        let storage = [
            tuple(&[text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), b"K\x01".to_vec()]),
            b"Q".to_vec(),
        ];
        let size = [b"(J\0\0\0\x10t".to_vec()].concat();
        let arguments =
            tuple(&[storage.concat(), b"K\x00".to_vec(), size, b"(K\0t".to_vec(), b"\x89".to_vec(), b"}".to_vec()]);
        let item =
            [b"}".to_vec(), text("a"), b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"Rs".to_vec()];
        archive(&[("net/data.pkl", &pickle(&item.concat())), ("net/data/0", &[0; 4]), ("net/version", b"3\n")], false)
    };
    let bomb = archive(&[("net/data.pkl", &vec![b'N'; 64 << 20]), ("net/version", b"3\n")], true);
    // A MindSpore value whose tensor claims 2^60 bytes of content.
    let claimed = b"\x0a\x7f\x0a\x01a\x12\x7a\x08\x02\x12\x07Float32\x1a\x80\x80\x80\x80\x80\x80\x80\x80\x10".to_vec();
    vec![
        ("huge.safetensors", huge, "past the end"),
        ("system.pth", with_pickle(&system), "posix.system"),
        ("eval.pth", with_pickle(&evaluated), "__builtin__.eval"),
        ("expanded.pth", expanded, "more than the file can hold"),
        ("bomb.pth", bomb, "compressed"),
        ("claimed.ckpt", [claimed, vec![0; 200]].concat(), "reaches past"),
        ("nothing.pth", Vec::new(), "not a checkpoint"),
        ("picture.pth", b"\x89PNG\r\n\x1a\n and so on and so forth".to_vec(), "not a checkpoint"),
    ]
}
