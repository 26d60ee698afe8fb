//! How a data set is spelled: `NAME:PATH[@WORD,WORD,...]`, as `chairs:/data/FlyingChairs_release@train` or
//! `things:/data/things@test,final,left`.
//!
//! The words after the last `@` choose a split (`train`, `val`, `test`) and a variant; each data set has its own (see
//! [`DATASETS`]). Any set can be split by a list or at random (`@split=FILE,train`, `@holdout=0.03,seed=1,val`). Without a split,
//! everything that has ground truth is read. A path alone, to a video or a folder that exists, means `clip:PATH`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    DataError, Source,
    datasets::{Access, DATASETS, Dataset, FilePairs, Listing, Request},
    split::{self, Assignment, Split},
    tfrecord::MINDRECORD,
};

/// A data set by name, path and variant.
#[derive(Clone, Debug)]
pub struct Spec {
    dataset: &'static Dataset,
    path: PathBuf,
    words: Vec<String>,
}

impl Spec {
    /// Its entry in [`DATASETS`].
    pub fn dataset(&self) -> &'static Dataset {
        self.dataset
    }

    /// The part between `:` and `@`: a folder, a file, or the name of a preset.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the data set.
    ///
    /// # Errors
    /// If the path does not have the layout of the data set (the text says where the right folder is, if it is near), files are
    /// missing, or there are no pairs.
    pub fn open(&self) -> Result<Box<dyn Source>, DataError> {
        let (source, looked_for): (Box<dyn Source>, _) = match self.dataset.access {
            Access::Opened(open) => {
                let (split, words) = self.parts()?;
                let source = open(&Request { dataset: self.dataset, root: self.path.clone(), words: &words })?;
                let source = match split {
                    None => source,
                    Some(split) => Box::new(split.part_of(source, self.to_string())?) as Box<dyn Source>,
                };
                (source, String::new())
            }
            Access::Listed(_) => {
                let listing = self.list()?;
                let variant = listing.variant.clone();
                (Box::new(FilePairs::new(self.to_string(), listing)?), variant)
            }
        };
        if source.is_empty() {
            return Err(DataError::NoPairs { spec: self.to_string(), reason: self.instead(&looked_for) });
        }
        Ok(source)
    }

    /// The same with another word after the `@`.
    pub fn with(mut self, word: &str) -> Self {
        self.words.push(word.into());
        self
    }

    /// Whether this word stands after the `@`.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// Where no pair was found: what was looked for, as a listing's variant says it, and what is there.
    pub(crate) fn instead(&self, looked_for: &str) -> String {
        let place = match looked_for {
            "" => self.dataset.path.to_string(),
            variant => format!("{variant} ({} is {})", self.path.display(), self.dataset.path),
        };
        format!("looked for {place}; {}", self.dataset.survey(&self.path))
    }

    /// The files of every pair, complete or not; `None` if the data set is no list of files.
    pub(crate) fn listing(&self) -> Option<Result<Listing, DataError>> {
        matches!(self.dataset.access, Access::Listed(_)).then(|| self.list())
    }

    fn list(&self) -> Result<Listing, DataError> {
        let (split, words) = self.parts()?;
        let mut listing = self.list_whole(&words)?;
        if let Some(split) = split {
            split.apply(&mut listing)?;
        }
        Ok(listing)
    }

    fn list_whole(&self, words: &[String]) -> Result<Listing, DataError> {
        match self.dataset.access {
            Access::Listed(list) => {
                let root = self.dataset.locate(&self.path)?;
                let mut listing = list(&Request { dataset: self.dataset, root, words })?;
                listing.missing.sort();
                listing.missing.dedup();
                Ok(listing)
            }
            Access::Opened(_) => Ok(Listing::default()),
        }
    }

    /// How it is split by its words, and the words that are the data set's own.
    fn parts(&self) -> Result<(Option<Split>, Vec<String>), DataError> {
        split::of(&self.words, self.dataset).map_err(|reason| DataError::Spec { spec: self.to_string(), reason })
    }

    /// Which of its pairs are trained on and which are held out, if its words split it.
    ///
    /// # Errors
    /// As [`Spec::open`].
    pub fn split(&self) -> Result<Option<Assignment>, DataError> {
        let (Some(split), words) = self.parts()? else { return Ok(None) };
        let assignment = match self.dataset.access {
            Access::Listed(_) => {
                let listing = self.list_whole(&words)?;
                split.assign(listing.pairs.len(), Some(&listing.pairs), &mut Vec::new())?
            }
            Access::Opened(open) => {
                let request = Request { dataset: self.dataset, root: self.path.clone(), words: &words };
                split.part_of(open(&request)?, self.to_string())?.into_assignment()
            }
        };
        Ok(Some(assignment))
    }
}

