//! Splits of any data set into pairs to train on and pairs that are held out, by words after the `@`:
//!
//! ```text
//! split=FILE             a line for each pair, 1 to train on it, anything else to hold it out; or the names of those held out
//! split=ptlflow          the lists of names that ptlflow holds out of FlyingChairs, Sintel, KITTI and HD1K
//! split=0.97,seed=1      each pair is trained on with this probability (LightFlow)
//! holdout=0.03,seed=1    this share is held out (scikit-learn's `train_test_split`, tfoptflow)
//! train | val            the part that is read: those to train on, or those held out
//! ```
//!
//! tfoptflow's modes are words too: `train_noval` and `val_notrain` read all pairs, `train_with_val` those that its own split leaves.
//! Random splits are those of NumPy, in the order of the data set.

mod numpy;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use ferroflow_core::{Mask, io::read_text};
use sha2::{Digest, Sha256};

use crate::{
    DataError, Sample, Source,
    datasets::{Dataset, Listing, PairFiles},
};
use numpy::RandomState;

/// Words of every data set; those ending with `=` take a value.
pub(crate) const WORDS: [&str; 5] = ["split=", "holdout=", "train_noval", "val_notrain", "train_with_val"];
/// Words of a data set that is split.
pub(crate) const SPLIT_WORDS: [&str; 3] = ["seed=", "train", "val"];

/// tfoptflow's own split.
const TFOPTFLOW: (f64, u32) = (0.03, 1969);

/// ptlflow's names of what it holds out, as published with version 0.4.2.
const PTLFLOW: [(&str, &str); 5] = [
    ("chairs", include_str!("../../splits/chairs.txt")),
    ("sintel", include_str!("../../splits/sintel.txt")),
    ("kitti12", include_str!("../../splits/kitti12.txt")),
    ("kitti15", include_str!("../../splits/kitti15.txt")),
    ("hd1k", include_str!("../../splits/hd1k.txt")),
];

/// How a data set is split, and which part of it is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    rule: Rule,
    part: Part,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// Lines or names of a file.
    File(PathBuf),
    /// Names that come with the program.
    Known(&'static str),
    /// Each pair for itself, with this probability of being trained on.
    Each { share: f64, seed: u32 },
    /// This share of all pairs is held out.
    Holdout { share: f64, seed: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Val,
    All,
}

/// The words of a data set: how it is split, if it is, and what is left for itself.
///
/// # Errors
/// The text says what is wrong.
pub(crate) fn of(words: &[String], dataset: &Dataset) -> Result<(Option<Split>, Vec<String>), String> {
    let has = |word: &str| words.iter().any(|known| known == word);
    let value = |key: &str| words.iter().filter_map(|w| w.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v);
    let without = |leave: &[&str]| words.iter().filter(|w| !leave.contains(&head(w))).cloned().collect::<Vec<String>>();
    let seed = || match value("seed") {
        None => Ok(1),
        Some(text) => text.parse().map_err(|_| format!("seed={text}: a split's seed is a whole number below 2^32")),
    };
    let share = |key: &str, text: &str| {
        let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
        share.ok_or_else(|| format!("{key}={text}: give a share between 0 and 1, as {key}=0.03"))
    };
    let all = has("train_noval") || has("val_notrain");
    let rule = match (value("split"), value("holdout")) {
        (Some(_), Some(_)) => return Err("split= and holdout= are two splits: give one".into()),
        (None, Some(text)) => Rule::Holdout { share: share("holdout", text)?, seed: seed()? },
        (Some("ptlflow"), None) => {
            let name = dataset.name;
            let names = PTLFLOW.iter().find(|(set, _)| name.split('-').next() == Some(set));
            Rule::Known(names.ok_or_else(|| format!("ptlflow has no list for {name}"))?.1)
        }
        (Some(text), None) if text.parse::<f64>().is_ok() => Rule::Each { share: share("split", text)?, seed: seed()? },
        (Some(""), None) => return Err("split= names no file".into()),
        (Some(file), None) => Rule::File(file.into()),
        // The set's own list, where there is one.
        (None, None) if has("train_with_val") && dataset.words.contains(&"val") => {
            let mut words = without(&WORDS);
            words.push("train".into());
            return Ok((None, words));
        }
        (None, None) if has("train_with_val") => Rule::Holdout { share: TFOPTFLOW.0, seed: TFOPTFLOW.1 },
        (None, None) => return Ok((None, without(&WORDS))),
    };
    let part = match (has("train") || has("train_with_val"), has("val"), all) {
        (true, false, false) => Part::Train,
        (false, true, false) => Part::Val,
        (false, false, true) => Part::All,
        (false, false, false) => return Err("it is split: say which part to read, train or val".into()),
        _ => return Err("these words name several parts of it: give one of train and val".into()),
    };
    let mut leave = [&WORDS[..], &["train", "val"]].concat();
    if !dataset.words.contains(&"seed=") {
        leave.push("seed=");
    }
    Ok((Some(Split { rule, part }), without(&leave)))
}

/// Whether every data set takes this word, or takes it beside the others.
pub(crate) fn is_word(word: &str, words: &[String]) -> bool {
    let is_split = || words.iter().any(|w| ["split=", "holdout="].contains(&head(w)));
    WORDS.contains(&head(word)) || (SPLIT_WORDS.contains(&head(word)) && is_split())
}

/// A word without its value.
fn head(word: &str) -> &str {
    word.find('=').map_or(word, |end| &word[..=end])
}

/// Which pairs of a data set are trained on, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// True for those to train on, false for those held out.
    pub training: Vec<bool>,
}

