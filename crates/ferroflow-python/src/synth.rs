//! `synth`: pairs with exact flow, made on the fly.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ferroflow::{
    Mask, Size,
    data::{
        self, Capacity, DataError, Loader, Order, Sample, Source, datasets,
        synth::{PRESETS, Preset},
    },
};
use numpy::{PyArray2, PyArray3};
use pyo3::{
    exceptions::{PyIndexError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PySlice},
};

use crate::{
    arrays::{flow_array, frame_array, mask_array},
    error::{self, raise},
    estimator::threads,
    process::{EachProcess, computed, prepared},
};

/// FlyingChairs' height and width.
const SIZE: (usize, usize) = (384, 512);

/// Pairs with exact flow, made on the fly: an iterable of ``(frame1, frame2, flow, valid)`` without end, the same for the same
/// arguments on every machine.
///
/// The frames are uint8 ``[H, W, 3]``, RGB; the flow is float32 ``[H, W, 2]``, in pixels; ``valid`` is bool ``[H, W]``. ``pairs[i]``
/// is pair number ``i``, and ``pairs[a:b:n]`` are some of them, as for the workers of a data loader:
/// ``pairs[worker::workers]``. It can be pickled, and works in forked processes.
///
/// Args:
///     preset: ``"chairs"``, ``"sdhom"`` (small displacements), ``"things"``, ``"auto"`` (a wide mixture), ``"shifts"`` (even
///         displacements), ``"world"`` (a camera that moves) or ``"wild"`` (``"auto"`` with all effects).
///     seed: Seed of the pairs.
///     size: (height, width) of the frames. Default: (384, 512), that of FlyingChairs.
///     start, step, count: Which pairs: ``count`` of ``start``, ``start + step``, ... Default: all, without end.
///     textures, objects: Folders with pictures to use instead of procedural textures and drawn objects.
///     effects: With noise, blur, fog, compression and changes of light, where the preset has them.
///     skip_occluded: Pixels that are not visible in frame 2 are not ``valid``.
///     threads: Threads that make pairs ahead while one iterates; with 1, a pair is made when it is asked for.
#[pyclass(frozen, name = "synth", module = "ferroflow")]
pub struct Synth {
    made: Made,
    pairs: EachProcess<data::synth::Synth>,
    part: Part,
}

/// With which arguments.
#[derive(Clone)]
struct Made {
    preset: String,
    seed: u64,
    size: (usize, usize),
    textures: Option<PathBuf>,
    objects: Option<PathBuf>,
    effects: bool,
    skip_occluded: bool,
    threads: usize,
}

/// Which of the endless pairs: `count` of `start`, `start + step`, ...
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    step: u64,
    count: Option<u64>,
}

impl Part {
    /// The number of the pair at `index` of the part.
    fn number(self, index: u64) -> Option<u64> {
        self.start.checked_add(index.checked_mul(self.step)?).filter(|_| self.count.is_none_or(|count| index < count))
    }
}

impl Made {
    fn synth(&self) -> PyResult<data::synth::Synth> {
        let Some(mut preset) = Preset::named(&self.preset) else {
            let (preset, known) = (&self.preset, PRESETS.join(", "));
            return Err(error::DataError::new_err(format!("there is no preset {preset}; there are {known}")));
        };
        if !self.effects {
            preset = preset.without_effects();
        }
        let size = Size { height: self.size.0, width: self.size.1 };
        if size.pixels() == 0 || size.height.max(size.width) > 65_535 {
            return Err(PyValueError::new_err(format!("size is (height, width), each from 1 to 65535, not {size}")));
        }
        datasets::check_memory(size)
            .map_err(|shortage| error::DataError::new_err(format!("frames of {size}: {shortage}")))?;
        let synth = data::synth::Synth::new(preset, self.seed, size);
        match (&self.textures, &self.objects) {
            (None, None) => Ok(synth),
            (textures, objects) => synth.with_pictures(textures.as_deref(), objects.as_deref()).map_err(raise),
        }
    }
}

impl Synth {
    /// The generator of this process.
    fn pairs(&self, py: Python<'_>) -> PyResult<Arc<data::synth::Synth>> {
        self.pairs.get(py, || prepared(py, || self.made.synth())?)
    }
}

type Pair<'py> =
    (Bound<'py, PyArray3<u8>>, Bound<'py, PyArray3<u8>>, Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<bool>>);

