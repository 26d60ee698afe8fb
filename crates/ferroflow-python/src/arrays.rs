//! Frames, flows and masks as arrays of NumPy, and back.

use std::sync::Arc;

use ferroflow::{FlowField, Frame, FrameView, Mask, Size};
use numpy::{
    Element, IntoPyArray, PyArray2, PyArray3, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArray3,
    PyUntypedArray, PyUntypedArrayMethods, dtype,
    ndarray::{Array2, Array3, ArrayView3, Axis, Ix2, Ix3},
};
use pyo3::{
    exceptions::{PyException, PyTypeError, PyValueError},
    prelude::*,
};

use crate::error::raise;

/// Kinds of memory that the CPU reads (DLPack's `DLDeviceType`): its own, and memory pinned for CUDA or ROCm.
const READABLE: [i32; 3] = [1, 3, 11];

/// The array that an object is or shows: of NumPy, through DLPack, or through `__array_interface__`. Nothing is copied.
fn array<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let py = object.py();
    let kind = object.get_type().fully_qualified_name()?;
    let numpy = || py.import("numpy");
    let found = if object.hasattr("__dlpack__")? && object.hasattr("__dlpack_device__")? {
        let (device, _): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
        if !READABLE.contains(&device) {
            return Err(PyTypeError::new_err(format!(
                "this {kind} lies in the memory of another device: copy it to the host first (.cpu() of a tensor, .get() of a \
                 CuPy array)"
            )));
        }
        let taken = numpy()?.call_method1("from_dlpack", (object,));
        taken.map_err(|error| match error.is_instance_of::<PyException>(py) {
            true => PyTypeError::new_err(format!("this {kind} cannot be taken through DLPack: {error}")),
            false => error,
        })?
    } else if object.hasattr("__array_interface__")? || object.hasattr("__array__")? {
        numpy()?.call_method1("asarray", (object,))?
    } else {
        return Err(PyTypeError::new_err(format!("an array is needed, of NumPy or with DLPack, not {kind}")));
    };
    Ok(found.cast_into::<PyUntypedArray>()?)
}

/// The array with values where the processor can load them.
fn aligned<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    match array.getattr("flags")?.getattr("aligned")?.extract()? {
        true => Ok(array.clone()),
        false => Ok(array.call_method0("copy")?.cast_into::<PyUntypedArray>()?),
    }
}

fn has<T: Element>(array: &Bound<'_, PyUntypedArray>) -> bool {
    array.dtype().is_equiv_to(&dtype::<T>(array.py()))
}

/// As an array of `T`, which is its type.
fn typed<'py, T: Element>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    Ok(aligned(array)?.cast_into::<PyArrayDyn<T>>()?)
}

fn shaped(error: numpy::ndarray::ShapeError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// One frame, where it is or copied.
pub enum Pixels<'py> {
    /// The array's own bytes, `[height, width, 3]` without gaps.
    Lent(PyReadonlyArray3<'py, u8>),
    /// A frame of the library's.
    Shared(Arc<Frame>),
    /// A copy: of other values, of another number of channels, or without gaps.
    Copied(Frame),
}

impl Pixels<'_> {
    /// The pixels.
    pub fn view(&self) -> PyResult<FrameView<'_>> {
        match self {
            Self::Lent(array) => {
                let &[height, width, _] = array.shape() else {
                    return Err(PyValueError::new_err("a frame has 3 axes"));
                };
                FrameView::new(Size { height, width }, array.as_slice()?).map_err(raise)
            }
            Self::Shared(frame) => Ok((&**frame).into()),
            Self::Copied(frame) => Ok(frame.into()),
        }
    }

    /// A frame of its own.
    pub fn into_frame(self) -> PyResult<Frame> {
        match self {
            Self::Lent(_) => Ok(self.view()?.to_frame()),
            Self::Shared(frame) => Ok(Arc::unwrap_or_clone(frame)),
            Self::Copied(frame) => Ok(frame),
        }
    }
}

