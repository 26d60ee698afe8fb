//! Writes a data set as records, divided and named as UFlow's converters do.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use ferroflow_core::{
    FlowField, Frame, Mask,
    io::{Outputs, outputs::only_holds, read_mask, write_with},
};
use prost::Message;

use super::{BytesList, Feature, FeatureList, FeatureLists, Features, Int64List, SequenceExample, record};
use crate::{DataError, Sample, Source, Spec, datasets::PairFiles, split::read_sides};

/// How a data set is divided into files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// Number of shards. Each takes as many pairs as the others, and the last one those left over too.
    pub num_shards: usize,
    /// Write only this shard, counted from 0.
    pub shard: Option<usize>,
    /// A list of as many lines as there are pairs, 1 for those of `train/` and 2 for those of `test/`.
    pub split_file: Option<PathBuf>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The files, each with the number of its pairs.
    pub files: Vec<(PathBuf, usize)>,
}

/// Writes the pairs of a data set as `NAME@SHARD.tfrecord` below `folder`, in the folders of UFlow's converters: `train/` and
/// `test/` of FlyingChairs with a split file, `training/clean/` and so on of Sintel.
///
/// # Errors
/// If the numbers or the split file do not fit the data, the folder holds something else, a sample cannot be read, or a file
/// cannot be written.
pub fn write(spec: &Spec, folder: &Path, division: &Division, outputs: &mut Outputs) -> Result<Written, DataError> {
    let wrong = |reason: String| DataError::Spec { spec: spec.to_string(), reason };
    let Division { num_shards, shard, split_file } = division;
    let source = spec.open()?;
    let total =
        source.len().ok_or_else(|| wrong("an endless data set cannot be packed; end it with count=N".into()))?;
    if *num_shards == 0 || shard.is_some_and(|shard| shard >= *num_shards) || *num_shards > total.max(1) {
        let which = shard.map_or(String::new(), |shard| format!(", of which shard {shard} is wanted"));
        return Err(wrong(format!("{total} pairs do not fill {num_shards} shards{which}")));
    }
    let files = spec.listing().transpose()?.map_or(Vec::new(), |listing| listing.pairs);
    let ids = |index: usize| files.get(index).map(|pair| pair.id.as_str());
    let split = split_file.as_deref().map(|path| read_split(path, total, ids)).transpose()?;

    only_holds(folder, |name| ["train", "test", "training"].contains(&name) || name.ends_with(".tfrecord"))?;
    outputs.reads(spec.path());
    outputs.reads_all(split_file);
    outputs.reads_all(source.files());
    let (name, below) = naming(spec);
    let mut wanted: Vec<(PathBuf, Vec<usize>)> = Vec::new();
    for shard in shard.map_or(0..*num_shards, |shard| shard..shard + 1) {
        let range = share(total, *num_shards, shard);
        let file = |part: &str| folder.join(&below).join(part).join(format!("{name}@{shard}.tfrecord"));
        match &split {
            None => wanted.push((file(""), range.collect())),
            Some(split) => {
                for (part, of_training) in [("train", true), ("test", false)] {
                    wanted.push((file(part), range.clone().filter(|&i| split[i] == of_training).collect()));
                }
            }
        }
    }
    for (path, _) in &wanted {
        outputs.plan(path, "records")?;
    }
    outputs.prepare()?;
    for (path, indices) in &wanted {
        write_file(path, spec, &*source, &files, indices)?;
    }
    Ok(Written { files: wanted.into_iter().map(|(path, indices)| (path, indices.len())).collect() })
}

/// What the files are called, and the folder of a part of Sintel.
fn naming(spec: &Spec) -> (&'static str, PathBuf) {
    match spec.dataset().name {
        "chairs" => ("flying_chairs", PathBuf::new()),
        name => match name.strip_prefix("sintel-") {
            Some(pass) => {
                let part = if spec.has("test") { "test" } else { "training" };
                ("sintel", Path::new(part).join(pass))
            }
            None => (name, PathBuf::new()),
        },
    }
}

/// The pairs of a shard.
fn share(total: usize, shards: usize, shard: usize) -> Range<usize> {
    let each = total / shards;
    each * shard..if shard + 1 == shards { total } else { each * (shard + 1) }
}

/// Whether each pair is for training. A pair whose name is its number, as in FlyingChairs, keeps its line if others are missing.
fn read_split<'i>(path: &Path, total: usize, id: impl Fn(usize) -> Option<&'i str>) -> Result<Vec<bool>, DataError> {
    let lines = read_sides(path)?;
    if lines.len() == total {
        return Ok(lines);
    }
    let by_number =
        |index| id(index)?.parse::<usize>().ok().and_then(|number| lines.get(number.checked_sub(1)?).copied());
    let sides: Option<Vec<bool>> = (0..total).map(by_number).collect();
    sides.ok_or_else(|| {
        DataError::content(path, format!("{} lines do not split {total} pairs: one line a pair is needed", lines.len()))
    })
}

