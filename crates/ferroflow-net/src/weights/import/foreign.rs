//! Recognises files that are often taken for checkpoints but hold no weights, to say what they are and where to get the weights.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// How much of a pickle is looked at; module and array types are named at the beginning.
const LOOKED_AT: u64 = 8 << 20;

/// What the first bytes of a file of no known format show.
pub(super) fn by_head(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        let size = text.lines().find_map(|line| line.strip_prefix("size ")).unwrap_or("?");
        return Some(format!("a Git LFS pointer to a file of {size} bytes, not the file; `git lfs pull` fetches it"));
    }
    let start: String = text.chars().take(14).collect::<String>().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return Some(
            "a web page, not the file: the server asked for a confirmation or a login; fetch it with a browser".into(),
        );
    }
    match head {
        [0x80, 2..=5, ..] => Some(
            "a plain Python pickle, not a file of torch.save; in Python: torch.save({k: torch.as_tensor(v) for k, v in \
             pickle.load(open(FILE, 'rb')).items()}, 'weights.pt')"
                .into(),
        ),
        _ => None,
    }
}

/// What the entries of a zip archive show; `None` for one of `torch.save`.
pub(super) fn by_archive(path: &Path) -> Option<String> {
    let archive = zip::ZipArchive::new(BufReader::new(File::open(path).ok()?)).ok()?;
    let has = |end: &str| archive.file_names().any(|name| name.ends_with(end));
    let inside = |folder: &str| archive.file_names().any(|name| name.split('/').nth(1) == Some(folder));
    if has("/constants.pkl") && inside("code") {
        return Some(
            "a TorchScript archive, which is code with its weights; in Python: torch.save(torch.jit.load(FILE).state_dict(), \
             'weights.pt')"
                .into(),
        );
    }
    if has(".npy") && !has("data.pkl") {
        return Some(
            "a NumPy archive (.npz); in Python: torch.save({k: torch.from_numpy(v) for k, v in numpy.load(FILE).items()}, \
             'weights.pt')"
                .into(),
        );
    }
    (!has("data.pkl")).then(|| "a zip archive without the data.pkl of a checkpoint; unpack it first".into())
}

/// What a file of `torch.save` holds instead of tensors, from the types that its pickle names.
pub(super) fn by_pickle(path: &Path) -> Option<String> {
    let pickle = pickle(path)?;
    let names = |what: &[u8]| pickle.windows(what.len()).any(|w| w == what);
    if names(b"torch.nn.modules") || names(b"torch.nn.parallel") {
        return Some(
            "a whole module, pickled with the names of its code, and no state_dict; nothing was executed. Where that code is: \
             torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pt')"
                .into(),
        );
    }
    // Beside tensors, arrays are the state of random generators.
    (names(b"numpy") && names(b"_reconstruct") && !names(b"_rebuild_tensor")).then(|| {
        "NumPy arrays, not tensors; in Python: torch.save({k: torch.as_tensor(v) for k, v in torch.load(FILE, \
         weights_only=False).items()}, 'weights.pt')"
            .into()
    })
}

/// The beginning of the pickle: of the entry `data.pkl`, or of the file itself.
fn pickle(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    match zip::ZipArchive::new(BufReader::new(&file)) {
        Ok(mut archive) => {
            let name = archive.file_names().find(|name| name.ends_with("data.pkl"))?.to_string();
            archive.by_name(&name).ok()?.take(LOOKED_AT).read_to_end(&mut bytes).ok()?;
        }
        Err(_) => _ = File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut bytes).ok()?,
    }
    // Not the beginning of an archive that is damaged.
    (!bytes.starts_with(b"PK")).then_some(bytes)
}
