//! Videos: flows of successive frames, and the frames themselves.

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ferroflow::{
    Frame,
    data::sequence::{self, FramePair, NamedFrame, Reading, SequenceError},
};
use numpy::PyArray3;
use pyo3::{exceptions::PyTypeError, prelude::*, types::PyIterator};

use crate::{
    arrays::{self, Pixels, flow_array, frame_array},
    error::{DataError, raise, warn},
    estimator::{Bidirectional, Estimator, estimate},
    process::{Owned, computed},
};

/// What is read in order, by one thread at a time, in the process that opened it. The locks are waited for while detached from
/// Python: whoever holds one may need Python to go on.
pub struct Reader<T> {
    items: Owned<Mutex<Box<dyn Iterator<Item = Result<T, SequenceError>> + Send>>>,
    /// What a user should know of the frames, from whichever thread found it.
    notes: Arc<Mutex<Vec<String>>>,
}

impl<T: Send + 'static> Reader<T> {
    /// What `successive` makes of the frames of a video file or of a folder.
    fn open<I>(py: Python<'_>, path: &Path, successive: impl FnOnce(sequence::Frames) -> I + Send) -> PyResult<Self>
    where
        I: Iterator<Item = Result<T, SequenceError>> + Send + 'static,
    {
        let notes: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = notes.clone();
        let reading = Reading { note: Arc::new(move |text| lock(&kept).push(text.into())), ..Reading::default() };
        let items = computed(py, || {
            let frames = if path.is_dir() { sequence::folder(path, &reading) } else { sequence::video(path, &reading) };
            frames.map(|frames| Owned::new(Mutex::new(Box::new(successive(frames)) as Box<_>)))
        })?;
        let reader = Self { items: items.map_err(raise)?, notes };
        reader.warn(py)?;
        Ok(reader)
    }

    fn next(&self, py: Python<'_>) -> PyResult<Option<T>> {
        let Some(items) = self.items.get() else {
            return Err(DataError::new_err("a video is read in the process that opened it: open it again in this one"));
        };
        let next = computed(py, || lock(items).next().transpose())?;
        self.warn(py)?;
        next.map_err(raise)
    }

    fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let notes = py.detach(|| mem::take(&mut *lock(&self.notes)));
        notes.iter().try_for_each(|note| warn(py, note))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pairs of successive frames.
pub enum Pairs {
    /// Of a file or folder.
    Files(Reader<FramePair>),
    /// Of a Python iterator, with the frame before; that is a copy, because whoever gives frames may use one array for all.
    Objects(Py<PyIterator>, Mutex<Option<Frame>>),
}

impl Pairs {
    /// Of a path or an iterable of frames.
    pub fn open(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(path) = source.extract::<PathBuf>() {
            return Ok(Self::Files(Reader::open(source.py(), &path, sequence::successive)?));
        }
        let frames =
            source.try_iter().map_err(|_| PyTypeError::new_err("source is a path or an iterable of frames"))?;
        Ok(Self::Objects(frames.unbind(), Mutex::new(None)))
    }

    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<[Pixels<'py>; 2]>> {
        let (frames, previous) = match self {
            Self::Files(reader) => {
                let pair = reader.next(py)?;
                return Ok(pair.map(|pair| [pair.first, pair.second].map(Pixels::Shared)));
            }
            Self::Objects(frames, previous) => (frames, previous),
        };
        let mut frames = frames.bind(py).clone();
        loop {
            let Some(next) = frames.next() else { return Ok(None) };
            let next = arrays::frame(&next?)?.into_frame()?;
            if let Some(first) = lock(previous).replace(next.clone()) {
                return Ok(Some([first, next].map(Pixels::Copied)));
            }
        }
    }
}

/// The flows of a video, one at a time.
#[pyclass(frozen, module = "ferroflow")]
pub struct Flows {
    /// What estimates.
    pub estimator: Py<Estimator>,
    /// Of which pairs.
    pub pairs: Pairs,
    /// In both directions.
    pub both: bool,
}

#[pymethods]
impl Flows {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let estimator = self.estimator.get().made(py)?;
        let Some([first, second]) = self.pairs.next(py)? else { return Ok(None) };
        if !self.both {
            return Ok(Some(flow_array(py, estimate(py, &estimator, &first, &second)?)?.into_any().unbind()));
        }
        let pair = (first.view()?, second.view()?);
        let both = computed(py, || estimator.estimate_views_both(pair.0, pair.1))?.map_err(raise)?;
        Ok(Some(Py::new(py, Bidirectional::new(py, both)?)?.into_any()))
    }
}

/// The frames of a video, one at a time.
#[pyclass(frozen, name = "Frames", module = "ferroflow")]
pub struct VideoFrames(Reader<NamedFrame>);

#[pymethods]
impl VideoFrames {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray3<u8>>>> {
        let Some(NamedFrame { frame, .. }) = self.0.next(py)? else { return Ok(None) };
        frame_array(py, Arc::unwrap_or_clone(frame)).map(Some)
    }
}

/// The frames of a video file or of a folder of images, one at a time: uint8 ``[H, W, 3]``, RGB.
///
/// Args:
///     path: ``.y4m`` and animated GIF, WebP and PNG are read directly, other videos by the program ``ffmpeg``.
#[pyfunction]
pub fn read_video(py: Python<'_>, path: PathBuf) -> PyResult<VideoFrames> {
    Ok(VideoFrames(Reader::open(py, &path, |frames| frames)?))
}
