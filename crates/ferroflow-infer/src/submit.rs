//! Writes estimates in the form that the servers of benchmarks take.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use ferroflow_core::FlowField;
use ferroflow_core::io::{FormatError, IoError, OutputError, Outputs, flo, kitti, outputs::safe_name, write_bytes};
use ferroflow_data::{DataError, Source};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{Estimator, estimator::EstimateError};

/// A benchmark whose server scores submissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Benchmark {
    /// MPI Sintel: a folder `clean|final/SCENE/frame_NNNN.flo`, which the benchmark's own `bundler` packs; 1104 flows.
    Sintel,
    /// KITTI 2012: a zip of `NNNNNN_10.png`; 195 flows.
    Kitti2012,
    /// KITTI 2015: a zip of `flow/NNNNNN_10.png`; 200 flows.
    Kitti2015,
}

/// A submission that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Number of flows in it.
    pub flows: usize,
    /// Number of flows that the server expects.
    pub expected: usize,
    /// Number of vectors that were cut to what the format holds (512 px).
    pub clipped: usize,
}

/// Why a submission cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The method failed on a pair.
    #[error("{pair}: {source}")]
    Estimate {
        /// The pair.
        pair: String,
        /// The cause.
        source: EstimateError,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Files cannot be written as asked.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Vectors that the format cannot hold.
    #[error(
        "{count} vectors reach beyond what the benchmark's format holds (512 px), the first in {pair}: look at these flows, or cut \
         them to it (--clip)"
    )]
    Range {
        /// Number of such vectors in all flows.
        count: usize,
        /// The first pair with one.
        pair: String,
    },
    /// A flow cannot be encoded.
    #[error("{pair}: {source}")]
    Format {
        /// The pair.
        pair: String,
        /// The cause.
        source: FormatError,
    },
    /// The zip file cannot be made.
    #[error("{}: {reason}", .path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A pair does not belong to the benchmark.
    #[error("{pair} is no pair of {benchmark:?}: give its test split, as in {example}")]
    OtherData {
        /// The pair.
        pair: String,
        /// The benchmark to submit to.
        benchmark: Benchmark,
        /// How the benchmark's data are spelled.
        example: &'static str,
    },
}

impl Benchmark {
    /// The benchmark of this name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "sintel" => Some(Self::Sintel),
            "kitti12" => Some(Self::Kitti2012),
            "kitti15" => Some(Self::Kitti2015),
            _ => None,
        }
    }

    /// Number of flows in a complete submission.
    pub fn expected(self) -> usize {
        match self {
            Self::Sintel => 2 * 552,
            Self::Kitti2012 => 195,
            Self::Kitti2015 => 200,
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Sintel => "sintel-clean:PATH@test sintel-final:PATH@test",
            Self::Kitti2012 => "kitti12:PATH@test",
            Self::Kitti2015 => "kitti15:PATH@test",
        }
    }

    /// Where the flow of a pair belongs; `None` if it is of other data.
    fn path(self, id: &str) -> Option<String> {
        let parts: Vec<&str> = id.split('/').collect();
        match (self, &parts[..]) {
            // What would not be a plain name is no scene: names come with the data and decide where files go.
            (Self::Sintel, [scene, pass @ ("clean" | "final"), number])
                if [scene, number].iter().all(|part| safe_name(part) == **part) =>
            {
                Some(format!("{pass}/{scene}/frame_{number}.flo"))
            }
            (Self::Kitti2012 | Self::Kitti2015, [.., name]) => {
                let number = name.strip_suffix("_10").unwrap_or(name);
                let folder = if self == Self::Kitti2015 { "flow/" } else { "" };
                let is_number = number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit());
                is_number.then(|| format!("{folder}{number}_10.png"))
            }
            _ => None,
        }
    }

    fn encode(self, flow: &FlowField) -> Result<Vec<u8>, FormatError> {
        match self {
            Self::Sintel => Ok(flo::encode(flow)),
            // One wild vector must not undo the work on all pairs; they are counted.
            Self::Kitti2012 | Self::Kitti2015 => kitti::encode(&kitti::clip(flow).0),
        }
    }
}

