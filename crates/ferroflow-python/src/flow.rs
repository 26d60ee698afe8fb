//! Files, pictures and measures of flow.

use std::path::PathBuf;

use ferroflow::{
    Frame,
    core::{
        consistency::Sundaram,
        io,
        metrics::{Bands, Metrics, Tally, Truth},
        viz::{self, Colours, Normalisation, Scaler, Zero},
    },
};
use numpy::{PyArray2, PyArray3};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

use crate::{
    arrays::{self, flow_array, frame_array, mask_array, plane_array},
    error::raise,
    process::computed,
};

/// The flow of a file, by its content: ``.flo``, ``.pfm``, KITTI's ``.png``, ``.npy``, ``.npz``, OpenEXR, Spring's ``.flo5``.
///
/// Returns:
///     float32 ``[H, W, 2]``, pixels; NaN where it is unknown.
#[pyfunction]
pub fn read_flow(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyArray3<f32>>> {
    flow_array(py, computed(py, || io::read_flow(path))?.map_err(raise)?)
}

/// Writes a flow in the format of the extension: ``.flo``, ``.pfm``, ``.png`` (KITTI), ``.npy``, ``.npz``, ``.exr``.
///
/// Args:
///     path: The file.
///     flow: float ``[H, W, 2]``, pixels; not finite, or 1e9 or more, where it is unknown.
///     clip: Cut vectors to what KITTI's format holds, 512 px, instead of refusing them.
#[pyfunction]
#[pyo3(signature = (path, flow, *, clip=false))]
pub fn write_flow(py: Python<'_>, path: PathBuf, flow: &Bound<'_, PyAny>, clip: bool) -> PyResult<()> {
    let flow = arrays::flow(flow)?;
    computed(py, || io::write_flow_within(path, &flow, clip))?.map_err(raise)?;
    Ok(())
}

/// The image of a file: uint8 ``[H, W, 3]``, RGB, turned as its EXIF tag says. PNG, JPEG, PNM, BMP, TIFF, WebP and GIF.
#[pyfunction]
pub fn read_image(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyArray3<u8>>> {
    frame_array(py, computed(py, || io::read_frame(path))?.map_err(raise)?)
}

/// Writes an image, ``[H, W, 3]`` or ``[H, W]``, in the format of the extension: png, jpg, ppm, bmp, tif or webp.
#[pyfunction]
pub fn write_image(py: Python<'_>, path: PathBuf, image: &Bound<'_, PyAny>) -> PyResult<()> {
    let image = arrays::frame(image)?.into_frame()?;
    computed(py, || io::write_frame(path, &image))?.map_err(raise)
}

/// A picture of a flow: uint8 ``[H, W, 3]``, RGB; unknown pixels are black.
///
/// Args:
///     flow: float ``[H, W, 2]``, pixels.
///     style: ``"wheel"`` (Middlebury's colours, exactly), ``"hsv"`` or ``"rgb"``.
///     scale: The length that is painted at full strength, pixels. Default: that of the longest vector.
#[pyfunction]
#[pyo3(signature = (flow, *, style="wheel", scale=None))]
pub fn colorize<'py>(flow: &Bound<'py, PyAny>, style: &str, scale: Option<f64>) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = flow.py();
    let colours = match style {
        "wheel" => Colours::default(),
        "hsv" => Colours::Hsv { zero: Zero::White },
        "rgb" => Colours::LightFlow,
        other => return Err(PyValueError::new_err(format!("style is \"wheel\", \"hsv\" or \"rgb\", not {other:?}"))),
    };
    let norm = match scale {
        None => Normalisation::Frame,
        Some(pixels) if pixels > 0.0 && pixels.is_finite() => Normalisation::Fixed(pixels),
        Some(other) => return Err(PyValueError::new_err(format!("scale is a length above 0 px, not {other}"))),
    };
    let flow = arrays::flow(flow)?;
    frame_array(py, computed(py, || viz::picture(&flow, colours, &mut Scaler::new(norm)))?)
}