/// A frame or a batch of them.
pub enum Frames<'py> {
    /// `[H, W]`, `[H, W, 1]` or `[H, W, 3]`.
    One(Pixels<'py>),
    /// `[N, H, W, 1]` or `[N, H, W, 3]`.
    Batch(Vec<Pixels<'py>>),
}

/// A frame or a batch of them.
pub fn frames<'py>(object: &Bound<'py, PyAny>) -> PyResult<Frames<'py>> {
    let array = array(object)?;
    match array.shape() {
        &[count, ..] if array.ndim() == 4 => (0..count)
            .map(|i| pixels(array.get_item(i)?.cast::<PyUntypedArray>()?))
            .collect::<PyResult<_>>()
            .map(Frames::Batch),
        _ => pixels(&array).map(Frames::One),
    }
}

/// One frame.
pub fn frame<'py>(object: &Bound<'py, PyAny>) -> PyResult<Pixels<'py>> {
    pixels(&array(object)?)
}

fn pixels<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Pixels<'py>> {
    match array.shape() {
        [_, _] | [_, _, 1 | 3] => {}
        shape => {
            let hint = match shape {
                [3, ..] => ": put the channels last, .transpose(1, 2, 0) or .permute(1, 2, 0)",
                [_, _, 4] => ": leave alpha out, frame[..., :3]",
                _ => "",
            };
            return Err(PyValueError::new_err(format!(
                "a frame is [H, W, 3] or grey [H, W], a batch [N, H, W, 3], not {shape:?}{hint}"
            )));
        }
    }
    if has::<u8>(array) {
        if let Ok(three) = array.cast::<PyArray3<u8>>()
            && three.shape()[2] == 3
            && three.is_c_contiguous()
        {
            return Ok(Pixels::Lent(three.try_readonly()?));
        }
        return copied::<u8>(array, Some);
    }
    // 16 bits become 8 as in files: to the nearest.
    if has::<u16>(array) {
        return copied::<u16>(array, |v| Some(((u32::from(v) * 255 + 32767) / 65535) as u8));
    }
    if has::<f32>(array) {
        return copied::<f32>(array, |v| unit(v.into()));
    }
    if has::<f64>(array) {
        return copied::<f64>(array, unit);
    }
    if array.dtype().kind() == b'f' && array.dtype().itemsize() == 2 {
        let single = array.call_method1("astype", ("float32",))?;
        return pixels(single.cast::<PyUntypedArray>()?);
    }
    Err(PyTypeError::new_err(format!(
        "frames are uint8 (0..=255), uint16 (0..=65535) or float (0..=1), not {}",
        array.dtype()
    )))
}

/// A value of 0..=1 in 8 bits; the margin is for what a resize overshoots by rounding.
fn unit(value: f64) -> Option<u8> {
    (-1e-3..=1.001).contains(&value).then(|| (value * 255.0).round() as u8)
}

fn copied<'py, T: Element + Copy>(
    array: &Bound<'py, PyUntypedArray>,
    to_byte: impl Fn(T) -> Option<u8> + Send,
) -> PyResult<Pixels<'py>> {
    let array = typed::<T>(array)?;
    let array = array.try_readonly()?;
    let view = array.as_array();
    let view = match view.ndim() {
        2 => view.insert_axis(Axis(2)),
        _ => view,
    };
    let view = view.into_dimensionality::<Ix3>().map_err(shaped)?;
    let (height, width, _) = view.dim();
    let bytes = array.py().detach(|| bytes(view, to_byte)).ok_or_else(|| {
        PyValueError::new_err("float frames are 0..=1: give what is 0..=255 as uint8, or divide it by 255 (no NaN)")
    })?;
    Ok(Pixels::Copied(Frame::new(Size { height, width }, bytes).map_err(raise)?))
}

fn bytes<T: Copy>(view: ArrayView3<'_, T>, to_byte: impl Fn(T) -> Option<u8>) -> Option<Vec<u8>> {
    let (height, width, channels) = view.dim();
    let mut rgb = Vec::with_capacity(3 * height * width);
    for row in view.outer_iter() {
        for x in 0..width {
            for c in 0..3 {
                rgb.push(to_byte(row[[x, if channels == 3 { c } else { 0 }]])?);
            }
        }
    }
    Some(rgb)
}

