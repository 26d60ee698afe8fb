//! TFRecord files of the UFlow project's converters: [`write()`] writes what the data set `tfrecord:PATH` reads.
//!
//! A file is a series of records: length, its checksum, bytes, their checksum. A record is a `tensorflow.SequenceExample`: `height`,
//! `width`, `flow_uv` (raw float32, u then v) and `occlusion_mask` in its context, `images` (raw RGB of both frames) and
//! `invalid_masks` among its lists. KITTI's converter writes `flow_uv_occ` with `flow_valid_occ` instead.

mod read;
mod write;

use std::collections::BTreeMap;

use prost::Message;

pub(crate) use read::open;
pub use write::{Division, Written, write};

/// What leads from MindRecord files, which nothing but MindSpore writes, to data that are read here.
pub const MINDRECORD: &str = "MindRecord files are MindSpore's own and neither read nor written here. The data they were made of are \
    read as they are (chairs:DIR, sintel-clean:DIR), and packed for TensorFlow by `ferroflow data pack DATA -o DIR --format tfrecord`. \
    If only the files are left: 1) where MindSpore is, for each FILE, into a new folder each: python -c \"import sys, struct; from \
    mindspore.mindrecord import FileReader; [open('%s/%05d_%s' % (sys.argv[2], i, n), 'wb').write(d) for i, r in \
    enumerate(FileReader(sys.argv[1]).get_next(), 1) for n, d in (('img1.ppm', r['images1_data']), ('img2.ppm', r['images2_data']), \
    ('flow.flo', struct.pack('<fii', 202021.25, r['width'], r['height']) + r['flow_uv'].tobytes()))]\" FILE FOLDER  2) ferroflow \
    data pack chairs:FOLDER -o SHARDS";

#[derive(Clone, PartialEq, Message)]
pub(super) struct SequenceExample {
    #[prost(message, optional, tag = "1")]
    pub context: Option<Features>,
    #[prost(message, optional, tag = "2")]
    pub lists: Option<FeatureLists>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Features {
    #[prost(btree_map = "string, message", tag = "1")]
    pub feature: BTreeMap<String, Feature>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureLists {
    #[prost(btree_map = "string, message", tag = "1")]
    pub list: BTreeMap<String, FeatureList>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureList {
    #[prost(message, repeated, tag = "1")]
    pub feature: Vec<Feature>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Feature {
    #[prost(message, optional, tag = "1")]
    pub bytes: Option<BytesList>,
    #[prost(message, optional, tag = "3")]
    pub int64: Option<Int64List>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BytesList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub value: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Int64List {
    #[prost(int64, repeated, tag = "1")]
    pub value: Vec<i64>,
}

/// CRC32C as TensorFlow stores it: turned and shifted, so that the checksum of a checksum is another.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Data as a record: with its length and both checksums.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sums = [masked_crc(&length), masked_crc(data)].map(u32::to_le_bytes);
    [&length[..], &sums[0], data, &sums[1]].concat()
}
