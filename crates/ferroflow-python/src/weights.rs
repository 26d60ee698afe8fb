//! `Weights`: reading, importing, exporting, and as arrays.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ferroflow::{
    Model, Size,
    core::io::{self, IoError},
    infer::open,
    net::{
        self, onnx,
        weights::{
            Converted, Extra, Provenance, Tensor, convert, import,
            store::{self, Precision, Stored},
        },
    },
};
use numpy::{
    IntoPyArray, PyArrayDyn, PyArrayMethods,
    ndarray::{ArrayD, IxDyn},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict},
};

use crate::{
    error::{FileError, WeightsError, raise, warn},
    process::computed,
};

/// A network's options, `key=value`.
pub fn options_text(options: &BTreeMap<String, String>) -> Vec<String> {
    options.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// Options as Python has them: text, numbers, `True` and `False` for `on` and `off`.
pub fn options(given: Option<BTreeMap<String, Bound<'_, PyAny>>>) -> PyResult<BTreeMap<String, String>> {
    let text = |value: &Bound<'_, PyAny>| -> PyResult<String> {
        match value.cast::<PyBool>() {
            Ok(on) => Ok(if on.is_true() { "on" } else { "off" }.to_string()),
            Err(_) => Ok(value.str()?.to_string()),
        }
    };
    given.unwrap_or_default().into_iter().map(|(key, value)| Ok((key, text(&value)?))).collect()
}

/// The weights of a network, with where they come from.
///
/// Args:
///     model: Name of the network.
///     state_dict: An array for each parameter, under its name in the reference checkpoint.
///     options: Options of the network.
///     provenance: Where the weights come from: ``source``, ``license``, ``training_data`` or any other word, with a text.
#[pyclass(frozen, module = "ferroflow")]
pub struct Weights {
    /// Network, values and provenance.
    pub stored: Arc<Stored>,
}

impl Weights {
    fn of(stored: Stored) -> Self {
        Self { stored: Arc::new(stored) }
    }
}

#[pymethods]
impl Weights {
    #[new]
    #[pyo3(signature = (model, state_dict, *, options=None, provenance=None))]
    fn new(
        py: Python<'_>,
        model: &str,
        state_dict: BTreeMap<String, Bound<'_, PyAny>>,
        options: Option<BTreeMap<String, Bound<'_, PyAny>>>,
        provenance: Option<BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        let model = Model::with_options(model, &self::options(options)?).map_err(raise)?;
        let mut tensors = Vec::with_capacity(state_dict.len());
        for (name, array) in state_dict {
            let single = py.import("numpy")?.call_method1("asarray", (array, "float32"))?;
            let single = single
                .cast::<PyArrayDyn<f32>>()
                .map_err(|_| PyTypeError::new_err(format!("{name} is no array of numbers")))?;
            let view = single.readonly();
            let view = view.as_array();
            tensors.push((name, Tensor { shape: view.shape().to_vec(), data: view.iter().copied().collect() }));
        }
        let weights = net::Weights::new(&model.graph, tensors).map_err(raise)?;
        let mut words = provenance.unwrap_or_default();
        let provenance = Provenance {
            source: words.remove("source"),
            source_sha256: words.remove("source_sha256"),
            license: words.remove("license"),
            training_data: words.remove("training_data"),
            recipe: words.remove("recipe"),
            notes: words,
            ..Provenance::default()
        };
        Ok(Self::of(Stored { model, weights, provenance }))
    }

