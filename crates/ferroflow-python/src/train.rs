//! `train` and `resume`: the library's loop, with its events as dictionaries.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ferroflow::{
    CpuOptions, Recipe, Run,
    train::{Event, TrainError, recipe::SHIPPED},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde::Serialize;

use crate::{
    error::{self, raise},
    estimator::{device, threads},
    process::has_global_pool,
};

/// Trains a network by a recipe, in a folder of its own, and returns how it ended: ``step``, ``finished``, ``scores`` and ``best``.
/// ``out/weights/last.safetensors`` and ``best.safetensors`` are then what :class:`Estimator` takes.
///
/// Ctrl-C saves and stops, and so does an exception in ``callback``; both are raised when all is saved.
///
/// Args:
///     recipe: The name of a recipe that comes along (``recipes()``), a TOML file, or a dict with the keys of one.
///     out: Folder for the run, which must not hold a run already.
///     callback: Called with each event, a dict: ``{"event": "step", "step": 3, "loss": 0.7, ...}``. The others are ``started``,
///         ``epoch``, ``validated``, ``saved``, ``logged``, ``note`` and ``warning``. If it returns False, the run is saved and stops.
///     device, threads: As for :class:`Estimator`.
///     changes: Keys of the recipe: ``steps=20``, ``crop=(64, 64)`` (height, width), ``schedule="cosine"``, ``data=["a.mp4"]``.
#[pyfunction]
#[pyo3(signature = (recipe, out, *, callback=None, device="cpu", threads=None, **changes))]
pub fn train<'py>(
    py: Python<'py>,
    recipe: &Bound<'py, PyAny>,
    out: PathBuf,
    callback: Option<Bound<'py, PyAny>>,
    device: &str,
    threads: Option<usize>,
    changes: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let changes = self::changes(changes)?;
    let recipe = match recipe.cast::<PyDict>() {
        Ok(keys) => {
            let keys: Vec<String> = self::changes(Some(keys))?.into_iter().chain(changes).collect();
            Recipe::parse("recipe", "", &keys)
        }
        Err(_) => {
            let name: PathBuf =
                recipe.extract().map_err(|_| PyTypeError::new_err("recipe is a name, a path or a dict"))?;
            Recipe::open(&name.to_string_lossy(), &changes)
        }
    };
    let recipe = recipe.map_err(raise)?;
    run(py, || Run::new(recipe, &out), callback, device, threads)
}

/// Goes on with the run in ``out`` from its newest checkpoint, to the same weights, bit for bit, as if it had not stopped.
///
/// Args:
///     out: The folder of the run.
///     callback, device, threads, changes: As for :func:`train`.
#[pyfunction]
#[pyo3(signature = (out, *, callback=None, device="cpu", threads=None, **changes))]
pub fn resume<'py>(
    py: Python<'py>,
    out: PathBuf,
    callback: Option<Bound<'py, PyAny>>,
    device: &str,
    threads: Option<usize>,
    changes: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let changes = self::changes(changes)?;
    run(py, || Run::resume(&out, &changes), callback, device, threads)
}

/// The recipes that come along, with what each is for.
#[pyfunction]
pub fn recipes(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    SHIPPED.iter().try_for_each(|recipe| all.set_item(recipe.name, recipe.description()))?;
    Ok(all)
}

