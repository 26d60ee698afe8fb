//! Files that everybody can get and whose names say how their SHA-256 begins, with what is known about them.

/// A published file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How its SHA-256 begins.
    begins: &'static str,
    /// Licence under which it was published.
    pub licence: &'static str,
    /// Data on which its weights were trained. Their terms are their own.
    pub training_data: &'static str,
}

const BSD: &str = "BSD-3-Clause";
const CHAIRS_THINGS: &str = "FlyingChairs, FlyingThings3D";
const FOR_SINTEL: &str = "FlyingChairs, FlyingThings3D, Sintel, KITTI 2015, HD1K";
const FOR_KITTI: &str = "FlyingChairs, FlyingThings3D, Sintel, KITTI 2015, HD1K; then KITTI 2015";

/// The weights of torchvision, by the numbers in the names of its files.
const FILES: &[Known] = &[
    Known { begins: "22a6c225", licence: BSD, training_data: CHAIRS_THINGS }, // raft_large_C_T_V1
    Known { begins: "1bb1363a", licence: BSD, training_data: CHAIRS_THINGS }, // raft_large_C_T_V2
    Known { begins: "0b8c9e55", licence: BSD, training_data: FOR_SINTEL },    // raft_large_C_T_SKHT_V1
    Known { begins: "ff5fadd5", licence: BSD, training_data: FOR_SINTEL },    // raft_large_C_T_SKHT_V2
    Known { begins: "4a6a5039", licence: BSD, training_data: FOR_KITTI },     // raft_large_C_T_SKHT_K_V1
    Known { begins: "b5c70766", licence: BSD, training_data: FOR_KITTI },     // raft_large_C_T_SKHT_K_V2
    Known { begins: "ad48884c", licence: BSD, training_data: CHAIRS_THINGS }, // raft_small_C_T_V1
    Known { begins: "01064c6d", licence: BSD, training_data: CHAIRS_THINGS }, // raft_small_C_T_V2
];

/// The file of this SHA-256.
pub(super) fn file(sha256: &str) -> Option<Known> {
    FILES.iter().copied().find(|known| sha256.starts_with(known.begins))
}

/// The number by which a file's name says how its SHA-256 begins, as PyTorch's hub has it: `NAME-ff5fadd5.pth`.
pub(super) fn named_hash(file_name: &str) -> Option<&str> {
    let (stem, _) = file_name.split_once('.')?;
    let (_, hash) = stem.rsplit_once('-')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_hash.then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_the_hash_begins() {
        assert_eq!(named_hash("raft_large_C_T_SKHT_V2-ff5fadd5.pth"), Some("ff5fadd5"));
        for other in ["raft-things.pth", "raft_large-ff5fadd5", "raft-FF5FADD5.pth", "raft-ff5fadd.pth", ""] {
            assert_eq!(named_hash(other), None, "{other}");
        }
        let skht = file("ff5fadd5aa").unwrap();
        assert_eq!((skht.licence, skht.training_data), ("BSD-3-Clause", FOR_SINTEL));
        assert_eq!(file("ff5fadd"), None);
    }
}