    /// Name of the network.
    #[getter]
    fn model(&self) -> &'static str {
        self.stored.model.name
    }

    /// Options of the network that differ from its defaults.
    #[getter]
    fn options(&self) -> BTreeMap<String, String> {
        self.stored.model.options.clone()
    }

    /// Where the weights come from, by words such as ``source`` and ``license``.
    #[getter]
    fn provenance(&self) -> BTreeMap<String, String> {
        let Provenance { source, source_sha256, license, training_data, recipe, metrics, notes } =
            self.stored.provenance.clone();
        let words = [
            ("source", source),
            ("source_sha256", source_sha256),
            ("license", license),
            ("training_data", training_data),
            ("recipe", recipe),
        ];
        let words = words.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        let metrics = metrics.into_iter().map(|(key, value)| (key, value.to_string()));
        notes.into_iter().chain(metrics).chain(words).collect()
    }

    /// An array of float32 for each parameter, under its name in the reference checkpoint, in PyTorch's order of axes.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (param, values) in self.stored.model.graph.params.iter().zip(self.stored.weights.iter()) {
            let array = ArrayD::from_shape_vec(IxDyn(&param.shape), values.to_vec());
            let array = array.map_err(|error| PyValueError::new_err(error.to_string()))?;
            dict.set_item(&param.name, array.into_pyarray(py))?;
        }
        Ok(dict)
    }

    /// Writes a weight file, ``.safetensors``, which every command and :class:`Estimator` take.
    ///
    /// Args:
    ///     path: The file.
    ///     half: Round to half precision, for a file of half the size.
    #[pyo3(signature = (path, *, half=false))]
    fn save(&self, py: Python<'_>, path: PathBuf, half: bool) -> PyResult<()> {
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            return Err(PyValueError::new_err(format!("weights are written as .safetensors, not {}", path.display())));
        }
        let Stored { model, weights, provenance } = &*self.stored;
        let precision = if half { Precision::F16 } else { Precision::F32 };
        computed(py, || store::write(&path, model, weights, provenance, precision))?.map_err(|error| match error {
            store::StoreError::Write(error) => raise(error),
            error => raise(error),
        })
    }

    fn __repr__(&self) -> String {
        let model = &self.stored.model;
        let options: String = model.options.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        format!("<ferroflow.Weights: {}{options}, {} parameters>", model.name, model.graph.parameter_count())
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((&'static str, Bound<'py, PyDict>), Bound<'py, PyDict>)> {
        let rest = PyDict::new(py);
        rest.set_item("options", self.options())?;
        rest.set_item("provenance", self.provenance())?;
        Ok(((self.model(), self.state_dict(py)?), rest))
    }
}

/// Weights from a file of this project or from another project's checkpoint, or those that come along.
///
/// Args:
///     source: A file, or the name of a network with built-in weights. Default: ``"rill"``.
///     model: The network that a checkpoint is for, where it could be for several.
///     options: Options of the network.
#[pyfunction]
#[pyo3(signature = (source=None, *, model=None, options=None))]
pub fn load_weights(
    py: Python<'_>,
    source: Option<PathBuf>,
    model: Option<&str>,
    options: Option<BTreeMap<String, Bound<'_, PyAny>>>,
) -> PyResult<Weights> {
    let options = options_text(&self::options(options)?);
    let source = source.unwrap_or_else(|| "rill".into());
    let name = source.to_str().filter(|name| Model::named(name).is_ok());
    if let Some(name) = name {
        let stored = open::builtin(Some(name), &options).map_err(raise)?;
        let stored =
            stored.ok_or_else(|| WeightsError::new_err(format!("{name} has no built-in weights: give a file")));
        return stored.map(Weights::of);
    }
    let opened = computed(py, || open::from_file(&source, model, &options))?.map_err(raise)?;
    if let Some(doubt) = opened.doubt() {
        warn(py, &format!("{}: {doubt}", source.display()))?;
    }
    Ok(Weights::of(opened.stored))
}

/// Weights from another project's checkpoint: PyTorch, a TensorFlow V2 bundle, MindSpore or safetensors. The network is
/// recognised by the names and shapes of its parameters. Nothing in the file is executed.
///
/// Args:
///     path: The checkpoint; for TensorFlow, the bundle's prefix, index or folder.
///     model: The network, if the checkpoint could be for several.
///     options: Options of the network.
///     key: The entry of a training checkpoint to take, such as ``state_dict_ema``.
///     ignore_extra: Leave out tensors that are no parameters of the network.
///     licence, trained_on: What is known of the weights; it is stored with them.
#[pyfunction]
#[pyo3(signature = (path, *, model=None, options=None, key=None, ignore_extra=false, licence=None, trained_on=None))]
pub fn import_weights(
    py: Python<'_>,
    path: PathBuf,
    model: Option<&str>,
    options: Option<BTreeMap<String, Bound<'_, PyAny>>>,
    key: Option<&str>,
    ignore_extra: bool,
    licence: Option<String>,
    trained_on: Option<String>,
) -> PyResult<Weights> {
    let options = self::options(options)?;
    let extra = if ignore_extra { Extra::Ignore } else { Extra::Refuse };
    let converted = computed(py, || {
        let checkpoint = import::import_entry(&path, key).map_err(raise)?;
        convert(checkpoint, model.map(|name| (name, &options)), extra)
            .map_err(|error| WeightsError::new_err(format!("{}: {error}", path.display())))
    })??;
    let Converted { mut stored, undecided, .. } = converted;
    if let [taken, others @ ..] = &undecided[..]
        && !others.is_empty()
    {
        let name = stored.model.name;
        warn(
            py,
            &format!(
                "{}: taken as {taken}'s {name}; weights of {} look the same and compute something else: model={name:?}, \
                 options={{\"variant\": {:?}}} for those",
                path.display(),
                others.join(" and "),
                others[0]
            ),
        )?;
    }
    stored.provenance.license = licence.or(stored.provenance.license);
    stored.provenance.training_data = trained_on.or(stored.provenance.training_data);
    Ok(Weights::of(stored))
}

