use std::{path::Path, sync::Arc};

use ferroflow_core::geometry::{Fill, Fit, Place};
use ferroflow_core::{FlowField, Frame};
use ferroflow_cpu::Cpu;
use ferroflow_data::{DataError, Sample, Source};
use ferroflow_net::{
    Model, Weights,
    weights::{Provenance, store::Stored},
};

use super::*;
use crate::evaluate::{Protocol, evaluate};
use crate::{Estimator, NetworkOptions};

/// Three pairs of 50x70 pixels; the flow of the last is unknown in its left half.
struct Three;

const SIZE: Size = Size::new(50, 70);

impl Source for Three {
    fn name(&self) -> String {
        "three".into()
    }

    fn len(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let frame = |salt: usize| {
            Frame::from_fn(SIZE, |x, y| [0, 1, 2].map(|c| ((x * 7 + y * 13 + c * 50 + salt * 31) % 256) as u8))
        };
        let flow = FlowField::sparse_from_fn(SIZE, |x, y| {
            let known = index < 2 || x >= SIZE.width / 2;
            known.then_some((x as f32 * 0.1, y as f32 * -0.2 + index as f32))
        });
        let id = format!("alley_1/frame_{:04}", index + 1);
        Ok(Sample {
            first: frame(index),
            second: frame(index + 5),
            flow: Some(flow),
            occlusion: None,
            original: None,
            surround: None,
            id,
        })
    }
}

fn inputs(layout: Layout, format: Format, batch: usize) -> Inputs {
    Inputs { layout, format, batch, stride: 64, limit: None }
}

fn write_inputs(
    folder: &Path,
    source: &dyn Source,
    inputs: Inputs,
    watch: impl FnMut(Progress),
) -> Result<Progress, OfflineError> {
    super::write_inputs(folder, source, inputs, &mut Default::default(), watch)
}

/// Scores what lies in a folder with `pairs.json`.
fn score(folder: &Path, outputs: &Path) -> Result<Score, OfflineError> {
    super::score(&Prepared::open(folder, &Hints::default())?, outputs)
}

#[test]
fn perfect_answers_score_zero_and_shifted_ones_their_shift() {
    for (layout, batch) in [(Layout::Images, 2), (Layout::Flownet2, 1), (Layout::Pwcnet, 1)] {
        for format in [Format::Bin, Format::Npy] {
            let folder = tempfile::tempdir().unwrap();
            let progress = write_inputs(folder.path(), &Three, inputs(layout, format, batch), |_| {}).unwrap();
            assert_eq!(progress, Progress { files: 3usize.div_ceil(batch), pairs: 3 });

            let truth = folder.path().join(TRUTH);
            // A runtime that knows the answer, but one pixel to the right; unknown pixels are guessed.
            let answers = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(&truth).unwrap() {
                let path = entry.unwrap().path();
                let values = array::read(&path, &layout.flow_shape(batch, Size::new(64, 128))).unwrap();
                let answer: Vec<f32> = values.iter().map(|v| if v.is_nan() { 7.0 } else { v + 1.0 }).collect();
                let name = format!("{}_0.bin", path.file_stem().unwrap().to_str().unwrap());
                array::write(&answers.path().join(name), Format::Bin, &[answer.len()], &answer).unwrap();
            }
            let scored = score(folder.path(), answers.path()).unwrap();
            assert!((scored.summary.over_images.epe.unwrap() - 2f64.sqrt()).abs() < 1e-6, "{layout:?} {format:?}");
            assert_eq!(scored.summary.scored_pixels, (2 * 70 * 50 + 35 * 50) as u64);
            assert_eq!(scored.pairs[2].0, "alley_1/frame_0003");
            if format == Format::Bin && batch == 1 {
                assert!(score(folder.path(), &truth).unwrap().summary.over_images.epe.unwrap() == 0.0);
            }
        }
    }
}

