//! TFRecord files as a data set; see [`crate::tfrecord`].

use super::{Access, Dataset};
use crate::tfrecord;

pub(super) const TFRECORD: Dataset = Dataset {
    name: "tfrecord",
    title: "TFRecord files of UFlow's converters",
    path: "a .tfrecord file, or a folder of them",
    words: &[],
    marks: &[],
    inner: &[],
    access: Access::Opened(|request| tfrecord::open(&request.root)),
};
