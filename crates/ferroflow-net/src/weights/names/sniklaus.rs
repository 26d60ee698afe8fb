//! sniklaus/pytorch-pwc's names of NVlabs' PWC-Net (run.py; files say `module...`, newer ones `net...`).

const LEVELS: [&str; 7] = ["", "One", "Two", "Thr", "Fou", "Fiv", "Six"];

/// Whether a name is one of these.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with("moduleExtractor.") || name.starts_with("netExtractor.")
}

/// NVlabs' name of the same parameter.
pub(super) fn to_nvlabs(name: &str) -> Option<String> {
    let parts: Vec<&str> =
        name.split('.').map(|p| p.strip_prefix("module").or(p.strip_prefix("net")).unwrap_or(p)).collect();
    let level = |word: &str| LEVELS.iter().position(|l| *l == word).filter(|&l| l > 0);
    match parts[..] {
        ["Extractor", word, index, end] => {
            let level = level(word)?;
            // NVlabs swapped two names at level 6.
            let order = if level == 6 { ["aa", "a", "b"] } else { ["a", "aa", "b"] };
            let which = order.get(index.parse::<usize>().ok()? / 2)?;
            Some(format!("conv{level}{which}.0.{end}"))
        }
        ["Refiner", "Main", index, end] => match index.parse::<usize>().ok()? / 2 + 1 {
            7 => Some(format!("dc_conv7.{end}")),
            i => Some(format!("dc_conv{i}.0.{end}")),
        },
        [word, "Six", "0", end] => Some(format!("predict_flow{}.{end}", level(word)?)),
        [word, which, "0", end] => Some(format!("conv{}_{}.0.{end}", level(word)?, level(which)? - 1)),
        // The upsamplers live in the next finer decoder.
        [word, "Upflow", end] => Some(format!("deconv{}.{end}", level(word)? + 1)),
        [word, "Upfeat", end] => Some(format!("upfeat{}.{end}", level(word)? + 1)),
        _ => None,
    }
}