impl Assignment {
    /// A line for each pair, 1 or 2, as the published list of FlyingChairs has it.
    pub fn lines(&self) -> String {
        self.training.iter().map(|training| if *training { "1\n" } else { "2\n" }).collect()
    }

    /// SHA-256 of [`lines`](Self::lines), in hexadecimal: what `sha256sum` prints of the list as a file.
    pub fn hash(&self) -> String {
        Sha256::digest(self.lines()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a user should know of it.
    pub(crate) fn remark(&self, by: &str) -> String {
        let training = self.training.iter().filter(|training| **training).count();
        let held_out = self.training.len() - training;
        format!("split by {by}: {training} pairs to train on, {held_out} held out, sha-256 {}", &self.hash()[..16])
    }
}

impl Split {
    /// The file that says how, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.rule {
            Rule::File(path) => Some(path),
            _ => None,
        }
    }

    /// Leaves the part that is read in a listing, and notes how it was split.
    pub fn apply(&self, listing: &mut Listing) -> Result<(), DataError> {
        let mut notes = Vec::new();
        let assignment = self.assign(listing.pairs.len(), Some(&listing.pairs), &mut notes)?;
        let mut read = assignment.training.iter().map(|&training| self.reads(training));
        listing.pairs.retain(|_| read.next().unwrap_or(false));
        listing.expected = None;
        listing.split = vec![assignment.remark(&self.by())];
        listing.split.append(&mut notes);
        listing.lists.extend(self.file().map(Path::to_path_buf));
        Ok(())
    }

    /// The part that is read of a source whose pairs have no names before they are read.
    pub fn part_of(&self, source: Box<dyn Source>, name: String) -> Result<Chosen, DataError> {
        let mut notes = source.remarks();
        let count = source.len().ok_or_else(|| DataError::Split {
            by: self.by(),
            reason: format!("{name} is endless: say how many pairs it has (count=), or take other seeds"),
        })?;
        let assignment = self.assign(count, None, &mut notes)?;
        let mut remarks = vec![assignment.remark(&self.by())];
        remarks.append(&mut notes);
        let indices = (0..count).filter(|&i| self.reads(assignment.training[i])).collect();
        let mut files = source.files();
        files.extend(self.file().map(Path::to_path_buf));
        Ok(Chosen { source, indices, name, remarks, files, assignment })
    }

