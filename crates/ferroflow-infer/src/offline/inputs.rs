//! Writes preprocessed pairs and their true flows as files for another runtime.

use std::path::Path;

use ferroflow_core::{
    FlowField, Frame, Size,
    geometry::{Fill, Fit, FitPlan, Place},
    io::{
        IoError, Outputs,
        outputs::{only_holds, safe_name},
        write_bytes,
    },
};
use ferroflow_data::{Sample, Source};

use super::{File, Inputs, Layout, MANIFEST, Manifest, OfflineError, Pair, TRUTH, array};

/// The progress of [`write_inputs`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of files written to each folder.
    pub files: usize,
    /// Number of pairs in these files.
    pub pairs: usize,
}

/// Writes the pairs of `source` below `folder`: one folder per input of the network, `gt` and `pairs.json`.
///
/// # Errors
/// If the folder holds files that this function does not write, and at the first pair that cannot be read or does not fit its
/// file.
pub fn write_inputs(
    folder: &Path,
    source: &dyn Source,
    inputs: Inputs,
    outputs: &mut Outputs,
    mut watch: impl FnMut(Progress),
) -> Result<Progress, OfflineError> {
    let batch = inputs.batch.max(1);
    if inputs.layout == Layout::Pwcnet && batch > 1 {
        return Err(OfflineError::Batch { batch });
    }
    let count = match (source.len(), inputs.limit) {
        (Some(len), limit) => len.min(limit.unwrap_or(len)),
        (None, Some(limit)) => limit,
        (None, None) => return Err(OfflineError::Endless { data: source.name() }),
    };
    let folders: Vec<&str> = inputs.layout.folders().iter().chain([&TRUTH]).copied().collect();
    only_holds(folder, |name| name == MANIFEST || folders.contains(&name))?;
    outputs.reads_all(source.files());
    outputs.plan(folder.join(MANIFEST), "the list of pairs")?;
    outputs.prepare()?;
    for name in &folders {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).map_err(|cause| IoError::Io { action: "create", path, cause })?;
    }
    let mut files: Vec<File> = Vec::new();
    let mut progress = Progress::default();
    for first in (0..count).step_by(batch) {
        let samples = (first..count.min(first + batch)).map(|i| source.get(i)).collect::<Result<Vec<_>, _>>()?;
        let name = file_name(inputs.layout, files.len(), &samples[0].id);
        let extension = inputs.format.extension();
        // The name that is free for the truth is the name in every folder.
        let path = outputs.plan_named(&folder.join(TRUTH), name.as_ref(), extension, &samples[0].id)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for input in inputs.layout.folders() {
            outputs.plan(folder.join(input).join(format!("{name}.{extension}")), &samples[0].id)?;
        }
        files.push(write_file(folder, &name, &samples, inputs, batch)?);
        progress = Progress { files: files.len(), pairs: progress.pairs + samples.len() };
        watch(progress);
    }
    // Last, so that a folder with a manifest is whole.
    let manifest = Manifest { layout: inputs.layout, format: inputs.format, batch, files };
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| OfflineError::Manifest { path: path.clone(), reason: e.to_string() })?;
    write_bytes(&path, &text)?;
    Ok(progress)
}

/// The reference's name of a file: its number, or the scene and the frames.
pub(super) fn file_name(layout: Layout, number: usize, id: &str) -> String {
    if layout != Layout::Pwcnet {
        return number.to_string();
    }
    // scene/frame_0001, or Sintel's scene/clean/0001 -> scene-frames_0001_0002
    let scene_and_frame = match id.split('/').collect::<Vec<_>>()[..] {
        [scene, "clean" | "final" | "albedo", frame] => Some((scene, frame)),
        [scene, name] => name.strip_prefix("frame_").map(|frame| (scene, frame)),
        _ => None,
    };
    match scene_and_frame
        .and_then(|(scene, frame)| Some((scene, frame.parse().ok().filter(|&frame: &u32| frame < u32::MAX)?)))
    {
        Some((scene, frame)) => safe_name(&format!("{scene}-frames_{frame:04}_{:04}", frame + 1)),
        None => safe_name(&id.replace(['/', '\\', ':'], "-")),
    }
}