/// The second frame brought back along the flow, so that it looks like the first one.
///
/// Args:
///     frame: The second frame, as for :class:`Estimator`.
///     flow: float ``[H, W, 2]`` from the first frame, pixels.
///
/// Returns:
///     uint8 ``[H, W, 3]``, and bool ``[H, W]``: where the flow leads into the frame. Elsewhere the picture is black.
#[pyfunction]
pub fn warp<'py>(
    frame: &Bound<'py, PyAny>,
    flow: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyArray3<u8>>, Bound<'py, PyArray2<bool>>)> {
    let py = frame.py();
    let (frame, flow): (Frame, _) = (arrays::frame(frame)?.into_frame()?, arrays::flow(flow)?);
    if frame.size().pixels() == 0 {
        return Err(PyValueError::new_err("the frame has no pixels"));
    }
    let (warped, seen) = computed(py, || viz::warp(&frame, &flow))?;
    Ok((frame_array(py, warped)?, mask_array(py, seen)?))
}

/// How wrong a flow is: ``epe`` (px), ``px1``, ``px3``, ``px5`` and ``fl`` (% of pixels), ``aae`` (degrees), ``wauc``, ``s0_10``,
/// ``s10_40``, ``s40_plus``, ``matched``, ``unmatched``, ``d0_10``, ``d10_60`` and ``d60_140`` (px), ``density`` (%) and ``unanswered``
/// (pixels); ``fl_bg`` and ``fl_fg`` are for data with object maps. A figure is None where no pixel contributes.
///
/// Args:
///     estimate, truth: float ``[H, W, 2]``, pixels; not finite where unknown.
///     valid: Score only where this mask ``[H, W]`` is true.
///     occluded: Pixels that are not visible in the second frame, ``[H, W]``, for ``matched``, ``unmatched`` and the bands of distance to their
///         boundaries.
#[pyfunction]
#[pyo3(signature = (estimate, truth, *, valid=None, occluded=None))]
pub fn metrics<'py>(
    estimate: &Bound<'py, PyAny>,
    truth: &Bound<'py, PyAny>,
    valid: Option<&Bound<'py, PyAny>>,
    occluded: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = estimate.py();
    let (estimate, flow) = (arrays::flow(estimate)?, arrays::flow(truth)?);
    let (valid, occluded) = (valid.map(arrays::mask).transpose()?, occluded.map(arrays::mask).transpose()?);
    let mut truth = Truth::new(&flow);
    if let Some(valid) = &valid {
        truth = truth.only(valid);
    }
    let bands = occluded.as_ref().map(Bands::around);
    if let (Some(occluded), Some(bands)) = (&occluded, &bands) {
        truth = truth.occluded(occluded).bands(bands);
    }
    let tally = computed(py, || Tally::of(&estimate, &truth).and_then(Tally::scorable))?.map_err(raise)?;
    let figures = PyDict::new(py);
    for (name, unit, value) in Metrics::of(&tally).rows() {
        match (unit, value) {
            ("pixels", Some(count)) => figures.set_item(name, count as u64)?,
            (_, value) => figures.set_item(name, value)?,
        }
    }
    Ok(figures)
}

/// Which pixels of the first frame do not come back to themselves, there by one flow and back by the other (Sundaram et al. 2010).
///
/// Args:
///     forward, backward: float ``[H, W, 2]``, pixels.
///     alpha1, alpha2: A pixel is occluded if ``|f + b|^2 > alpha1 (|f|^2 + |b|^2) + alpha2``.
///
/// Returns:
///     ``occluded``, bool ``[H, W]``; ``error``, ``|f + b|`` in pixels, and ``confidence``, 0 to 1, float32 ``[H, W]``.
#[pyfunction]
#[pyo3(signature = (forward, backward, *, alpha1=0.01, alpha2=0.5))]
pub fn consistency<'py>(
    forward: &Bound<'py, PyAny>,
    backward: &Bound<'py, PyAny>,
    alpha1: f32,
    alpha2: f32,
) -> PyResult<(Bound<'py, PyArray2<bool>>, Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>)> {
    let py = forward.py();
    let (forward, backward) = (arrays::flow(forward)?, arrays::flow(backward)?);
    let found = computed(py, || Sundaram { alpha1, alpha2 }.check(&forward, &backward))?.map_err(raise)?;
    let size = forward.size();
    Ok((mask_array(py, found.occluded)?, plane_array(py, size, found.error)?, plane_array(py, size, found.confidence)?))
}