impl FromStr for Spec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::Spec { spec: text.into(), reason };
        let named = |name: &str| DATASETS.iter().find(|d| d.name == name);
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) if named(name).is_some() => (name, rest),
            _ if Path::new(path_and_words(text).0).exists() => ("clip", text),
            _ => text.split_once(':').unwrap_or((text, "")),
        };
        let is_mindrecord = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "mindrecord");
        // NAME@0.mindrecord has an @ of its own.
        if name == "mindrecord" || is_mindrecord(text) || is_mindrecord(path_and_words(text).0) {
            return Err(wrong(MINDRECORD.into()));
        }
        let Some(dataset) = named(name) else {
            let known: Vec<&str> = DATASETS.iter().map(|d| d.name).collect();
            return Err(wrong(format!("write NAME:PATH with a name out of {}", known.join(", "))));
        };
        let (path, words) = path_and_words(rest);
        if path.is_empty() {
            return Err(wrong(format!("after '{name}:' comes {}", dataset.path)));
        }
        let words: Vec<String> = words.split(',').filter(|w| !w.is_empty()).map(Into::into).collect();
        let own = |word: &str| match word.split_once('=') {
            Some((key, _)) => dataset.words.iter().any(|w| w.strip_suffix('=') == Some(key)),
            None => dataset.words.contains(&word),
        };
        if let Some(word) = words.iter().find(|w| !own(w) && !split::is_word(w, &words)) {
            let choice = dataset.words.iter().chain(&split::WORDS).copied().collect::<Vec<_>>().join(", ");
            return Err(wrong(format!(
                "'{word}' is not known, {name} takes after an @: {choice} (a path that holds an @ ends with one)"
            )));
        }
        let spec = Self { dataset, path: path.into(), words };
        spec.parts()?;
        Ok(spec)
    }
}

/// What stands before and after the last `@`. A folder may have an @ in its name; what holds a separator is no word, but for the file
/// of a split.
fn path_and_words(text: &str) -> (&str, &str) {
    let is_word = |word: &str| !word.contains(['/', '\\']) || word.starts_with("split=");
    match text.rsplit_once('@') {
        Some((path, words)) if words.split(',').all(is_word) => (path, words),
        _ => (text, ""),
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dataset.name, self.path.display())?;
        if !self.words.is_empty() || self.path.to_string_lossy().contains('@') {
            write!(f, "@{}", self.words.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_read_and_written_back() {
        for text in
            ["chairs:/data/FlyingChairs", "sintel-final:data/s@test", "things:C:\\t@train,final,left", "pairs:a@b@"]
        {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let spec: Spec = "pairs:/with@sign/p.tsv@split=a/b,val".parse().unwrap();
        assert_eq!(spec.path(), Path::new("/with@sign/p.tsv"));
        let spec: Spec = "kitti15:/with@sign/k".parse().unwrap();
        assert_eq!(spec.path(), Path::new("/with@sign/k"));
    }

    #[test]
    fn wrong_spellings_say_what_is_right() {
        for (text, word) in [
            ("chair:/data", "chairs, sdhom"),
            ("/data/chairs", "NAME:PATH"),
            ("chairs:", "folder"),
            ("sintel-clean:/s@val", "train, test"),
            ("synth:chairs@size", "size="),
            ("mindrecord:/data/train", "mindspore.mindrecord"),
            ("tfrecord:/data/flying_chairs@0.mindrecord", "data pack"),
        ] {
            let error = text.parse::<Spec>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