fn write_file(
    folder: &Path,
    name: &str,
    samples: &[Sample],
    inputs: Inputs,
    batch: usize,
) -> Result<File, OfflineError> {
    let size = samples[0].first.size();
    if let Some(other) = samples.iter().find(|s| s.first.size() != size) {
        return Err(OfflineError::Sizes { pair: other.id.clone() });
    }
    let plan = fit(size, inputs.stride);
    let Size { height: h, width: w } = plan.network();
    let mut arrays: Vec<Vec<f32>> = vec![Vec::new(); inputs.layout.folders().len()];
    let mut truth = Vec::new();
    // The last file is filled up with its last pair, since the network takes whole batches.
    for sample in (0..batch).map(|i| &samples[i.min(samples.len() - 1)]) {
        let frames = [plan.apply(&sample.first), plan.apply(&sample.second)];
        preprocess(inputs.layout, frames.each_ref().map(AsRef::as_ref), &mut arrays);
        let known = |x: usize, y: usize| match &sample.flow {
            Some(flow) if x < size.width && y < size.height => flow.known(x, y).unwrap_or((f32::NAN, f32::NAN)),
            Some(_) => (0.0, 0.0),
            None => (f32::NAN, f32::NAN),
        };
        let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        if inputs.layout.is_interleaved() {
            truth.extend(pixels.flat_map(|(x, y)| <[f32; 2]>::from(known(x, y))));
        } else {
            truth.extend(pixels.clone().map(|(x, y)| known(x, y).0));
            truth.extend(pixels.map(|(x, y)| known(x, y).1));
        }
    }
    let extension = inputs.format.extension();
    let flows = inputs.layout.flow_shape(batch, plan.network());
    let frames = inputs.layout.input_shape(batch, plan.network());
    for (input, values) in inputs.layout.folders().iter().zip(&arrays) {
        array::write(&folder.join(input).join(format!("{name}.{extension}")), inputs.format, &frames, values)?;
    }
    array::write(&folder.join(TRUTH).join(format!("{name}.{extension}")), inputs.format, &flows, &truth)?;
    let pairs = samples.iter().map(|s| Pair { id: s.id.clone(), size });
    Ok(File { name: name.to_string(), size: plan.network(), pairs: pairs.collect() })
}

/// Zeros below and to the right.
pub(super) fn fit(size: Size, stride: usize) -> FitPlan {
    Fit::Pad(Place::TopLeft, Fill::Zero).plan(size, stride, 1)
}

/// Appends a padded pair to the arrays of its layout.
fn preprocess(layout: Layout, frames: [&Frame; 2], arrays: &mut [Vec<f32>]) {
    let plane =
        |frame: &Frame, channel: usize| frame.rgb().iter().skip(channel).step_by(3).copied().collect::<Vec<u8>>();
    match layout {
        Layout::Images => {
            for (frame, array) in frames.iter().zip(arrays) {
                (0..3).for_each(|c| array.extend(plane(frame, c).into_iter().map(f32::from)));
            }
        }
        Layout::Flownet2 => {
            let pixels = frames.iter().map(|f| f.rgb().len() / 3).sum::<usize>() as f64;
            for channel in 0..3 {
                let planes = frames.map(|f| plane(f, channel));
                let sum: u64 = planes.iter().flatten().map(|&v| u64::from(v)).sum();
                let mean = sum as f64 / pixels;
                for (plane, array) in planes.iter().zip(arrays.iter_mut()) {
                    array.extend(plane.iter().map(|&v| ((f64::from(v) - mean) / 255.0) as f32));
                }
            }
        }
        Layout::Pwcnet => {
            let values = frames.iter().flat_map(|f| f.rgb().iter().map(|&v| f32::from(v) / 255.0));
            arrays[0].extend(values);
        }
    }
}

/// A flow out of the padded array of its pair.
pub(super) fn flow_of(layout: Layout, values: &[f32], pair: usize, padded: Size, size: Size) -> FlowField {
    let Size { height: h, width: w } = padded;
    let values = &values[2 * pair * h * w..2 * (pair + 1) * h * w];
    FlowField::sparse_from_fn(size, |x, y| {
        let at = y * w + x;
        let (u, v) = if layout.is_interleaved() {
            (values[2 * at], values[2 * at + 1])
        } else {
            (values[at], values[h * w + at])
        };
        (!u.is_nan() && !v.is_nan()).then_some((u, v))
    })
}