    /// Which of `count` pairs are trained on; `pairs` says what they are called, if that is known.
    pub fn assign(
        &self,
        count: usize,
        pairs: Option<&[PairFiles]>,
        notes: &mut Vec<String>,
    ) -> Result<Assignment, DataError> {
        let by_names = |text: &str, notes: &mut Vec<String>| {
            let wrong = |reason: String| DataError::Split { by: self.by(), reason };
            let Some(pairs) = pairs else {
                return Err(wrong("its pairs have no names: give a line for each, 1 or 2".into()));
            };
            let (training, unknown) = without_named(pairs, text);
            let names = text.lines().filter(|line| !line.trim().is_empty()).count();
            if unknown == names {
                return Err(wrong(format!("none of its {names} names is a pair of this data set")));
            }
            if unknown > 0 {
                notes.push(format!("split by {}: {unknown} of its {names} names are no pair here", self.by()));
            }
            Ok(training)
        };
        let training = match &self.rule {
            Rule::Each { share, seed } => {
                let mut random = RandomState::new(*seed);
                (0..count).map(|_| random.uniform() < *share).collect()
            }
            Rule::Holdout { share, seed } => {
                let mut training = vec![true; count];
                let held_out = (share * count as f64).ceil() as usize;
                let order = RandomState::new(*seed).permutation(count);
                order.into_iter().take(held_out).for_each(|i| training[i] = false);
                training
            }
            Rule::Known(names) => by_names(names, notes)?,
            Rule::File(path) => {
                let text = read_text(path)?;
                match lines(&text) {
                    None => by_names(&text, notes)?,
                    Some(training) if training.len() == count => training,
                    Some(training) => {
                        let lines = training.len();
                        let reason =
                            format!("{lines} lines do not split {count} pairs; this is the list of other data");
                        return Err(DataError::content(path, reason));
                    }
                }
            }
        };
        Ok(Assignment { training })
    }

    fn reads(&self, training: bool) -> bool {
        match self.part {
            Part::All => true,
            Part::Train => training,
            Part::Val => !training,
        }
    }

    /// The words that ask for it.
    fn by(&self) -> String {
        match &self.rule {
            Rule::File(path) => path.display().to_string(),
            Rule::Known(_) => "split=ptlflow".into(),
            Rule::Each { share, seed } => format!("split={share},seed={seed}"),
            Rule::Holdout { share, seed } => format!("holdout={share},seed={seed}"),
        }
    }
}

/// A list of as many lines as a data set has pairs, each 1 (train) or 2 (held out): whether each says training.
pub(crate) fn read_sides(path: &Path) -> Result<Vec<bool>, DataError> {
    let side = |(number, line): (usize, &str)| match line.trim() {
        "1" => Ok(true),
        "2" => Ok(false),
        other => Err(DataError::content(path, format!("line {} is '{other}', not 1 or 2", number + 1))),
    };
    read_text(path)?.lines().enumerate().map(side).collect()
}

/// Lines of 1 (train) and 2 or 0 (held out); `None` if the text is something else.
fn lines(text: &str) -> Option<Vec<bool>> {
    let line = |line: &str| match line.trim() {
        "1" => Some(true),
        "2" | "0" => Some(false),
        _ => None,
    };
    let lines: Vec<bool> = text.lines().filter(|line| !line.trim().is_empty()).map(line).collect::<Option<_>>()?;
    (!lines.is_empty()).then_some(lines)
}

/// Which pairs a list of names leaves, and how many of the names are none of theirs. A name is that of a pair, a folder of pairs, or
/// the end of the path of the first frame, with or without what follows its last dot. tfoptflow's lists name all files of a pair
/// with `###` between them.
fn without_named(pairs: &[PairFiles], text: &str) -> (Vec<bool>, usize) {
    let names: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let names: HashMap<&str, usize> =
        names.iter().enumerate().map(|(i, name)| (name.split("###").next().unwrap_or(name), i)).collect();
    let mut found = HashSet::new();
    let mut is_named = |pair: &PairFiles| {
        let path = pair.first.to_string_lossy().replace('\\', "/");
        let stem = path.rsplit_once('.').map_or(&*path, |(stem, _)| stem);
        let folders = pair.id.match_indices('/').map(|(end, _)| &pair.id[..end]);
        let ends = [&*path, stem].into_iter().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[at + 1..]));
        let hits: Vec<usize> =
            folders.chain(ends).chain([pair.id.as_str()]).filter_map(|key| names.get(key).copied()).collect();
        found.extend(hits.iter().copied());
        !hits.is_empty()
    };
    let training = pairs.iter().map(|pair| !is_named(pair)).collect();
    (training, names.len() - found.len())
}

