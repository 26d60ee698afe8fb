//! `Estimator`: flow of pairs, batches and videos.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow::{
    CpuOptions, Device, FlowField, Size,
    core::geometry::Fit,
    infer::{self, NetworkOptions, open},
    kernels::Bf16,
    net::{Model, weights::store::Stored},
};
use numpy::{
    IntoPyArray, PyArray2, PyArray3, PyArray4, PyArrayMethods, PyUntypedArrayMethods,
    ndarray::{Array4, Axis},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    arrays::{self, Frames, Pixels, flow_array, mask_array, plane_array},
    error::{WeightsError, raise, warn},
    process::{EachProcess, computed, prepared},
    video::{Flows, Pairs},
    weights::{Weights, options_text},
};

/// Estimates optical flow: where every pixel of one image went in the next.
///
/// An estimator is made once and estimates any number of pairs of any size, from any number of threads. It can be pickled, and
/// works in a process that was forked from the one that made it.
///
/// Args:
///     method: ``"dis"`` or ``"dis-fast"`` (Dense Inverse Search, no weights), ``"zero"`` (no motion), the name of a network
///         with built-in weights, a file of weights (``.safetensors`` of this project, or another project's checkpoint), or
///         :class:`Weights`. Default: ``"rill"``, the network whose weights come along.
///     weights: A file of weights, where ``method`` names the network that they are for.
///     options: Options of the network; ``models()`` lists them.
///     device: Where to compute.
///     fit: How frames whose sides are no multiples of the network's stride are made to fit: ``"pad"``, ``"resize"`` or
///         ``"crop"`` (no flow at the border: NaN). Default: as the network's reference does.
///     size: (height, width) in which a network sees the frames, whatever their own.
///     tile: (height, width) of overlapping tiles that are estimated one by one, which bounds the memory of large frames.
///     precision: ``"f32"`` or ``"bf16"``, for the numbers that convolutions multiply.
///     exact: Use no Winograd convolution: slower, and the last digits differ.
///     threads: Number of threads. Default: all processors.
///     stop_below: Leaves out the iterations of a recurrent network after the first whose update is shorter than this on average, in
///         pixels of the frames as the network sees them.
#[pyclass(frozen, module = "ferroflow")]
pub struct Estimator {
    request: Request,
    made: EachProcess<infer::Estimator>,
}

/// What an estimator was asked to be: with this it is made, pickled, and made again in a fork.
struct Request {
    method: Option<Method>,
    weights: Option<PathBuf>,
    options: BTreeMap<String, String>,
    device: String,
    fit: Option<String>,
    size: Option<(usize, usize)>,
    tile: Option<(usize, usize)>,
    precision: String,
    exact: bool,
    threads: Option<usize>,
    stop_below: Option<f32>,
}

enum Method {
    /// A method, a network or a file.
    Named(PathBuf),
    Weights(Py<Weights>),
}

/// A network with its weights, where they come from, and what the user should know of them.
struct Opened {
    stored: Arc<Stored>,
    origin: String,
    doubt: Option<String>,
}

impl Request {
    /// The estimator, and what the user should know of it.
    fn make(&self, given: Option<Arc<Stored>>) -> PyResult<(infer::Estimator, Option<String>)> {
        let bf16 = match &*self.precision {
            "f32" => None,
            "bf16" if self.exact => return Err(PyValueError::new_err("exact and bf16 contradict each other")),
            "bf16" => Some(Bf16::detect().map_err(raise)?),
            other => return Err(PyValueError::new_err(format!("precision is \"f32\" or \"bf16\", not {other:?}"))),
        };
        let fit = match self.fit.as_deref() {
            None => None,
            Some("pad") => Some(Fit::ZEROS),
            Some("resize") => Some(Fit::STRETCH),
            Some("crop") => Some(Fit::Crop),
            Some(other) => {
                return Err(PyValueError::new_err(format!("fit is \"pad\", \"resize\" or \"crop\", not {other:?}")));
            }
        };
        let options = CpuOptions { exact: self.exact, bf16, profile: false, threads: threads(self.threads)? };
        let device = device(&self.device, options)?;
        let size = |sides: Option<(usize, usize)>| sides.map(|(height, width)| Size { height, width });
        let (estimator, doubt) = match (&self.method, given) {
            (Some(Method::Named(name)), None) if baseline(name).is_some() => {
                let of_networks = self.weights.is_some() || !self.options.is_empty() || fit.is_some();
                if of_networks || self.exact || bf16.is_some() || self.size.is_some() {
                    let what = "takes no weights, options, fit, size, exact or precision: they belong to networks";
                    return Err(PyValueError::new_err(format!("{} {what}", name.display())));
                }
                (baseline(name).unwrap_or_else(infer::Estimator::zero).with_host(device), None)
            }
            (_, given) => {
                let Opened { stored, origin, doubt } = self.open(given)?;
                let Stored { model, weights, .. } = Arc::unwrap_or_clone(stored);
                let estimator = infer::Estimator::network(model, weights, NetworkOptions { fit, device });
                (estimator.with_origin(origin).with_network_size(size(self.size)).map_err(raise)?, doubt)
            }
        };
        if self.stop_below.is_some_and(|pixels| !pixels.is_finite() || pixels <= 0.0) {
            return Err(PyValueError::new_err("stop_below is a number of pixels above 0"));
        }
        let estimator = estimator.with_stop_below(self.stop_below).map_err(raise)?;
        Ok((estimator.with_tile(size(self.tile)).map_err(raise)?, doubt))
    }