/// A flow `[H, W, 2]`. It is unknown where it is not finite, or 1e9 px or more.
pub fn flow(object: &Bound<'_, PyAny>) -> PyResult<FlowField> {
    let array = array(object)?;
    let &[height, width, 2] = array.shape() else {
        let shape = array.shape();
        return Err(PyValueError::new_err(format!("a flow is [H, W, 2], u and v in pixels, not {shape:?}")));
    };
    let size = Size { height, width };
    let planes = if has::<f32>(&array) {
        planes::<f32>(&array, |v| v)?
    } else if has::<f64>(&array) {
        planes::<f64>(&array, |v| v as f32)?
    } else {
        return Err(PyTypeError::new_err(format!("flows are float32 or float64, not {}", array.dtype())));
    };
    let known: Vec<bool> = {
        let (u, v) = planes.split_at(size.pixels());
        u.iter().zip(v).map(|(u, v)| u.abs() < 1e9 && v.abs() < 1e9).collect()
    };
    let flow = FlowField::from_planar(size, planes).map_err(raise)?;
    match known.contains(&false) {
        true => Mask::new(size, known).and_then(|known| flow.with_validity(known)).map_err(raise),
        false => Ok(flow),
    }
}

fn planes<T: Element + Copy>(array: &Bound<'_, PyUntypedArray>, single: impl Fn(T) -> f32) -> PyResult<Vec<f32>> {
    let array = typed::<T>(array)?;
    let array = array.try_readonly()?;
    let view = array.as_array().into_dimensionality::<Ix3>();
    let view = view.map_err(shaped)?;
    Ok(view.permuted_axes([2, 0, 1]).iter().map(|&v| single(v)).collect())
}

/// A mask `[H, W]`: true where it is not 0.
pub fn mask(object: &Bound<'_, PyAny>) -> PyResult<Mask> {
    let array = array(object)?;
    let &[height, width] = array.shape() else {
        return Err(PyValueError::new_err(format!("a mask is [H, W], not {:?}", array.shape())));
    };
    if !has::<bool>(&array) && !has::<u8>(&array) {
        return Err(PyTypeError::new_err(format!("masks are bool or uint8, not {}", array.dtype())));
    }
    let truth = array.call_method1("astype", ("bool",))?.cast_into::<PyArray2<bool>>()?;
    let truth = truth.readonly();
    let data = truth.as_array().into_dimensionality::<Ix2>().map(|view| view.iter().copied().collect());
    let data = data.map_err(shaped)?;
    Mask::new(Size { height, width }, data).map_err(raise)
}

/// The flow as `[H, W, 2]`, NaN where it is unknown: a view of its planes, `[2, H, W]` in memory, which are not copied.
pub fn flow_array(py: Python<'_>, mut flow: FlowField) -> PyResult<Bound<'_, PyArray3<f32>>> {
    let Size { height, width } = flow.size();
    if let Some(known) = flow.validity().cloned() {
        let (u, v) = flow.planes_mut();
        for ((u, v), _) in u.iter_mut().zip(v).zip(known.data()).filter(|(_, known)| !**known) {
            (*u, *v) = (f32::NAN, f32::NAN);
        }
    }
    let planes = Array3::from_shape_vec((2, height, width), flow.into_planar()).map_err(shaped)?;
    Ok(planes.permuted_axes([1, 2, 0]).into_pyarray(py))
}

/// The frame as `[H, W, 3]`, uint8, not copied.
pub fn frame_array(py: Python<'_>, frame: Frame) -> PyResult<Bound<'_, PyArray3<u8>>> {
    let Size { height, width } = frame.size();
    Ok(Array3::from_shape_vec((height, width, 3), frame.into_rgb()).map_err(shaped)?.into_pyarray(py))
}

/// The mask as `[H, W]`, bool, not copied.
pub fn mask_array(py: Python<'_>, mask: Mask) -> PyResult<Bound<'_, PyArray2<bool>>> {
    plane_array(py, mask.size(), mask.into_data())
}

/// Values `[H, W]`, not copied.
pub fn plane_array<T: Element>(py: Python<'_>, size: Size, values: Vec<T>) -> PyResult<Bound<'_, PyArray2<T>>> {
    Ok(Array2::from_shape_vec((size.height, size.width), values).map_err(shaped)?.into_pyarray(py))
}