/// Some pairs of a source.
pub(crate) struct Chosen {
    source: Box<dyn Source>,
    indices: Vec<usize>,
    name: String,
    remarks: Vec<String>,
    files: Vec<PathBuf>,
    assignment: Assignment,
}

impl Chosen {
    /// How the whole source is split.
    pub fn into_assignment(self) -> Assignment {
        self.assignment
    }
}

impl Source for Chosen {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> Option<usize> {
        Some(self.indices.len())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    fn known_by(&self, index: usize) -> Vec<PathBuf> {
        self.indices.get(index).map_or_else(Vec::new, |&at| self.source.known_by(at))
    }

    fn foreground(&self, index: usize) -> Result<Option<Mask>, DataError> {
        self.indices.get(index).map_or(Ok(None), |&at| self.source.foreground(at))
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (name, len) = (&self.name, self.indices.len());
        let &at = self.indices.get(index).ok_or_else(|| DataError::Index { name: name.clone(), len, index })?;
        self.source.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::{Tree, chairs, sintel};

    fn ids(tree: &Tree, text: &str) -> Vec<String> {
        tree.samples(text).into_iter().map(|sample| sample.3).collect()
    }

    fn refused(tree: &Tree, text: &str) -> String {
        let text = text.replace("{root}", &tree.path("").to_string_lossy());
        text.parse::<crate::Spec>().and_then(|spec| spec.open()).err().expect("an error").to_string()
    }

    /// What scikit-learn's `train_test_split(range(1041), test_size=0.03, random_state=1969)` holds out of Sintel's pairs, and what
    /// `numpy.random.RandomState(1).uniform(0, 1, 22872) < 0.97` trains on.
    #[test]
    fn random_splits_are_those_of_the_python_programs() {
        let assign =
            |rule, count| Split { rule, part: Part::Val }.assign(count, None, &mut Vec::new()).unwrap().training;
        let training = assign(Rule::Holdout { share: 0.03, seed: 1969 }, 1041);
        let held_out: Vec<usize> = (0..1041).filter(|&i| !training[i]).collect();
        assert_eq!(
            held_out,
            [
                25, 105, 154, 184, 215, 257, 298, 319, 332, 337, 341, 408, 442, 483, 507, 540, 542, 595, 653, 661, 676,
                678, 786, 791, 792, 840, 901, 950, 951, 961, 965, 975
            ]
        );
        let training = assign(Rule::Each { share: 0.97, seed: 1 }, 22_872);
        assert_eq!(training.into_iter().filter(|training| *training).count(), 22_207);
    }

    #[test]
    fn both_parts_of_a_split_are_the_whole() {
        let tree = sintel();
        let all = ids(&tree, "sintel-clean:{root}");
        for rule in ["holdout=0.3", "holdout=0.3,seed=7", "split=0.5"] {
            let [train, val] = ["train", "val"].map(|part| ids(&tree, &format!("sintel-clean:{{root}}@{rule},{part}")));
            assert!(!val.is_empty() && !train.is_empty(), "{rule}");
            let mut both = [train, val].concat();
            both.sort();
            assert_eq!(both, all, "{rule}");
        }
        // 4 pairs, of which 0.3 are 1.2: two are held out.
        assert_eq!(ids(&tree, "sintel-clean:{root}@holdout=0.3,val").len(), 2);
        for mode in ["train_noval", "val_notrain", "holdout=0.3,train_noval"] {
            assert_eq!(ids(&tree, &format!("sintel-clean:{{root}}@{mode}")), all, "{mode}");
        }
        assert_eq!(ids(&tree, "sintel-clean:{root}@train_with_val").len(), 3);
        // Any part of a set can be split, and sets without files of their own.
        assert_eq!(tree.open("sintel-clean:{root}@test,holdout=0.3,val").unwrap().len(), Some(2));
        let synthetic = tree.open("synth:chairs@seed=3,size=8x8,count=10,holdout=0.2,val").unwrap();
        assert_eq!((synthetic.len(), synthetic.get(0).unwrap().first.size().height), (Some(2), 8));
        assert!(synthetic.remarks()[0].contains("8 pairs to train on, 2 held out"), "{:?}", synthetic.remarks());
    }

    #[test]
    fn lists_are_lines_or_names() {
        let tree = chairs();
        tree.text("lines.txt", "1\n2\n\n1\n0\n").text("names.txt", "00002\n00099\n");
        tree.text("tfoptflow.txt", "data/00003_img1.ppm###data/00003_img2.ppm###data/00003_flow.flo\n");
        let root = tree.path("").to_string_lossy().into_owned();
        let part = |list: &str, part: &str| ids(&tree, &format!("chairs:{{root}}@split={root}{list},{part}"));
        assert_eq!(part("lines.txt", "val"), ["00002", "00004"]);
        assert_eq!(part("names.txt", "train"), ["00001", "00003", "00004"]);
        assert_eq!(part("tfoptflow.txt", "val"), ["00003"]);
        let remarks = tree.open(&format!("chairs:{{root}}@split={root}names.txt,val")).unwrap().remarks();
        // sha256sum of "1\n2\n1\n1\n".
        assert!(remarks[0].contains("3 pairs to train on, 1 held out, sha-256 e47c608ddb7653ed"), "{remarks:?}");
        assert!(remarks[1].contains("1 of its 2 names"), "{remarks:?}");
        let files = tree.open(&format!("chairs:{{root}}@split={root}lines.txt,val")).unwrap().files();
        assert!(files.iter().any(|file| file.ends_with("lines.txt")), "the list is read, so it is not written over");
        let scenes = sintel();
        scenes.text("scenes.txt", "bamboo_1\n");
        let root = scenes.path("").to_string_lossy().into_owned();
        let held_out = ids(&scenes, &format!("sintel-final:{{root}}@split={root}scenes.txt,val"));
        assert_eq!(held_out, ["bamboo_1/final/0001", "bamboo_1/final/0002"]);
    }

    #[test]
    fn known_lists_have_their_lengths() {
        let count = |name| PTLFLOW.iter().find(|(set, _)| *set == name).unwrap().1.lines().count();
        assert_eq!(["chairs", "sintel", "kitti12", "kitti15", "hd1k"].map(count), [640, 6, 39, 40, 176]);
        let tree = Tree::new();
        for scene in ["alley_2", "ambush_2"] {
            tree.frame(format!("training/clean/{scene}/frame_0001.png"), 1);
            tree.frame(format!("training/clean/{scene}/frame_0002.png"), 2);
            tree.flow(format!("training/flow/{scene}/frame_0001.flo"), 3);
        }
        assert_eq!(ids(&tree, "sintel-clean:{root}@split=ptlflow,val"), ["ambush_2/clean/0001"]);
        assert_eq!(ids(&tree, "sintel-clean:{root}@split=ptlflow,train"), ["alley_2/clean/0001"]);
    }

    #[test]
    fn splits_that_are_none_say_what_is_right() {
        let tree = chairs();
        tree.text("two.txt", "1\n2\n").text("others.txt", "00077\n");
        let root = tree.path("").to_string_lossy().into_owned();
        for (words, said) in [
            ("holdout=0.1", "train or val"),
            ("holdout=0.1,train,val", "give one of"),
            ("holdout=2,val", "between 0 and 1"),
            ("holdout=0.1,split=0.5,val", "two splits"),
            ("holdout=0.1,seed=x,val", "whole number"),
            ("split=,val", "names no file"),
            (&format!("split={root}two.txt,val"), "2 lines do not split 4 pairs"),
            (&format!("split={root}others.txt,val"), "none of its 1 names"),
            (&format!("split={root}nothing.txt,val"), "nothing.txt"),
        ] {
            let error = refused(&tree, &format!("chairs:{{root}}@{words}"));
            assert!(error.contains(said), "{words}: {error}");
        }
        assert!(refused(&tree, "synth:chairs@holdout=0.1,val").contains("endless"));
        assert!(refused(&tree, "synth:chairs@count=4,split=ptlflow,val").contains("no list for synth"));
        assert!(refused(&tree, "middlebury:{root}@split=ptlflow,val").contains("no list for middlebury"));
    }
}