    fn open(&self, given: Option<Arc<Stored>>) -> PyResult<Opened> {
        if let Some(stored) = given {
            if self.weights.is_some() || !self.options.is_empty() {
                return Err(PyValueError::new_err("weights and options come with Weights: leave the arguments out"));
            }
            return Ok(Opened { stored, origin: "weights in memory".into(), doubt: None });
        }
        let method = match &self.method {
            Some(Method::Named(name)) => Some(name.as_path()),
            _ => None,
        };
        let options = options_text(&self.options);
        match (network(method), &self.weights) {
            (Some(name), None) => builtin(Some(name), &options),
            (name, Some(file)) if name.is_some() || method.is_none() => from_file(file, name, &options),
            (None, None) => match method {
                Some(file) => from_file(file, None, &options),
                None => builtin(None, &options),
            },
            _ => Err(PyValueError::new_err("with weights, method is the name of a network: models() lists them")),
        }
    }
}

fn baseline(name: &Path) -> Option<infer::Estimator> {
    name.to_str().and_then(infer::Estimator::baseline)
}

fn network(name: Option<&Path>) -> Option<&str> {
    name.and_then(Path::to_str).filter(|name| Model::named(name).is_ok())
}

fn builtin(name: Option<&str>, options: &[String]) -> PyResult<Opened> {
    let Some(stored) = open::builtin(name, options).map_err(raise)? else {
        let name = name.unwrap_or_default();
        return Err(WeightsError::new_err(format!(
            "{name} has no built-in weights: give their file, Estimator(\"w.safetensors\") or Estimator({name:?}, weights=...)"
        )));
    };
    Ok(Opened { stored: stored.into(), origin: "built-in weights".into(), doubt: None })
}

fn from_file(file: &Path, name: Option<&str>, options: &[String]) -> PyResult<Opened> {
    let opened = open::from_file(file, name, options).map_err(|error| {
        let plain = file.extension().is_none() && !file.exists();
        match (Model::named(&file.to_string_lossy()), plain) {
            // Neither a file nor a network: what says so says which networks there are.
            (Err(unknown), true) => raise(unknown),
            _ => raise(error),
        }
    })?;
    let doubt = opened.doubt().map(|doubt| format!("{}: {doubt}", file.display()));
    Ok(Opened { stored: opened.stored.into(), origin: format!("weights of {}", file.display()), doubt })
}

/// The device of this name.
pub fn device(name: &str, options: CpuOptions) -> PyResult<Arc<dyn Device>> {
    ferroflow_cli::device::open_named(name, options).map_err(raise)
}

/// A number of threads that a machine may have.
pub fn threads(asked: Option<usize>) -> PyResult<Option<usize>> {
    match asked {
        Some(n) if !(1..=1024).contains(&n) => Err(PyValueError::new_err(format!("threads is {n}: from 1 to 1024"))),
        asked => Ok(asked),
    }
}

impl Estimator {
    /// The estimator of this process.
    pub fn made(&self, py: Python<'_>) -> PyResult<Arc<infer::Estimator>> {
        self.made.get(py, || {
            let given = self.request.given(py);
            Ok(prepared(py, || self.request.make(given))??.0)
        })
    }
}

impl Request {
    fn given(&self, py: Python<'_>) -> Option<Arc<Stored>> {
        match &self.method {
            Some(Method::Weights(weights)) => Some(weights.bind(py).get().stored.clone()),
            _ => None,
        }
    }
}