fn run<'py>(
    py: Python<'py>,
    start: impl FnOnce() -> Result<Run, TrainError> + Send,
    callback: Option<Bound<'py, PyAny>>,
    device: &str,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let device = self::device(device, CpuOptions { threads: self::threads(threads)?, ..CpuOptions::default() })?;
    if !has_global_pool() {
        return Err(error::TrainError::new_err(
            "this process was forked from one whose threads it would need: start it with multiprocessing.get_context(\"spawn\")",
        ));
    }
    let callback = callback.map(Bound::unbind);
    let stop = Arc::new(AtomicBool::new(false));
    let mut failed: Option<PyErr> = None;
    let outcome = py.detach(|| {
        let run = start().map_err(raise)?;
        let mut watch = |event: Event| {
            if failed.is_some() {
                return;
            }
            let told = Python::attach(|py| {
                py.check_signals()?;
                let Some(callback) = &callback else { return Ok(true) };
                let Some(event) = described(py, &event)? else { return Ok(true) };
                let answer = callback.bind(py).call1((event,))?;
                Ok(!answer.cast::<PyBool>().is_ok_and(|answer| !answer.is_true()))
            });
            match told {
                Ok(true) => {}
                Ok(false) => stop.store(true, Ordering::Relaxed),
                Err(error) => {
                    failed = Some(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        run.train(&device, &stop, &mut watch).map_err(raise)
    });
    match failed {
        Some(error) => Err(error),
        None => python(py, &outcome?),
    }
}

/// What the library writes to its logs, as Python has it.
fn python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

/// The event as a dictionary; `None` for kinds that this version does not know.
fn described<'py>(py: Python<'py>, event: &Event<'_>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let dict = PyDict::new(py);
    let name = match event {
        Event::Started { step, trained, random } => {
            dict.set_item("step", step)?;
            dict.set_item("trained", trained)?;
            dict.set_item("random", random)?;
            "started"
        }
        Event::Step { step, loss, epe, lr, waiting, samples_per_second } => {
            dict.set_item("step", step)?;
            dict.set_item("loss", loss)?;
            dict.set_item("epe", epe)?;
            dict.set_item("lr", lr)?;
            dict.set_item("waiting", waiting)?;
            dict.set_item("samples_per_second", samples_per_second)?;
            "step"
        }
        Event::Epoch { epoch, loss, lr, seconds_per_step } => {
            dict.set_item("epoch", epoch)?;
            dict.set_item("loss", loss)?;
            dict.set_item("lr", lr)?;
            dict.set_item("seconds_per_step", seconds_per_step)?;
            "epoch"
        }
        Event::Validated { step, scores, best } => {
            dict.set_item("step", step)?;
            dict.set_item("scores", python(py, scores)?)?;
            dict.set_item("best", best)?;
            "validated"
        }
        Event::Saved(path) => {
            dict.set_item("path", path.as_os_str())?;
            "saved"
        }
        Event::Logged(report) => {
            dict.update(python(py, report)?.cast::<PyDict>()?.as_mapping())?;
            "logged"
        }
        Event::Note(text) => {
            dict.set_item("text", text)?;
            "note"
        }
        Event::Warning(text) => {
            dict.set_item("text", text)?;
            "warning"
        }
        _ => return Ok(None),
    };
    dict.set_item("event", name)?;
    Ok(Some(dict))
}

/// `key=value` with the value in TOML.
fn changes(changes: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<String>> {
    let changes = changes.into_iter().flat_map(|changes| changes.iter());
    changes.map(|(key, value)| Ok(format!("{}={}", key.extract::<String>()?, toml(&value)?))).collect()
}

/// A value in TOML; a pair of numbers is a size, height x width.
fn toml(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| PyValueError::new_err(error.to_string()));
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(truth.is_true().to_string());
    }
    if value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>() {
        return Ok(value.repr()?.to_string());
    }
    if let Ok(text) = value.cast::<PyString>() {
        return quoted(&text.to_cow()?);
    }
    if value.is_instance_of::<PyTuple>() {
        let (height, width): (u64, u64) = value.extract()?;
        return quoted(&format!("{height}x{width}"));
    }
    if let Ok(list) = value.cast::<PyList>() {
        let items: Vec<String> = list.iter().map(|item| toml(&item)).collect::<PyResult<_>>()?;
        return Ok(format!("[{}]", items.join(", ")));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let entries =
            dict.iter().map(|(key, value)| Ok(format!("{} = {}", quoted(&key.extract::<String>()?)?, toml(&value)?)));
        return Ok(format!("{{ {} }}", entries.collect::<PyResult<Vec<_>>>()?.join(", ")));
    }
    match value.extract::<PathBuf>() {
        Ok(path) => quoted(&path.to_string_lossy()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "a recipe has text, numbers, truth, lists, dicts and sizes (height, width), not {}",
            value.get_type().fully_qualified_name()?
        ))),
    }
}