/// Estimates every pair of the sources and writes the submission: into the folder `to` for Sintel, or as the zip file `to` for
/// KITTI, which appears only when it is whole. KITTI's format holds 512 px; with `clip`, longer vectors are cut to that. `watch`
/// is called after every pair.
///
/// # Errors
/// At the first pair that cannot be read or estimated or does not belong to the benchmark, and at the end if vectors are too
/// long.
pub fn submit(
    benchmark: Benchmark,
    sources: &[Box<dyn Source>],
    estimator: &Estimator,
    to: &Path,
    outputs: &mut Outputs,
    clip: bool,
    mut watch: impl FnMut(),
) -> Result<Submission, SubmitError> {
    sources.iter().for_each(|source| outputs.reads_all(source.files()));
    if benchmark != Benchmark::Sintel {
        outputs.plan(to, "the submission")?;
        outputs.prepare()?;
    }
    let zip_error = |e: &dyn std::fmt::Display| SubmitError::Zip { path: to.into(), reason: e.to_string() };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let (mut flows, mut clipped) = (0, 0);
    let mut first_clipped = None;
    for source in sources {
        for index in 0..source.len().unwrap_or(0) {
            let sample = source.get(index)?;
            let pair = || sample.id.clone();
            let Some(path) = benchmark.path(&sample.id) else {
                return Err(SubmitError::OtherData { pair: pair(), benchmark, example: benchmark.example() });
            };
            let flow = estimator
                .estimate(&sample.first, &sample.second)
                .map_err(|source| SubmitError::Estimate { pair: pair(), source })?;
            let bytes = benchmark.encode(&flow).map_err(|source| SubmitError::Format { pair: pair(), source })?;
            if benchmark == Benchmark::Sintel {
                let path = to.join(path);
                outputs.plan(&path, &sample.id)?;
                outputs.prepare()?;
                write_bytes(path, &bytes)?;
            } else {
                let count = kitti::out_of_range(&flow);
                if count > 0 {
                    clipped += count;
                    first_clipped.get_or_insert_with(pair);
                }
                zip.start_file(path, SimpleFileOptions::default()).map_err(|e| zip_error(&e))?;
                zip.write_all(&bytes).map_err(|e| zip_error(&e))?;
            }
            flows += 1;
            watch();
        }
    }
    if let (Some(pair), false) = (first_clipped, clip) {
        return Err(SubmitError::Range { count: clipped, pair });
    }
    if benchmark != Benchmark::Sintel {
        write_bytes(to, zip.finish().map_err(|e| zip_error(&e))?.get_ref())?;
    }
    Ok(Submission { flows, expected: benchmark.expected(), clipped })
}

#[cfg(test)]
mod tests {
    use ferroflow_core::io::read_flow;
    use ferroflow_core::{Frame, Size};
    use ferroflow_data::Sample;

    use super::*;

    struct Pairs(&'static [&'static str]);

    impl Source for Pairs {
        fn name(&self) -> String {
            "pairs".into()
        }

        fn len(&self) -> Option<usize> {
            Some(self.0.len())
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let frame = Frame::from_fn(Size::new(6, 8), |_, _| [1, 2, 3]);
            Ok(Sample {
                first: frame.clone(),
                second: frame,
                flow: None,
                occlusion: None,
                original: None,
                surround: None,
                id: self.0[index].into(),
            })
        }
    }

    fn run(benchmark: Benchmark, ids: &'static [&'static str], to: &Path) -> Result<Submission, SubmitError> {
        submit(benchmark, &[Box::new(Pairs(ids))], &Estimator::zero(), to, &mut Outputs::default(), false, || ())
    }

    #[test]
    fn kitti_gets_a_zip() {
        let folder = tempfile::tempdir().unwrap();
        for (benchmark, name) in [(Benchmark::Kitti2015, "flow/000000_10.png"), (Benchmark::Kitti2012, "000000_10.png")]
        {
            let to = folder.path().join("results.zip");
            let done = run(benchmark, &["000000_10", "000001_10"], &to).unwrap();
            assert_eq!((done.flows, done.clipped), (2, 0));
            let mut zip = zip::ZipArchive::new(std::fs::File::open(&to).unwrap()).unwrap();
            assert_eq!(zip.len(), 2);
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut zip.by_name(name).unwrap(), &mut bytes).unwrap();
            assert_eq!(kitti::decode(&bytes).unwrap().width(), 8);
        }
    }

    #[test]
    fn sintel_gets_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        run(Benchmark::Sintel, &["ambush_1/clean/0001", "ambush_1/final/0002"], folder.path()).unwrap();
        for path in ["clean/ambush_1/frame_0001.flo", "final/ambush_1/frame_0002.flo"] {
            assert_eq!(read_flow(folder.path().join(path)).unwrap().height(), 6);
        }
    }

    #[test]
    fn other_data_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("results.zip");
        let message = run(Benchmark::Kitti2015, &["ambush_1/clean/0001"], &to).unwrap_err().to_string();
        assert!(message.contains("kitti15:PATH@test"), "{message}");
        let scene = run(Benchmark::Sintel, &["../clean/0001"], &to).unwrap_err().to_string();
        assert!(scene.contains("sintel-clean:PATH@test"), "{scene}");
        let twice = run(Benchmark::Sintel, &["a/clean/1", "a/clean/1"], &folder.path().join("s")).unwrap_err();
        assert!(matches!(twice, SubmitError::Output(OutputError::Twice { .. })), "{twice}");
        assert!(!to.exists());
    }
}