#[test]
fn arrays_are_what_the_references_write() {
    let folder = tempfile::tempdir().unwrap();
    write_inputs(folder.path(), &Three, inputs(Layout::Flownet2, Format::Bin, 1), |_| {}).unwrap();
    let x2 = array::read(&folder.path().join("image2/1.bin"), &[3, 64, 128]).unwrap();
    let sample = Three.get(1).unwrap();
    // The mean is that of both frames with their padding.
    let sum: u64 = [&sample.first, &sample.second]
        .iter()
        .flat_map(|f| f.rgb().iter().skip(2).step_by(3))
        .map(|&v| u64::from(v))
        .sum();
    let mean = sum as f64 / (2.0 * 64.0 * 128.0);
    let expected = (f64::from(sample.second.pixel(9, 4)[2]) - mean) / 255.0;
    assert!((f64::from(x2[(2 * 64 + 4) * 128 + 9]) - expected).abs() < 1e-6);
    assert!((f64::from(x2[(2 * 64 + 63) * 128]) + mean / 255.0).abs() < 1e-6, "padding is black before the mean");

    // Another layout has other folders: what a manifest does not name must not lie beside what it does.
    let pwcnet = inputs(Layout::Pwcnet, Format::Bin, 1);
    let error = write_inputs(folder.path(), &Three, pwcnet, |_| {}).unwrap_err().to_string();
    assert!(error.contains("(image1, image2)"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    write_inputs(folder.path(), &Three, pwcnet, |_| {}).unwrap();
    let image = array::read(&folder.path().join("image/alley_1-frames_0002_0003.bin"), &[2, 64, 128, 3]).unwrap();
    assert_eq!(image[((64 + 4) * 128 + 9) * 3 + 1], f32::from(sample.second.pixel(9, 4)[1]) / 255.0);
}

fn network(name: &str) -> Stored {
    let model = Model::named(name).unwrap();
    Stored { weights: Weights::random(&model.graph, 5), model, provenance: Provenance::default() }
}

fn run_on(folder: &Path, stored: &Stored, results: &Path) -> Result<Ran, OfflineError> {
    let prepared = Prepared::open(folder, &Hints::default())?;
    let mut network = NetworkOnDevice::new(stored.clone(), Arc::new(Cpu::default()));
    let how = Results { naming: Naming::of(prepared.layout()), format: Format::Bin, loops: 2 };
    run(&prepared, &mut network, results, how, &mut Default::default(), |_| {})
}

#[test]
fn a_run_scores_as_an_evaluation_with_the_same_padding() {
    for (layout, batch, name, first) in [
        (Layout::Images, 2, "lightflow-0.5", "0_0.bin"),
        (Layout::Pwcnet, 1, "lightflow-0.5", "alley_1-frames_0001_0002_output_0.bin"),
        (Layout::Flownet2, 1, "flownet2-s", "0_0.bin"),
    ] {
        let stored = network(name);
        let (folder, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_inputs(folder.path(), &Three, inputs(layout, Format::Npy, batch), |_| {}).unwrap();
        let ran = run_on(folder.path(), &stored, results.path()).unwrap();
        assert_eq!((ran.pairs, ran.timing.runs, ran.timing.batch), (3, 2 * ran.files, batch));
        assert!(results.path().join(first).is_file(), "{first}");

        let fit = Some(Fit::Pad(Place::TopLeft, Fill::Zero));
        let Stored { model, weights, .. } = stored;
        let estimator = Estimator::network(model, weights, NetworkOptions { fit, ..NetworkOptions::default() });
        let expected = evaluate(&Three, &estimator, Protocol::default(), |_, _, _| {}).unwrap();
        let scored = score(folder.path(), results.path()).unwrap();
        let (a, b) = (scored.summary.over_images.epe.unwrap(), expected.summary.over_images.epe.unwrap());
        // Frames in f32 are rounded once more than frames in bytes.
        assert!((a - b).abs() < 1e-4, "{name} on {layout:?}: {a} {b}");
    }
}

#[test]
fn a_run_refuses_values_and_sizes_that_the_network_does_not_take() {
    let (folder, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_inputs(folder.path(), &Three, inputs(Layout::Flownet2, Format::Bin, 1), |_| {}).unwrap();
    let error = run_on(folder.path(), &network("lightflow-0.5"), results.path()).unwrap_err().to_string();
    assert!(error.contains("--layout images"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let narrow = Inputs { stride: 10, ..inputs(Layout::Images, Format::Bin, 1) };
    write_inputs(folder.path(), &Three, narrow, |_| {}).unwrap();
    let error = run_on(folder.path(), &network("lightflow-0.5"), results.path()).unwrap_err().to_string();
    assert!(error.contains("--stride 64") && error.contains("50x70"), "{error}");
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 0);
    let error = run_on(folder.path(), &network("lightflow-0.5"), &folder.path().join("frame1")).unwrap_err();
    assert!(!matches!(error, OfflineError::Output(_)), "outputs have names of their own: {error}");
}

/// What the references' own scripts write has no list.
#[test]
fn folders_without_a_list_are_scored_by_names_and_by_order() {
    for layout in Layout::ALL {
        let (folder, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_inputs(folder.path(), &Three, inputs(layout, Format::Bin, 1), |_| {}).unwrap();
        let truth = folder.path().join(TRUTH);
        let shape = layout.flow_shape(1, Size::new(64, 128));
        let mut files = prepared::arrays(&truth).unwrap();
        for (i, (name, _)) in files.iter().enumerate() {
            let mut flow = array::read(&truth.join(format!("{name}.bin")), &shape).unwrap();
            flow.iter_mut().for_each(|v| *v += i as f32);
            array::write(&results.path().join(format!("{name}_0.bin")), Format::Bin, &[], &flow).unwrap();
        }
        let named = score(folder.path(), results.path()).unwrap();
        std::fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        let error = score(folder.path(), results.path()).unwrap_err().to_string();
        assert!(error.contains("--size"), "{error}");
        let hints = Hints { size: Some(SIZE), ..Hints::default() };
        let told = |folder: &Path| super::score(&Prepared::open(folder, &hints)?, results.path());
        let same = |score: Score| {
            assert_eq!(score.summary, named.summary);
            assert!(score.pairs.iter().zip(&named.pairs).all(|(a, b)| a.1 == b.1), "{:?}", score.pairs);
        };
        same(told(folder.path()).unwrap());
        same(told(&truth).unwrap());
        // In the order of their names, whatever these are; 10 comes after 9.
        files.sort();
        for (i, (name, _)) in files.iter().enumerate() {
            let to = results.path().join(format!("out{}.bin", i + 8));
            std::fs::rename(results.path().join(format!("{name}_0.bin")), to).unwrap();
        }
        same(told(folder.path()).unwrap());
        std::fs::remove_file(results.path().join("out9.bin")).unwrap();
        let error = told(folder.path()).unwrap_err().to_string();
        assert!(error.contains("2 outputs for 3 inputs"), "{error}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(score(folder.path(), empty.path()), Err(OfflineError::Untold { .. })));
    let two = Inputs { batch: 2, ..inputs(Layout::Pwcnet, Format::Bin, 1) };
    assert!(matches!(write_inputs(folder.path(), &Three, two, |_| {}), Err(OfflineError::Batch { batch: 2 })));
    write_inputs(folder.path(), &Three, inputs(Layout::Images, Format::Bin, 1), |_| {}).unwrap();
    let missing = score(folder.path(), empty.path()).unwrap_err().to_string();
    assert!(missing.contains("`0`"), "{missing}");
    for name in ["0.bin", "1.bin", "2.bin"] {
        array::write(&empty.path().join(name), Format::Bin, &[], &[0.0; 10]).unwrap();
    }
    let short = score(folder.path(), empty.path()).unwrap_err().to_string();
    assert!(short.contains("holds 40 bytes"), "{short}");
    std::fs::write(folder.path().join(MANIFEST), b"{").unwrap();
    assert!(matches!(score(folder.path(), empty.path()), Err(OfflineError::Manifest { .. })));
}

#[test]
fn files_are_called_as_the_references_call_them() {
    for (id, name) in [
        ("alley_1/clean/0001", "alley_1-frames_0001_0002"),
        ("alley_1/frame_0049", "alley_1-frames_0049_0050"),
        ("00001", "00001"),
        ("a/b/c", "a-b-c"),
        ("../clean/0001", "_-frames_0001_0002"),
        ("x/clean/4294967295", "x-clean-4294967295"),
    ] {
        assert_eq!(inputs::file_name(Layout::Pwcnet, 3, id), name);
        assert_eq!(inputs::file_name(Layout::Flownet2, 3, id), "3");
    }
}

/// Pairs whose names are the same once they are names of files, and one that points elsewhere.
struct Named;

impl Source for Named {
    fn name(&self) -> String {
        "named".into()
    }

    fn len(&self) -> Option<usize> {
        Some(3)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        Ok(Sample { id: ["a/b", "a-b", "../x"][index].into(), ..Three.get(index)? })
    }
}

#[test]
fn pairs_keep_their_own_files() {
    let folder = tempfile::tempdir().unwrap();
    write_inputs(folder.path(), &Named, inputs(Layout::Pwcnet, Format::Npy, 1), |_| {}).unwrap();
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.path().join(MANIFEST)).unwrap()).unwrap();
    let names: Vec<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["a-b", "a-b~2", "_-x"]);
    for name in names {
        assert!(folder.path().join(format!("image/{name}.npy")).is_file(), "{name}");
    }
}

#[test]
fn sizes_that_wrap_and_arrays_of_another_shape_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |batch: &str, size: &str| {
        let text = format!(
            "{{\"layout\":\"images\",\"format\":\"bin\",\"batch\":{batch},\
             \"files\":[{{\"name\":\"0\",\"size\":{size},\"pairs\":[{{\"id\":\"x\",\"size\":[4,4]}}]}}]}}"
        );
        std::fs::write(folder.path().join(MANIFEST), text).unwrap();
    };
    std::fs::create_dir(folder.path().join(TRUTH)).unwrap();
    std::fs::write(folder.path().join(TRUTH).join("0.bin"), []).unwrap();
    for (batch, size) in [
        ("1", "[2147483648,2147483648]"),
        ("1", "[4294967296,2147483648]"),
        ("18446744073709551615", "[4,4]"),
        ("9000000000000000000", "[4,4]"),
        ("1", "[0,0]"),
        ("90000", "[90000,90000]"),
    ] {
        manifest(batch, size);
        assert!(score(folder.path(), &folder.path().join(TRUTH)).is_err(), "{batch} {size}");
    }
    let path = folder.path().join("a.npy");
    array::write(&path, Format::Npy, &[1, 2, 4, 6], &[0.5; 48]).unwrap();
    assert_eq!(array::read(&path, &[1, 2, 4, 6]).unwrap(), array::read(&path, &[2, 4, 6]).unwrap());
    let error = array::read(&path, &[1, 2, 6, 4]).unwrap_err().to_string();
    assert!(error.contains("[1, 2, 4, 6]") && error.contains("[1, 2, 6, 4]"), "{error}");
}
