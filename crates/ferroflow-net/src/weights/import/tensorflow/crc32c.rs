//! CRC-32C (Castagnoli) and LevelDB's mask over it.

/// Reflected polynomial 0x1EDC6F41.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[0]` is the byte-wise table; `TABLES[k]` moves a byte `k` places further.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut t = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        t[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let before = t[k - 1][i];
            t[k][i] = (before >> 8) ^ t[0][(before & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    t
}

/// Eight bytes a step ("slicing by eight"): weights are hundreds of megabytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (eights, rest) = bytes.as_chunks::<8>();
    for b in eights {
        let word = u64::from_le_bytes(*b) ^ u64::from(crc);
        crc = 0;
        for (k, byte) in word.to_le_bytes().into_iter().enumerate() {
            crc ^= TABLES[7 - k][usize::from(byte)];
        }
    }
    for &b in rest {
        crc = (crc >> 8) ^ TABLES[0][usize::from(crc as u8 ^ b)];
    }
    !crc
}

/// The checksum as LevelDB and TensorFlow store it: rotated and shifted, since a checksum of checksums is weak.
pub(super) fn masked(bytes: &[u8]) -> u32 {
    checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4.
    #[test]
    fn known_values() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(checksum(b""), 0);
    }
}
