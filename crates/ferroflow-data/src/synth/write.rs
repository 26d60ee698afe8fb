//! Writes synthetic pairs as files, in the layout of FlyingChairs with occlusion masks beside it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferroflow_core::io::{outputs::only_holds, write_bytes, write_flow, write_frame, write_mask};
use rayon::prelude::*;

use super::Synth;
use crate::DataError;

/// Says how the pairs of a folder were made.
const NOTE: &str = "synth.json";

/// What the files of a pair end in.
const PARTS: [&str; 4] = ["_img1.ppm", "_img2.ppm", "_flow.flo", "_occ.png"];

/// Writes pairs `0..count` to `dir` as `NNNNN_img1.ppm`, `NNNNN_img2.ppm`, `NNNNN_flow.flo`, `NNNNN_occ.png`, numbered
/// from 1, and `synth.json`, which says how they were made. Pairs that are already complete are left alone, so an
/// interrupted run continues where it stopped; a folder that was made with other settings or holds something else is refused.
/// `progress` is called with the number of pairs done.
pub fn write(synth: &Synth, count: usize, dir: &Path, progress: impl Fn(usize) + Sync) -> Result<(), DataError> {
    let ours = |name: &str| name == NOTE || PARTS.iter().any(|part| name.ends_with(part));
    let recognised = dir.join(NOTE).exists();
    only_holds(dir, |name| recognised && ours(name))?;
    std::fs::create_dir_all(dir).map_err(|e| DataError::io(dir, e))?;
    let recipe = serde_json::json!({
        "preset": synth.preset.name, "seed": synth.seed, "width": synth.size.width, "height": synth.size.height,
        "generator": env!("CARGO_PKG_VERSION"),
    });
    let recipe = format!("{recipe}\n");
    let note = dir.join(NOTE);
    match std::fs::read_to_string(&note) {
        Ok(found) if found != recipe => {
            return Err(DataError::OtherSettings {
                path: note,
                found: found.trim().into(),
                wanted: recipe.trim().into(),
            });
        }
        Ok(_) => {}
        Err(_) => write_bytes(&note, recipe.as_bytes())?,
    }
    let done = AtomicUsize::new(0);
    (0..count).into_par_iter().try_for_each(|index| {
        let [first, second, truth, occlusion] = PARTS.map(|part| dir.join(format!("{:05}{part}", index + 1)));
        // The flow is written last and each file appears whole, so its presence means a complete pair.
        if !truth.exists() {
            let sample = synth.sample(index as u64);
            write_frame(first, &sample.first)?;
            write_frame(second, &sample.second)?;
            if let Some(mask) = &sample.occlusion {
                write_mask(occlusion, mask)?;
            }
            if let Some(flow) = &sample.flow {
                write_flow(truth, flow)?;
            }
        }
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use ferroflow_core::Size;

    use super::super::Preset;
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_is_not_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let synth = Synth::new(Preset::sdhom(), 4, Size::new(24, 40));
        write(&synth, 3, dir.path(), |_| {}).unwrap();
        let sample = synth.sample(2);
        let at = |name: &str| dir.path().join(name);
        assert_eq!(ferroflow_core::io::read_frame(at("00003_img2.ppm")).unwrap(), sample.second);
        let flow = ferroflow_core::io::read_flow(at("00003_flow.flo")).unwrap();
        assert_eq!((flow.u(), flow.v()), (sample.flow.as_ref().unwrap().u(), sample.flow.as_ref().unwrap().v()));
        std::fs::remove_file(at("00001_img1.ppm")).unwrap();
        write(&synth, 4, dir.path(), |_| {}).unwrap();
        assert!(at("00004_flow.flo").exists() && !at("00001_img1.ppm").exists());
        let other = Synth::new(Preset::sdhom(), 5, Size::new(24, 40));
        assert!(matches!(write(&other, 1, dir.path(), |_| {}), Err(DataError::OtherSettings { .. })));
    }
    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00001_flow.flo"), "mine").unwrap();
        let synth = Synth::new(Preset::sdhom(), 4, Size::new(24, 40));
        let error = write(&synth, 1, dir.path(), |_| {}).unwrap_err().to_string();
        assert!(error.contains("00001_flow.flo"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
