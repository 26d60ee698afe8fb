//! OpenEXR motion vectors, as compositors exchange them: channels of floats in pixels, u to the right and v UP, as Nuke, Fusion and
//! Blender count.
//!
//! Written are `forward.u` and `forward.v`, Nuke's layer of that name, and where some flow is unknown `mask.a`, 1 where it is known;
//! unknown vectors are 0. Read are these, under any layer's name before them, or else Blender's `Vector.Z` and `Vector.W`, which point
//! from the next frame back to this one: Cycles stores this position less the next, with y up.

use std::io::Cursor;

use exr::prelude::{
    AnyChannel, AnyChannels, Blocks, Compression, Encoding, FlatSamples, Image, Layer, LayerAttributes, LineOrder,
    MetaData, ReadChannels, ReadLayers, WritableImage, read,
};

use super::{FormatError, error, frame::check_claim, known_motion, pairs_or};
use crate::{FlowField, Mask, Size};

const FORMAT: &str = "OpenEXR";

/// The first four bytes of a file.
pub const MAGIC: &[u8; 4] = b"\x76\x2f\x31\x01";

/// OpenEXR's ZIP is a deflate, which makes at most 1032 bytes of one.
const MOST_OF_A_BYTE: u64 = 1032;

/// Pairs of channels that hold flow, by the ends of their names, and the signs that make u and v of them.
const VECTORS: [([&str; 2], [f32; 2]); 2] =
    [(["forward.u", "forward.v"], [1.0, -1.0]), (["Vector.Z", "Vector.W"], [-1.0, 1.0])];

/// Where flow is known.
const KNOWN: &str = "mask.a";

/// Flow from the bytes of an OpenEXR file.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let malformed = |error: exr::error::Error| FormatError::malformed(FORMAT, error.to_string());
    let headers = MetaData::read_from_buffered(Cursor::new(bytes), false).map_err(malformed)?.headers;
    for header in &headers {
        let (width, height) = (header.layer_size.width(), header.layer_size.height());
        let size = error::check_size(FORMAT, height as i64, width as i64)?;
        check_claim(FORMAT, size, 4 * header.channels.list.len() as u64, bytes.len(), Some(MOST_OF_A_BYTE))?;
    }
    let image = read().no_deep_data().largest_resolution_level().all_channels().all_layers().all_attributes();
    let image = image.non_parallel().from_buffered(Cursor::new(bytes)).map_err(malformed)?;
    let named: Vec<(String, &FlatSamples, Size)> = image
        .layer_data
        .iter()
        .flat_map(|layer| {
            let size = Size { height: layer.size.height(), width: layer.size.width() };
            layer.channel_data.list.iter().map(move |channel| (channel.name.to_string(), &channel.sample_data, size))
        })
        .collect();
    let find = |end: &str| {
        let ends = |name: &str| name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'));
        named.iter().find(|(name, ..)| ends(name))
    };
    let both = |(ends, signs): &([&str; 2], [f32; 2])| Some((find(ends[0])?, find(ends[1])?, *signs));
    let Some(((_, u, size), (_, v, other), [sign_u, sign_v])) = VECTORS.iter().find_map(both) else {
        let names: Vec<&str> = named.iter().map(|(name, ..)| &**name).collect();
        let what = format!(
            "no channels forward.u and forward.v, nor Blender's Vector.Z and Vector.W; it has {}",
            if names.is_empty() { "none".into() } else { names.join(", ") }
        );
        return Err(FormatError::unsupported(FORMAT, what));
    };
    let shown = image.attributes.display_window.size;
    if size != other || (size.width, size.height) != (shown.width(), shown.height()) {
        let what = format!(
            "the vectors cover {size}, the picture is {}x{}; write them uncropped",
            shown.height(),
            shown.width()
        );
        return Err(FormatError::unsupported(FORMAT, what));
    }
    let u: Vec<f32> = u.values_as_f32().map(|u| sign_u * u).collect();
    let v: Vec<f32> = v.values_as_f32().map(|v| sign_v * v).collect();
    let known =
        find(KNOWN).filter(|(.., of)| of == size).map(|(_, mask, _)| mask.values_as_f32().collect::<Vec<f32>>());
    let at = |x: usize, y: usize| y * size.width + x;
    Ok(FlowField::sparse_from_fn(*size, |x, y| {
        let vector = known_motion(u[at(x, y)], v[at(x, y)])?;
        known.as_ref().is_none_or(|known| known[at(x, y)] > 0.0).then_some(vector)
    }))
}