/// Writes a network as ONNX, with standard operators only. The file takes ``frame1`` and ``frame2``, RGB of 0..=255,
/// ``[N, 3, H, W]``, and gives ``flow``, ``[N, 2, H, W]`` in pixels.
///
/// Args:
///     path: The file.
///     weights: :class:`Weights`. Default: the built-in ones.
///     size: (height, width), multiples of the network's stride. None: any.
///     batch: Pairs in a batch. None: any number.
///     opset: Version of the operator set, 11 to 20.
///     half: Convolve in half precision.
#[pyfunction]
#[pyo3(signature = (path, weights=None, *, size=None, batch=1, opset=17, half=false))]
pub fn export_onnx(
    py: Python<'_>,
    path: PathBuf,
    weights: Option<&Bound<'_, Weights>>,
    size: Option<(usize, usize)>,
    batch: Option<usize>,
    opset: i64,
    half: bool,
) -> PyResult<()> {
    let stored = match weights {
        Some(weights) => weights.get().stored.clone(),
        None => load_weights(py, None, None, None)?.stored,
    };
    let stride = stored.model.stride;
    if let Some((height, width)) = size
        && !(height.is_multiple_of(stride) && width.is_multiple_of(stride) && height > 0 && width > 0)
    {
        let up = Size { height, width }.map(|side| side.max(1).next_multiple_of(stride));
        return Err(PyValueError::new_err(format!("{} takes multiples of {stride}: export {up}", stored.model.name)));
    }
    if batch == Some(0) {
        return Err(PyValueError::new_err("a batch has at least one pair; None is any number"));
    }
    let options = onnx::Options {
        size,
        batch,
        opset,
        precision: if half { onnx::Precision::F16 } else { onnx::Precision::F32 },
        metadata: onnx::metadata(&stored),
        ..onnx::Options::default()
    };
    computed(py, || {
        let mut bytes = Vec::new();
        onnx::export(&stored.model.graph, &stored.weights, &options, &mut bytes).map_err(raise)?;
        io::write_bytes(&path, &bytes).map_err(|error: IoError| FileError::new_err(error.to_string()))
    })?
}

/// Every network by name: ``parameters``, ``stride`` (sides are multiples of it), ``description``, ``paper``, ``builtin`` (whether
/// its weights come along) and ``options`` with their ``values`` and what they decide.
#[pyfunction]
pub fn models(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for name in Model::names() {
        let model = Model::named(name).map_err(raise)?;
        let entry = PyDict::new(py);
        entry.set_item("parameters", model.graph.parameter_count())?;
        entry.set_item("stride", model.stride)?;
        entry.set_item("description", model.description)?;
        entry.set_item("paper", model.paper)?;
        entry.set_item("builtin", open::builtin(Some(name), &[""; 0]).map_err(raise)?.is_some())?;
        let options = PyDict::new(py);
        for option in Model::options_of(name).map_err(raise)? {
            let described = PyDict::new(py);
            described.set_item("values", option.values)?;
            described.set_item("help", option.help)?;
            options.set_item(option.key, described)?;
        }
        entry.set_item("options", options)?;
        all.set_item(name, entry)?;
    }
    Ok(all)
}
