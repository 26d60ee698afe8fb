//! LevelDB's mask over CRC-32C.

/// The checksum as LevelDB and TensorFlow store it: rotated and shifted, since a checksum of checksums is weak.
pub fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_turns_and_shifts() {
        // RFC 3720, B.4: the checksum of 32 zero bytes is 8a9136aa.
        assert_eq!(masked(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
