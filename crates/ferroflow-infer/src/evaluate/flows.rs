//! Flows that another program has written, as a method to be scored.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ferroflow_core::{
    FlowField,
    io::{
        outputs::{safe_name, safe_path, with_suffix},
        read_flow,
    },
};
use ferroflow_data::{Sample, Source};

use super::{EvaluateError, Method};

/// Endings that are looked for, in this order.
const ENDINGS: [&str; 7] = [".flo", ".png", ".pfm", ".npy", ".npz", ".exr", ".flo5"];

/// A folder of flows. The flow of a pair is the first of these files that exists, with any ending of a flow file:
///
/// 1. `DATA/ID` and `ID`, as `eval --save` writes them;
/// 2. the path of frame 1, or of the true flow, from as far up as the folder has it, down to the bare name: `clean/alley_1/frame_0001`,
///    `alley_1/frame_0001`, `frame_0001`.
///
/// A file that would answer two pairs is an error: names must tell pairs apart.
#[derive(Debug)]
pub struct FlowFolder {
    folder: PathBuf,
    /// The pair that each file was taken for.
    taken: Mutex<HashMap<PathBuf, String>>,
}

impl FlowFolder {
    /// The flows of this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), taken: Mutex::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a pair.
    fn file(&self, source: &dyn Source, index: usize, id: &str) -> Result<PathBuf, EvaluateError> {
        let names = names(source, index, id);
        let exists = |name: &PathBuf| {
            let file = |ending| with_suffix(&self.folder, name, ending);
            ENDINGS.iter().map(|ending| file(ending)).find(|path| path.is_file())
        };
        let Some(path) = names.iter().find_map(exists) else {
            let names = names.iter().map(|name| name.display().to_string()).collect();
            return Err(EvaluateError::NoFlow { pair: id.into(), folder: self.folder.clone(), names });
        };
        let pair = format!("{id} of {}", source.name());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = taken.entry(path.clone()).or_insert_with(|| pair.clone());
        if *first == pair {
            return Ok(path);
        }
        Err(EvaluateError::OneFlowForTwo { path, first: first.clone(), second: pair })
    }
}

impl Method for FlowFolder {
    fn flow(&self, source: &dyn Source, index: usize, sample: &Sample) -> Result<FlowField, EvaluateError> {
        Ok(read_flow(self.file(source, index, &sample.id)?)?)
    }
}

/// What the flow of a pair may be called, without its ending, the surest name first.
fn names(source: &dyn Source, index: usize, id: &str) -> Vec<PathBuf> {
    let mut names = vec![Path::new(&safe_name(&source.name())).join(safe_path(id)), safe_path(id)];
    for path in source.known_by(index) {
        let path = path.with_extension("");
        let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        names.extend((0..parts.len()).map(|from| parts[from..].iter().collect::<PathBuf>()));
    }
    // Longer ones first, however they were come by; a name that comes twice is looked for once.
    names[2..].sort_by_key(|name| std::cmp::Reverse(name.components().count()));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use ferroflow_core::{Frame, Mask, Size, io::write_flow};
    use ferroflow_data::DataError;

    use super::*;
    use crate::evaluate::{Protocol, evaluate_all};

    const SIZE: Size = Size::new(4, 6);

    /// Two scenes of one frame each, which have the same name.
    struct Scenes;

    impl Source for Scenes {
        fn name(&self) -> String {
            "sintel-clean:/data".into()
        }

        fn len(&self) -> Option<usize> {
            Some(2)
        }

        fn known_by(&self, index: usize) -> Vec<PathBuf> {
            vec![format!("/data/training/clean/scene_{index}/frame_0001.png").into()]
        }

        fn foreground(&self, _: usize) -> Result<Option<Mask>, DataError> {
            Ok(None)
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let (first, second) = (Frame::black(SIZE), Frame::black(SIZE));
            let flow = Some(FlowField::zeros(SIZE));
            let id = format!("scene_{index}/clean/0001");
            Ok(Sample { first, second, flow, occlusion: None, original: None, surround: None, id })
        }
    }

    fn errors(folder: &Path) -> Result<Vec<f64>, EvaluateError> {
        let flows = FlowFolder::new(folder);
        let results = evaluate_all(&Scenes, &[&flows], Protocol::default(), |_, _, _| {})?;
        Ok(results[0].pairs.iter().filter_map(|pair| pair.metrics.epe).collect())
    }

    #[test]
    fn a_flow_is_found_under_every_name() {
        for (names, ending) in [
            (["scene_0/clean/0001", "scene_1/clean/0001"], "flo"),
            (["sintel-clean__data/scene_0/clean/0001", "sintel-clean__data/scene_1/clean/0001"], "pfm"),
            (["scene_0/frame_0001", "scene_1/frame_0001"], "png"),
            (["clean/scene_0/frame_0001", "clean/scene_1/frame_0001"], "npy"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (index, name) in names.into_iter().enumerate() {
                let path = dir.path().join(format!("{name}.{ending}"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                write_flow(path, &FlowField::from_fn(SIZE, |_, _| (index as f32 + 1.0, 0.0))).unwrap();
            }
            assert_eq!(errors(dir.path()).unwrap(), [1.0, 2.0], "{names:?}");
        }
    }

    #[test]
    fn what_is_missing_or_serves_two_pairs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = errors(dir.path()).unwrap_err().to_string();
        assert!(error.contains("scene_0/clean/0001") && error.contains("frame_0001"), "{error}");
        write_flow(dir.path().join("frame_0001.flo"), &FlowField::zeros(SIZE)).unwrap();
        let error = errors(dir.path()).unwrap_err();
        assert!(matches!(&error, EvaluateError::OneFlowForTwo { .. }), "{error}");
        assert!(error.to_string().contains("scene_1"), "{error}");
    }
}
