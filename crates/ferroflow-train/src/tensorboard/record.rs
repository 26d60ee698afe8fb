//! TFRecord: a length, its checksum, the data, their checksum.

use std::io::{self, Write};

/// Writes one record.
pub(super) fn write(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked(data).to_le_bytes())
}

/// CRC32C, rotated and shifted so that the checksum of data that hold checksums is still a good one.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The records of a whole file, or `None` if a length or a checksum is wrong.
#[cfg(test)]
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (check, rest) = rest.split_first_chunk::<4>()?;
        let size = u64::from_le_bytes(*length) as usize;
        let (data, rest) = rest.split_at_checked(size)?;
        let (data_check, rest) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*check) != masked(length) || u32::from_le_bytes(*data_check) != masked(data) {
            return None;
        }
        records.push(data);
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_tensorflows() {
        // RFC 3720, B.4: CRC32C of 32 zero bytes; masked as in TensorFlow's crc32c.h.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(masked(&[0; 32]), 0x8A91_36AAu32.rotate_right(15).wrapping_add(0xA282_EAD8));
    }
}