/// The bytes of an OpenEXR file, compressed without loss.
pub fn encode(flow: &FlowField) -> Result<Vec<u8>, FormatError> {
    let (u, v): (Vec<f32>, Vec<f32>) = pairs_or(flow, 0.0).map(|(u, v)| (u, -v)).unzip();
    let mut channels = vec![("forward.u", u), ("forward.v", v)];
    if let Some(known) = flow.validity() {
        channels.push((KNOWN, shares(known)));
    }
    let channels = channels.into_iter().map(|(name, values)| AnyChannel::new(name, FlatSamples::F32(values)));
    let encoding =
        Encoding { compression: Compression::ZIP16, blocks: Blocks::ScanLines, line_order: LineOrder::Increasing };
    let size = (flow.width(), flow.height());
    let layer = Layer::new(size, LayerAttributes::default(), encoding, AnyChannels::sort(channels.collect()));
    let mut bytes = Cursor::new(Vec::new());
    let written = Image::from_layer(layer).write().non_parallel().to_buffered(&mut bytes);
    written.map_err(|error| FormatError::unsupported(FORMAT, error.to_string()))?;
    Ok(bytes.into_inner())
}

fn shares(mask: &Mask) -> Vec<f32> {
    mask.data().iter().map(|&known| f32::from(u8::from(known))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(channels: &[(&str, [f32; 2])]) -> Vec<u8> {
        let channels = channels.iter().map(|(name, values)| AnyChannel::new(*name, FlatSamples::F32(values.to_vec())));
        let layer = Layer::new(
            (2, 1),
            LayerAttributes::default(),
            Encoding::UNCOMPRESSED,
            AnyChannels::sort(channels.collect()),
        );
        let mut bytes = Cursor::new(Vec::new());
        Image::from_layer(layer).write().non_parallel().to_buffered(&mut bytes).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn channels_are_those_of_compositors_with_v_up() {
        let flow = FlowField::from_fn(Size::new(1, 2), |x, _| (x as f32, 3.0));
        let image =
            read().no_deep_data().largest_resolution_level().all_channels().first_valid_layer().all_attributes();
        let image = image.from_buffered(Cursor::new(encode(&flow).unwrap())).unwrap();
        let channels: Vec<(String, Vec<f32>)> = image
            .layer_data
            .channel_data
            .list
            .iter()
            .map(|channel| (channel.name.to_string(), channel.sample_data.values_as_f32().collect()))
            .collect();
        let expected = [("forward.u", vec![0.0, 1.0]), ("forward.v", vec![-3.0, -3.0])];
        assert_eq!(channels, expected.map(|(name, values)| (name.to_string(), values)));
    }

    #[test]
    fn blenders_vectors_are_read_under_any_layer() {
        let flow = decode(&file(&[
            ("ViewLayer.Vector.X", [9.0; 2]),
            ("ViewLayer.Vector.Y", [9.0; 2]),
            ("ViewLayer.Vector.Z", [-5.0, 2.0]),
            ("ViewLayer.Vector.W", [1.0, -4.0]),
        ]));
        assert_eq!(flow.unwrap(), FlowField::from_fn(Size::new(1, 2), |x, _| [(5.0, 1.0), (-2.0, -4.0)][x]));
        let error = decode(&file(&[("R", [0.0; 2]), ("G", [0.0; 2])])).unwrap_err().to_string();
        assert!(error.contains("forward.u") && error.contains("it has G, R"), "{error}");
        let other = decode(&file(&[("fastforward.u", [0.0; 2]), ("fastforward.v", [0.0; 2])]));
        assert!(other.is_err(), "another layer's name ends alike");
    }
}
