//! `calc_optical_flow`: for programs that call OpenCV.

use ferroflow::infer;
use numpy::{PyArray3, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    arrays::{self, flow_array},
    error::raise,
    estimator::Estimator,
    process::{EachProcess, computed, prepared},
};

/// Dense flow in the way of OpenCV's functions: ``flow = calc_optical_flow(prev, next)``.
///
/// Args:
///     prev, next: Grey ``[H, W]``, or ``[H, W, 3]`` in OpenCV's order, BGR.
///     flow: A float32 array ``[H, W, 2]`` to write to, or None.
///     estimator: What estimates. Default: ``Estimator()``, made once.
///
/// Returns:
///     float32 ``[H, W, 2]``, contiguous.
#[pyfunction]
#[pyo3(signature = (prev, next, flow=None, *, estimator=None))]
pub fn calc_optical_flow<'py>(
    prev: &Bound<'py, PyAny>,
    next: &Bound<'py, PyAny>,
    flow: Option<&Bound<'py, PyAny>>,
    estimator: Option<&Bound<'py, Estimator>>,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    static DEFAULT: EachProcess<infer::Estimator> = EachProcess::new();
    let py = prev.py();
    let estimator = match estimator {
        Some(estimator) => estimator.get().made(py)?,
        None => DEFAULT.get(py, || prepared(py, infer::Estimator::builtin)?.map_err(raise))?,
    };
    let mut pair = [arrays::frame(prev)?.into_frame()?, arrays::frame(next)?.into_frame()?];
    for pixel in pair.iter_mut().flat_map(|frame| frame.rgb_mut().chunks_exact_mut(3)) {
        pixel.swap(0, 2);
    }
    let found = computed(py, || estimator.estimate(&pair[0], &pair[1]))?.map_err(raise)?;
    let found = flow_array(py, found)?;
    let out = match flow {
        None => PyArray3::zeros(py, found.dims(), false),
        Some(flow) => match flow.cast::<PyArray3<f32>>() {
            Ok(out) if out.shape() == found.shape() => out.clone(),
            _ => {
                let shape = found.shape();
                return Err(PyValueError::new_err(format!("flow is an array of float32 of shape {shape:?}, or None")));
            }
        },
    };
    let mut writable = out.try_readwrite().map_err(|error| PyValueError::new_err(format!("flow: {error}")))?;
    writable.as_array_mut().assign(&found.readonly().as_array());
    drop(writable);
    Ok(out)
}