#[pymethods]
impl Estimator {
    #[new]
    #[pyo3(signature = (method=None, *, weights=None, options=None, device="cpu", fit=None, size=None, tile=None, precision="f32",
        exact=false, threads=None, stop_below=None))]
    fn new(
        py: Python<'_>,
        method: Option<Bound<'_, PyAny>>,
        weights: Option<PathBuf>,
        options: Option<BTreeMap<String, Bound<'_, PyAny>>>,
        device: &str,
        fit: Option<String>,
        size: Option<(usize, usize)>,
        tile: Option<(usize, usize)>,
        precision: &str,
        exact: bool,
        threads: Option<usize>,
        stop_below: Option<f32>,
    ) -> PyResult<Self> {
        let method = match method {
            None => None,
            Some(method) => Some(match method.cast::<Weights>() {
                Ok(weights) => Method::Weights(weights.clone().unbind()),
                Err(_) => Method::Named(
                    method.extract().map_err(|_| PyTypeError::new_err("method is a name, a path or Weights"))?,
                ),
            }),
        };
        let options = crate::weights::options(options)?;
        let (device, precision) = (device.to_string(), precision.to_string());
        let request =
            Request { method, weights, options, device, fit, size, tile, precision, exact, threads, stop_below };
        let given = request.given(py);
        let (estimator, doubt) = computed(py, || request.make(given))??;
        if let Some(doubt) = doubt {
            warn(py, &doubt)?;
        }
        Ok(Self { request, made: EachProcess::with(estimator) })
    }

    /// The flow from ``first`` to ``second``, two frames or two batches of frames.
    ///
    /// Args:
    ///     first, second: RGB ``[H, W, 3]`` or grey ``[H, W]``, or batches ``[N, H, W, 3]``: arrays of NumPy, or whatever has
    ///         ``__dlpack__`` (a tensor on the CPU) or ``__array_interface__``. uint8; or uint16 of 0..=65535 or floats of 0..=1,
    ///         which are rounded to 8 bits. RGB uint8 without gaps is not copied.
    ///
    /// Returns:
    ///     float32 ``[H, W, 2]`` (``[N, H, W, 2]``): how far each pixel of ``first`` moved, in pixels, u to the right and v down; NaN
    ///     where it is unknown. In memory it is ``[2, H, W]``, so ``flow.transpose(2, 0, 1)`` is contiguous.
    fn __call__<'py>(&self, first: &Bound<'py, PyAny>, second: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = first.py();
        let estimator = self.made(py)?;
        match (arrays::frames(first)?, arrays::frames(second)?) {
            (Frames::One(first), Frames::One(second)) => {
                Ok(flow_array(py, estimate(py, &estimator, &first, &second)?)?.into_any())
            }
            (Frames::Batch(first), Frames::Batch(second)) => {
                if first.len() != second.len() || first.is_empty() {
                    let (a, b) = (first.len(), second.len());
                    return Err(PyValueError::new_err(format!(
                        "two batches have as many frames, at least one: not {a} and {b}"
                    )));
                }
                Ok(batch(py, &estimator, &first, &second)?.into_any())
            }
            _ => Err(PyValueError::new_err("both are frames or both are batches of them")),
        }
    }

    /// The flows in both directions, and what their agreement says about the first frame.
    ///
    /// Args:
    ///     first, second: Two frames, as for a call of the estimator.
    fn both<'py>(&self, first: &Bound<'py, PyAny>, second: &Bound<'py, PyAny>) -> PyResult<Bidirectional> {
        let py = first.py();
        let estimator = self.made(py)?;
        let (first, second) = (arrays::frame(first)?, arrays::frame(second)?);
        let pair = (first.view()?, second.view()?);
        let both = computed(py, || estimator.estimate_views_both(pair.0, pair.1))?.map_err(raise)?;
        Bidirectional::new(py, both)
    }

    /// The flows from each frame to the next, one at a time: memory does not grow with the length.
    ///
    /// Args:
    ///     source: A video file, a folder of images, or an iterable of frames. ``.y4m`` and animated GIF, WebP and PNG are read
    ///         directly, other videos by the program ``ffmpeg``.
    ///     both: Give :class:`Bidirectional` instead of flows.
    #[pyo3(signature = (source, *, both=false))]
    fn video(slf: &Bound<'_, Self>, source: &Bound<'_, PyAny>, both: bool) -> PyResult<Flows> {
        Ok(Flows { estimator: slf.clone().unbind(), pairs: Pairs::open(source)?, both })
    }

    /// Name of the method: ``dis``, ``rill``, ...
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.made(py)?.name().into())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<ferroflow.Estimator: {}>", self.made(py)?.describe()))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((Option<Py<PyAny>>,), Bound<'py, PyDict>)> {
        let Request { method, weights, options, device, fit, size, tile, precision, exact, threads, stop_below } =
            &self.request;
        let method = match method {
            None => None,
            Some(Method::Named(name)) => Some(name.as_os_str().into_pyobject(py)?.into_any().unbind()),
            Some(Method::Weights(weights)) => Some(weights.clone_ref(py).into_any()),
        };
        let rest = PyDict::new(py);
        rest.set_item("weights", weights.as_ref().map(|path| path.as_os_str()))?;
        rest.set_item("options", options)?;
        rest.set_item("device", device)?;
        rest.set_item("fit", fit)?;
        rest.set_item("size", size)?;
        rest.set_item("tile", tile)?;
        rest.set_item("precision", precision)?;
        rest.set_item("exact", exact)?;
        rest.set_item("threads", threads)?;
        rest.set_item("stop_below", stop_below)?;
        Ok(((method,), rest))
    }
}