fn arrays(py: Python<'_>, sample: Sample, skip_occluded: bool) -> PyResult<Pair<'_>> {
    let size = sample.first.size();
    let Some(flow) = sample.flow else { return Err(error::DataError::new_err("a pair without flow")) };
    let mut valid = flow.validity().cloned().unwrap_or_else(|| Mask::filled(size, true));
    if let (true, Some(occluded)) = (skip_occluded, &sample.occlusion) {
        valid.data_mut().iter_mut().zip(occluded.data()).for_each(|(valid, occluded)| *valid &= !occluded);
    }
    Ok((frame_array(py, sample.first)?, frame_array(py, sample.second)?, flow_array(py, flow)?, mask_array(py, valid)?))
}

#[pymethods]
impl Synth {
    #[new]
    #[pyo3(signature = (preset="chairs", *, seed=1, size=None, start=0, step=1, count=None, textures=None, objects=None,
        effects=true, skip_occluded=false, threads=1))]
    fn new(
        py: Python<'_>,
        preset: &str,
        seed: u64,
        size: Option<(usize, usize)>,
        start: u64,
        step: u64,
        count: Option<u64>,
        textures: Option<PathBuf>,
        objects: Option<PathBuf>,
        effects: bool,
        skip_occluded: bool,
        threads: usize,
    ) -> PyResult<Self> {
        let threads = self::threads(Some(threads))?.unwrap_or(1);
        if step == 0 {
            return Err(PyValueError::new_err("step is at least 1"));
        }
        let size = size.unwrap_or(SIZE);
        let made = Made { preset: preset.into(), seed, size, textures, objects, effects, skip_occluded, threads };
        Ok(Self { pairs: EachProcess::with(computed(py, || made.synth())??), made, part: Part { start, step, count } })
    }

    fn __iter__(slf: &Bound<'_, Self>) -> Samples {
        Samples { synth: slf.clone().unbind(), next: AtomicU64::new(0), ahead: EachProcess::new() }
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            return Ok(Bound::new(py, self.slice(slice)?)?.into_any());
        }
        let index: i64 = index.extract().map_err(|_| PyTypeError::new_err("a pair has a number, from 0 on"))?;
        let Some(number) = u64::try_from(index).ok().and_then(|index| self.part.number(index)) else {
            return Err(PyIndexError::new_err(format!("there is no pair {index}")));
        };
        let pairs = self.pairs(py)?;
        let sample = computed(py, || pairs.sample(number))?;
        Ok(arrays(py, sample, self.made.skip_occluded)?.into_pyobject(py)?.into_any())
    }

    fn __len__(&self) -> PyResult<usize> {
        let count =
            self.part.count.ok_or_else(|| PyTypeError::new_err("these pairs have no end: give count, or a slice"))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn __repr__(&self) -> String {
        let (Made { preset, seed, size, .. }, Part { start, step, count }) = (&self.made, self.part);
        let count = count.map_or("None".into(), |count| count.to_string());
        format!("ferroflow.synth({preset:?}, seed={seed}, size={size:?}, start={start}, step={step}, count={count})")
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((String,), Bound<'py, PyDict>)> {
        let Made { preset, seed, size, textures, objects, effects, skip_occluded, threads } = &self.made;
        let rest = PyDict::new(py);
        rest.set_item("seed", seed)?;
        rest.set_item("size", size)?;
        rest.set_item("start", self.part.start)?;
        rest.set_item("step", self.part.step)?;
        rest.set_item("count", self.part.count)?;
        rest.set_item("textures", textures.as_ref().map(|path| path.as_os_str()))?;
        rest.set_item("objects", objects.as_ref().map(|path| path.as_os_str()))?;
        rest.set_item("effects", effects)?;
        rest.set_item("skip_occluded", skip_occluded)?;
        rest.set_item("threads", threads)?;
        Ok(((preset.clone(),), rest))
    }
}

impl Synth {
    /// `pairs[a:b:n]`, without negative numbers.
    fn slice(&self, slice: &Bound<'_, PySlice>) -> PyResult<Self> {
        let bound = |name: &str| -> PyResult<Option<u64>> {
            let bound: Option<i64> = slice.getattr(name)?.extract()?;
            let below = || PyIndexError::new_err("slices of pairs go forward from 0 on");
            bound.map(|bound| u64::try_from(bound).map_err(|_| below())).transpose()
        };
        let Part { start, step, count } = self.part;
        let (first, by) = (bound("start")?.unwrap_or(0), bound("step")?.unwrap_or(1));
        let stop = [bound("stop")?, count].into_iter().flatten().min();
        let place = first.checked_mul(step).and_then(|ahead| start.checked_add(ahead)).zip(step.checked_mul(by));
        let Some((start, step)) = place.filter(|_| by > 0) else {
            return Err(PyIndexError::new_err("slices of pairs go forward from 0 on"));
        };
        let count = stop.map(|stop| stop.saturating_sub(first).div_ceil(by));
        // With the textures drawn so far.
        let pairs = EachProcess::with(data::synth::Synth::clone(&*self.pairs(slice.py())?));
        Ok(Self { made: self.made.clone(), pairs, part: Part { start, step, count } })
    }
}

/// A part of the pairs as a data set, for threads that work ahead.
struct Numbered {
    pairs: Arc<data::synth::Synth>,
    part: Part,
}

impl Source for Numbered {
    fn name(&self) -> String {
        self.pairs.name()
    }

    /// Without end, because the reader knows where to stop: an end would make the loader go around.
    fn len(&self) -> Option<usize> {
        None
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.pairs.get(self.part.number(index as u64).unwrap_or(self.part.start) as usize)
    }
}

/// Pairs of ``synth``, one at a time.
#[pyclass(frozen, module = "ferroflow")]
pub struct Samples {
    synth: Py<Synth>,
    /// Index of the next pair.
    next: AtomicU64,
    /// Threads that work ahead, if they were asked for. Waited for while detached from Python.
    ahead: EachProcess<Mutex<Loader<Sample>>>,
}

#[pymethods]
impl Samples {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let synth = self.synth.get();
        let Made { threads, skip_occluded, .. } = synth.made;
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(number) = synth.part.number(index) else { return Ok(None) };
        let pairs = synth.pairs(py)?;
        let sample = if threads == 1 {
            computed(py, || pairs.sample(number))?
        } else {
            let ahead = self.ahead.get(py, || {
                let order = Order::new(None, 0).start_at(index);
                let workers = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
                let capacity = Capacity { workers, ahead: workers.saturating_mul(NonZeroUsize::MIN.saturating_add(1)) };
                let source = Arc::new(Numbered { pairs, part: synth.part });
                Ok(Mutex::new(Loader::new(source, order, capacity, |sample, _| Ok(sample))))
            })?;
            let next = || ahead.lock().unwrap_or_else(PoisonError::into_inner).next();
            match py.detach(next) {
                Some(sample) => sample.map_err(raise)?,
                None => return Ok(None),
            }
        };
        arrays(py, sample, skip_occluded).map(Some)
    }
}
