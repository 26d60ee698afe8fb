//! NumPy's `.npz`: a zip archive of `.npy` files. A flow is the array `flow`, or the arrays `u` and `v`, or the only array
//! of the archive. It is unknown where an array `valid` is zero. Flow is written as `flow`, with NaN where unknown.

use std::io::{Cursor, Read, Write};

use super::{
    FormatError,
    npy::{self, Array},
};
use crate::{FlowField, Mask, memory};

const FORMAT: &str = ".npz";

type Archive<'a> = zip::ZipArchive<Cursor<&'a [u8]>>;

/// Flow from the bytes of a `.npz` file.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let mut archive = open(bytes)?;
    let names = arrays(&archive);
    let named = |name: &str| names.iter().find(|n| *n == name);
    let flow = match (named("flow"), named("u"), named("v")) {
        (Some(flow), ..) => Array::parse(&read(&mut archive, flow)?)?.flow()?,
        (None, Some(u), Some(v)) => {
            let [u, v] = [read(&mut archive, u)?, read(&mut archive, v)?];
            let [u, v] = [Array::parse(&u)?, Array::parse(&v)?];
            let (u, v) = (u.plane()?, v.plane()?);
            if u.size != v.size {
                return Err(FormatError::unsupported(FORMAT, "the arrays u and v have different sizes"));
            }
            FlowField::sparse_from_fn(u.size, |x, y| super::known_motion(u.get(x, y) as f32, v.get(x, y) as f32))
        }
        _ => {
            let others: Vec<&String> = names.iter().filter(|n| *n != "valid").collect();
            Array::parse(&read(&mut archive, only(&others, "flow, or u and v")?)?)?.flow()?
        }
    };
    let Some(valid) = named("valid") else { return Ok(flow) };
    let valid = Array::parse(&read(&mut archive, valid)?)?.mask()?;
    if valid.size() != flow.size() {
        return Err(FormatError::unsupported(FORMAT, "the arrays of the flow and valid have different sizes"));
    }
    Ok(FlowField::sparse_from_fn(flow.size(), |x, y| flow.known(x, y).filter(|_| valid.get(x, y))))
}

/// A mask from the bytes of a `.npz` file, true where the array `mask`, or the only array, is not zero.
pub fn decode_mask(bytes: &[u8]) -> Result<Mask, FormatError> {
    let mut archive = open(bytes)?;
    let names = arrays(&archive);
    let name = match names.iter().find(|n| *n == "mask") {
        Some(mask) => mask,
        None => only(&names.iter().collect::<Vec<_>>(), "mask")?,
    };
    npy::decode_mask(&read(&mut archive, name)?)
}

fn bad(error: impl std::fmt::Display) -> FormatError {
    FormatError::malformed(FORMAT, error.to_string())
}

fn open(bytes: &[u8]) -> Result<Archive<'_>, FormatError> {
    zip::ZipArchive::new(Cursor::new(bytes)).map_err(bad)
}

/// Names of the arrays.
fn arrays(archive: &Archive) -> Vec<String> {
    archive.file_names().filter_map(|name| name.strip_suffix(".npy")).map(Into::into).collect()
}

/// The only array; which of several is meant cannot be known.
fn only<'a>(names: &[&'a String], wanted: &str) -> Result<&'a str, FormatError> {
    match names {
        [name] => Ok(name),
        [] => Err(FormatError::unsupported(FORMAT, "the archive holds no array")),
        several => {
            let several = several.iter().take(10).map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("which array is meant? It holds {several}; save one named {wanted}");
            Err(FormatError::unsupported(FORMAT, what))
        }
    }
}