/// The flow of a pair, while other threads of Python run.
pub fn estimate(
    py: Python<'_>,
    estimator: &infer::Estimator,
    first: &Pixels<'_>,
    second: &Pixels<'_>,
) -> PyResult<FlowField> {
    let pair = [(first.view()?, second.view()?)];
    let mut flows = computed(py, || estimator.estimate_views(&pair))?.map_err(raise)?;
    flows.pop().ok_or_else(|| raise(infer::EstimateError::Empty))
}

/// `[N, H, W, 2]`. Pairs come one after the other, so that memory does not grow with their number and Ctrl-C is heard.
fn batch<'py>(
    py: Python<'py>,
    estimator: &infer::Estimator,
    first: &[Pixels<'_>],
    second: &[Pixels<'_>],
) -> PyResult<Bound<'py, PyArray4<f32>>> {
    let Size { height, width } = first[0].view()?.size();
    let all = Array4::<f32>::zeros((first.len(), 2, height, width)).permuted_axes([0, 2, 3, 1]).into_pyarray(py);
    for (i, (first, second)) in first.iter().zip(second).enumerate() {
        py.check_signals()?;
        let flow = flow_array(py, estimate(py, estimator, first, second)?)?.readonly();
        all.readwrite().as_array_mut().index_axis_mut(Axis(0), i).assign(&flow.as_array());
    }
    Ok(all)
}

/// The flows in both directions, and what their agreement says about frame 1.
#[pyclass(frozen, get_all, module = "ferroflow")]
pub struct Bidirectional {
    /// From frame 1 to frame 2: float32 ``[H, W, 2]``, pixels.
    forward: Py<PyArray3<f32>>,
    /// From frame 2 to frame 1: float32 ``[H, W, 2]``, pixels.
    backward: Py<PyArray3<f32>>,
    /// Pixels of frame 1 that are not visible in frame 2: bool ``[H, W]``.
    occluded: Py<PyArray2<bool>>,
    /// How far from itself the way there and back ends: float32 ``[H, W]``, pixels; infinite where there is no way back.
    error: Py<PyArray2<f32>>,
    /// From 1, the way back is exact, to 0, there is none: float32 ``[H, W]``.
    confidence: Py<PyArray2<f32>>,
}

impl Bidirectional {
    /// As arrays.
    pub fn new(py: Python<'_>, both: ferroflow::Bidirectional) -> PyResult<Self> {
        let (size, consistency) = (both.forward.size(), both.consistency);
        Ok(Self {
            forward: flow_array(py, both.forward)?.unbind(),
            backward: flow_array(py, both.backward)?.unbind(),
            occluded: mask_array(py, consistency.occluded)?.unbind(),
            error: plane_array(py, size, consistency.error)?.unbind(),
            confidence: plane_array(py, size, consistency.confidence)?.unbind(),
        })
    }
}

#[pymethods]
impl Bidirectional {
    fn __repr__(&self, py: Python<'_>) -> String {
        let shape = self.forward.bind(py).shape().to_vec();
        format!("<ferroflow.Bidirectional: {}x{}>", shape[0], shape[1])
    }
}

/// Names that ``device`` takes.
#[pyfunction]
pub fn devices() -> Vec<&'static str> {
    ferroflow_cli::device::names()
}

/// Where the library sees the pixels of a frame: for tests of what is copied.
#[pyfunction]
pub fn _address(frame: &Bound<'_, PyAny>) -> PyResult<usize> {
    let frame = arrays::frame(frame)?;
    Ok(frame.view()?.rgb().as_ptr() as usize)
}
