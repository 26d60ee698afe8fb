//! The weights that are part of the program. This project trained them on data that its own generator makes, so they are free
//! for any use, under the licences of the code.
//!
//! Each is a safetensors file in half precision whose metadata say which network it is for and how it was made.
//! `docs/training.md` describes the training.

/// The weights of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Name of the network.
    pub name: &'static str,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: &'static str,
    /// The bytes of a safetensors file.
    pub bytes: &'static [u8],
}

/// All built-in weights, beginning with those that are used when no network is named. A constant would be in the program once for
/// each of its users.
pub static BUILTIN: &[Builtin] = &[
    #[cfg(feature = "rill")]
    Builtin {
        name: "rill",
        sha256: "b7232215cb8b2d058fc541d4e9fefca96919de6b3c42c24a864b6687fb9d9cb3",
        bytes: include_bytes!("../rill.safetensors"),
    },
];

/// The weights of the network of this name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|weights| weights.name == name)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn files_are_the_ones_described() {
        assert!(!BUILTIN.is_empty());
        for weights in BUILTIN {
            let hash: String = Sha256::digest(weights.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, weights.sha256, "{}", weights.name);
            assert_eq!(builtin(weights.name), Some(weights));
        }
        assert_eq!(builtin("dis"), None);
    }
}