fn write_file(
    path: &Path,
    spec: &Spec,
    source: &dyn Source,
    files: &[PairFiles],
    indices: &[usize],
) -> Result<(), DataError> {
    // The writer's own errors are the file's; those of the samples pass around it.
    let mut failed = None;
    let written = write_with(path, |out| {
        for &index in indices {
            let example = source.get(index).and_then(|sample| example(spec, &sample, files.get(index)));
            let example = example.map_err(|error| {
                failed = Some(error);
                io::Error::other("a sample cannot be packed")
            })?;
            out.write_all(&record(&example.encode_to_vec()))?;
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// A sample with the keys of UFlow's converters.
fn example(spec: &Spec, sample: &Sample, files: Option<&PairFiles>) -> Result<SequenceExample, DataError> {
    let size = sample.first.size();
    let mut context =
        BTreeMap::from([("height".to_string(), number(size.height)), ("width".to_string(), number(size.width))]);
    let mut put = |key: &str, value: Vec<u8>| _ = context.insert(key.into(), bytes(value));
    let path = |path: Option<&PathBuf>| path.map_or(sample.id.clone(), |path| path.display().to_string()).into_bytes();
    put("image1_path", path(files.map(|files| &files.first)));
    put("image2_path", path(files.map(|files| &files.second)));
    let mut lists = BTreeMap::new();
    let images = [&sample.first, &sample.second].map(|frame: &Frame| bytes(frame.rgb().to_vec()));
    lists.insert("images".to_string(), FeatureList { feature: images.into() });
    if let Some(flow) = &sample.flow {
        put("flow_path", path(files.and_then(|files| files.truth.as_ref())));
        match flow.validity().filter(|_| spec.dataset().name.starts_with("kitti")) {
            Some(valid) => {
                put("flow_uv_occ", vectors(flow));
                put("flow_valid_occ", flags(valid));
            }
            None => put("flow_uv", vectors(flow)),
        }
        if let Some(masks) = invalid_masks(spec, flow, files)? {
            let feature = masks.iter().map(|mask| bytes(flags(mask))).collect();
            lists.insert("invalid_masks".to_string(), FeatureList { feature });
        }
    }
    if let Some(occlusion) = &sample.occlusion {
        put("occlusion_path", path(files.and_then(|files| files.occlusion.as_ref())));
        put("occlusion_mask", flags(occlusion));
    }
    Ok(SequenceExample { context: Some(Features { feature: context }), lists: Some(FeatureLists { list: lists }) })
}

/// Where truth must not be used, in both frames of Sintel, whose masks lie beside the frames; in frame 1 of other sparse data.
fn invalid_masks(spec: &Spec, flow: &FlowField, files: Option<&PairFiles>) -> Result<Option<Vec<Mask>>, DataError> {
    let name = spec.dataset().name;
    if let (Some(pass), Some(files)) = (name.strip_prefix("sintel-"), files) {
        // training/PASS/SCENE/frame_NNNN.png -> training/invalid/SCENE/frame_NNNN.png
        let mask = |frame: &Path| {
            let (file, scene) = (frame.file_name()?, frame.parent()?);
            let part = scene.parent().filter(|folder| folder.ends_with(pass))?.parent()?;
            let path = part.join("invalid").join(scene.file_name()?).join(file);
            path.is_file().then_some(path)
        };
        if let (Some(first), Some(second)) = (mask(&files.first), mask(&files.second)) {
            return Ok(Some(vec![read_mask(first)?, read_mask(second)?]));
        }
    }
    let sparse = flow.validity().filter(|_| !name.starts_with("kitti"));
    Ok(sparse.map(|valid| vec![Mask::from_fn(valid.size(), |x, y| !valid.get(x, y))]))
}

/// u and v of every pixel, 0 where unknown.
fn vectors(flow: &FlowField) -> Vec<u8> {
    let (height, width) = (flow.height(), flow.width());
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let vectors = pixels.map(|(x, y)| flow.known(x, y).unwrap_or_default());
    vectors.flat_map(|(u, v)| [u, v]).flat_map(f32::to_le_bytes).collect()
}

fn flags(mask: &Mask) -> Vec<u8> {
    mask.data().iter().map(|&flag| u8::from(flag)).collect()
}

fn bytes(value: Vec<u8>) -> Feature {
    Feature { bytes: Some(BytesList { value: vec![value] }), int64: None }
}

fn number(value: usize) -> Feature {
    Feature { bytes: None, int64: Some(Int64List { value: vec![value as i64] }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::Tree;

    fn chairs(pairs: usize) -> Tree {
        let tree = Tree::new();
        for i in 1..=pairs {
            tree.frame(format!("{i:05}_img1.ppm"), 10 * i).frame(format!("{i:05}_img2.ppm"), 10 * i + 1);
            tree.flow(format!("{i:05}_flow.flo"), i);
        }
        tree
    }

    fn divided(num_shards: usize, shard: Option<usize>, split_file: Option<PathBuf>) -> Division {
        Division { num_shards, shard, split_file }
    }

    fn names(written: &Written, root: &Path) -> Vec<(String, usize)> {
        let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        written.files.iter().map(|(path, pairs)| (name(path), *pairs)).collect()
    }

    #[test]
    fn chairs_come_back_from_their_shards() {
        let (tree, out) = (chairs(5), Tree::new());
        let spec = tree.spec("chairs:{root}");
        let pack =
            |folder: &str, division: &Division| write(&spec, &out.path(folder), division, &mut Outputs::default());
        let written = pack("plain", &divided(2, None, None)).unwrap();
        let expected = [("flying_chairs@0.tfrecord".to_string(), 2), ("flying_chairs@1.tfrecord".to_string(), 3)];
        assert_eq!(names(&written, &out.path("plain")), expected);
        let (there, back) = (tree.samples("chairs:{root}"), out.samples("tfrecord:{root}/plain"));
        assert_eq!(there.len(), back.len());
        for (a, b) in there.iter().zip(&back) {
            assert_eq!((a.0, a.1, a.2), (b.0, b.1, b.2));
        }

        tree.text("split.txt", "1\n2\n1\n1\n2\n");
        let split = Some(tree.path("split.txt"));
        let written = pack("split", &divided(2, Some(1), split.clone())).unwrap();
        let expected =
            [("train/flying_chairs@1.tfrecord".to_string(), 2), ("test/flying_chairs@1.tfrecord".to_string(), 1)];
        assert_eq!(names(&written, &out.path("split")), expected);
        let greys = |text: &str| out.samples(text).iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(greys("tfrecord:{root}/split/train"), [30, 40]);
        assert_eq!(greys("tfrecord:{root}/split/test"), [50]);

        // Part of the set: a pair keeps the line of its number.
        for name in ["img1.ppm", "img2.ppm", "flow.flo"] {
            tree.remove(format!("00001_{name}"));
        }
        pack("part", &divided(1, None, split)).unwrap();
        assert_eq!(greys("tfrecord:{root}/part/test"), [20, 50]);
    }

    #[test]
    fn sintel_has_its_folders_and_masks() {
        let (tree, out) = (Tree::new(), Tree::new());
        for k in 1..=2 {
            tree.frame(format!("training/clean/alley_1/frame_{k:04}.png"), k);
            tree.mask(format!("training/invalid/alley_1/frame_{k:04}.png"));
            tree.frame(format!("test/clean/cave_1/frame_{k:04}.png"), 50 + k);
        }
        tree.flow("training/flow/alley_1/frame_0001.flo", 3).mask("training/occlusions/alley_1/frame_0001.png");
        for spec in ["sintel-clean:{root}", "sintel-clean:{root}@test"] {
            write(&tree.spec(spec), &out.path("s"), &divided(1, None, None), &mut Outputs::default()).unwrap();
        }
        let sample = out.open("tfrecord:{root}/s/training/clean/sintel@0.tfrecord@").unwrap().get(0).unwrap();
        let flow = sample.flow.unwrap();
        assert_eq!((flow.known(0, 1), flow.known(1, 2)), (None, Some((3.0, 2.0))));
        assert!(sample.occlusion.unwrap().get(0, 0));
        let hidden = out.open("tfrecord:{root}/s/test/clean").unwrap().get(0).unwrap();
        assert_eq!((hidden.first.pixel(0, 0), hidden.flow), ([51; 3], None));
    }

    #[test]
    fn wrong_numbers_and_lists_are_refused() {
        let (tree, out) = (chairs(2), Tree::new());
        let spec = tree.spec("chairs:{root}");
        tree.text("three.txt", "1\n2\n1\n").text("odd.txt", "1\n3\n").text("one.txt", "1\n");
        for (num_shards, shard, list, word) in [
            (0, None, None, "0 shards"),
            (3, None, None, "do not fill 3"),
            (2, Some(2), None, "shard 2"),
            (1, None, Some("one.txt"), "1 lines do not split 2 pairs"),
            (1, None, Some("odd.txt"), "line 2 is '3'"),
        ] {
            let division = divided(num_shards, shard, list.map(|name| tree.path(name)));
            let error = write(&spec, &out.path("x/y"), &division, &mut Outputs::default()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        // More lines than pairs: by number.
        write(&spec, &out.path("x/y"), &divided(1, None, Some(tree.path("three.txt"))), &mut Outputs::default())
            .unwrap();
        let error = tree.spec("synth:chairs");
        assert!(write(&error, &out.path("z"), &divided(1, None, None), &mut Outputs::default()).is_err());
    }
}