/// The bytes of an array: no more than its own header says, and no more than there is memory for, since packed zeros unfold
/// to a thousand times their size.
fn read(archive: &mut Archive, name: &str) -> Result<Vec<u8>, FormatError> {
    let mut entry = archive.by_name(&format!("{name}.npy")).map_err(bad)?;
    let mut array = Vec::new();
    entry.by_ref().take(npy::Header::LONGEST as u64).read_to_end(&mut array).map_err(bad)?;
    let claim = npy::Header::claim(&array)?;
    // As bytes and as a flow.
    let claim = u64::try_from(claim).ok().and_then(|claim| claim.checked_mul(2));
    let claim = claim.ok_or_else(|| FormatError::limits(FORMAT, format!("the array {name} is beyond any memory")))?;
    memory::check(claim).map_err(|e| FormatError::limits(FORMAT, format!("the array {name}: {e}")))?;
    // A byte more shows that there is more than there should be.
    let rest = (claim / 2 + npy::Header::LONGEST as u64 + 1).saturating_sub(array.len() as u64);
    entry.take(rest).read_to_end(&mut array).map_err(bad)?;
    Ok(array)
}

/// The bytes of a `.npz` file with one compressed array, `flow`.
pub fn encode(flow: &FlowField) -> Result<Vec<u8>, FormatError> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let written = archive
        .start_file("flow.npy", zip::write::SimpleFileOptions::default())
        .and_then(|()| Ok(archive.write_all(&npy::encode(flow))?))
        .and_then(|()| archive.finish());
    Ok(written.map_err(|e| FormatError::unsupported(FORMAT, e.to_string()))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::{npy::tests::array, *};
    use crate::Size;

    fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            out.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            out.write_all(bytes).unwrap();
        }
        out.finish().unwrap().into_inner()
    }

    #[test]
    fn the_array_named_flow_wins_or_is_the_only_one() {
        let (a, b) = (FlowField::zeros(Size::new(2, 1)), FlowField::from_fn(Size::new(1, 3), |x, _| (x as f32, 1.0)));
        let [x, y] = [&a, &b].map(npy::encode);
        assert_eq!(decode(&archive(&[("a.npy", x.clone()), ("flow.npy", y.clone())])).unwrap(), b);
        assert_eq!(decode(&archive(&[("readme.txt", y.clone()), ("x.npy", x.clone())])).unwrap(), a);
        assert!(matches!(decode(&archive(&[])), Err(FormatError::Unsupported { .. })));
        let several = decode(&archive(&[("x.npy", x), ("y.npy", y)])).unwrap_err().to_string();
        assert!(several.contains("x, y") && several.contains("named flow"), "{several}");
        assert_eq!(decode(&encode(&b).unwrap()).unwrap(), b);
    }

    #[test]
    fn two_components_and_a_mask_of_what_is_known_are_a_flow() {
        let floats = |v: [f32; 2]| array("<f4", false, "(1, 2)", v.map(f32::to_le_bytes).as_flattened());
        let (u, v, valid) = (floats([1.0, 2.0]), floats([3.0, 4.0]), array("|b1", false, "(1, 2)", &[0, 1]));
        let known = FlowField::sparse_from_fn(Size::new(1, 2), |x, _| (x == 1).then_some((2.0, 4.0)));
        assert_eq!(decode(&archive(&[("u.npy", u), ("v.npy", v), ("valid.npy", valid.clone())])).unwrap(), known);
        let flow = npy::encode(&FlowField::from_fn(Size::new(1, 2), |x, _| (1.0 + x as f32, 3.0 + x as f32)));
        for name in ["flow.npy", "arr_0.npy"] {
            assert_eq!(decode(&archive(&[(name, flow.clone()), ("valid.npy", valid.clone())])).unwrap(), known);
        }
        assert_eq!(decode_mask(&archive(&[("arr_0.npy", valid)])).unwrap().data(), [false, true]);
    }

    #[test]
    fn an_array_unfolds_to_what_its_header_says_and_no_further() {
        // 64 MB of zeros in 64 KB, behind a header of two pixels.
        let bomb = archive(&[("flow.npy", array("<f4", false, "(1, 2, 2)", &vec![0; 64 << 20]))]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(decode(&bomb), Err(FormatError::Malformed { .. })));
        let huge = archive(&[("flow.npy", array("<f4", false, "(99999999, 99999999, 2)", &[]))]);
        assert!(matches!(decode(&huge), Err(FormatError::Limits { .. })));
    }
}
