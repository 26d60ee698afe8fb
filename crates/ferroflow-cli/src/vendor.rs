//! Files that only a vendor's own tools can write and read: what to do instead.

use std::path::Path;

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To write such a file.
    ToWrite,
    /// To run it.
    ToRun,
}

/// Why a file of this name is neither written nor run here, and the commands that lead there; `None` for other files.
pub fn refused(path: &Path, wanted: Wanted) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let stem = path.with_extension("").display().to_string();
    let (what, convert) = match extension.as_str() {
        "om" => (
            "Ascend's compiled .om",
            format!(
                "atc --framework=5 --model={stem}.onnx --output={stem} --input_format=NCHW --soc_version=Ascend310P3"
            ),
        ),
        "air" => (
            "Ascend's .air",
            format!(
                "atc --framework=5 --model={stem}.onnx --output={stem} --input_format=NCHW --soc_version=Ascend310P3, which makes \
                 the .om that an .air would be compiled to"
            ),
        ),
        "mindir" => (
            "MindSpore's .mindir",
            format!("converter_lite --fmk=ONNX --modelFile={stem}.onnx --outputFile={stem} --saveType=MINDIR"),
        ),
        _ => return None,
    };
    let export = format!(
        "ferroflow export onnx -w WEIGHTS -o {stem}.onnx --size HxW --opset 11 --warp gather --correlation slices --int32"
    );
    Some(match wanted {
        Wanted::ToWrite => format!("{what} is written by its vendor's converter alone: 1) {export}  2) {convert}"),
        Wanted::ToRun => format!(
            "{what} is run by its vendor's runtime alone: run the weights or the .onnx file that it was made of, or score what \
             msame or ais_bench made with it: ferroflow score PREPARED --outputs DIR"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_files_are_refused_with_the_way_to_them() {
        for (name, converter) in [("out/x.om", "atc "), ("x.AIR", "atc "), ("x.mindir", "converter_lite ")] {
            let text = refused(Path::new(name), Wanted::ToWrite).unwrap();
            assert!(text.contains(converter) && text.contains("ferroflow export onnx"), "{text}");
            assert!(refused(Path::new(name), Wanted::ToRun).unwrap().contains("ferroflow score"));
        }
        assert!(refused(Path::new("out/x.om"), Wanted::ToWrite).unwrap().contains("--model=out/x.onnx"));
        assert_eq!(refused(Path::new("x.onnx"), Wanted::ToWrite), None);
    }
}
