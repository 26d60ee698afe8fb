//! Exceptions: the library's errors by the part that reports them, with their own messages.

use std::ffi::CString;

use ferroflow::infer::OpenError;
use pyo3::{
    create_exception,
    exceptions::{PyException, PyUserWarning, PyValueError},
    prelude::*,
};

create_exception!(ferroflow, Error, PyException, "Anything that ferroflow reports; its text says what to do.");
create_exception!(ferroflow, FileError, Error, "A file cannot be read or written.");
create_exception!(ferroflow, NetworkError, Error, "There is no such network or option, or it does not take a size.");
create_exception!(ferroflow, WeightsError, Error, "Weights cannot be read, are another network's, or are damaged.");
create_exception!(ferroflow, DeviceError, Error, "A device is missing or failed.");
create_exception!(ferroflow, DataError, Error, "A video, data set or generator cannot be read as asked.");
create_exception!(ferroflow, EstimateError, Error, "There is no flow of these frames.");
create_exception!(ferroflow, TrainError, Error, "A recipe cannot be followed, or a run stopped.");

/// Warns the user.
pub fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &CString::new(text).unwrap_or_default(), 1)
}

/// The exception for an error of the library.
pub fn raise(error: impl Into<ferroflow::Error>) -> PyErr {
    use ferroflow::Error as E;
    let error = error.into();
    let text = error.to_string();
    match error {
        E::Io(_) | E::Format(_) | E::Output(_) => FileError::new_err(text),
        E::Size(_) | E::ParseSize(_) | E::Metric(_) => PyValueError::new_err(text),
        E::Model(_) | E::Shape(_) | E::Onnx(_) | E::Open(OpenError::Model(_)) => NetworkError::new_err(text),
        E::Weights(_) | E::Store(_) | E::Import(_) | E::Convert(_) | E::Open(_) => WeightsError::new_err(text),
        E::Plan(_) | E::Run(_) | E::Reference(_) | E::Bf16(_) | E::Training(_) => DeviceError::new_err(text),
        E::Data(_) | E::Sequence(_) => DataError::new_err(text),
        E::Estimate(_) | E::Dis(_) | E::Evaluate(_) | E::Submit(_) | E::Offline(_) => EstimateError::new_err(text),
        E::Recipe(_) | E::Train(_) | E::Plot(_) => TrainError::new_err(text),
        _ => Error::new_err(text),
    }
}
