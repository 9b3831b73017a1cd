//! Arrays of the buffer protocol, as NumPy's are, without NumPy as a dependency: ids and flags in, draws out.

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// The largest id of an item or user that is taken; memory grows with it, since ids are places.
pub const LARGEST_ID: i64 = (1 << 31) - 2;

/// The numbers of an array of one type; `None` where it is of another.
fn numbers<T: Element, U>(array: &Bound<'_, PyAny>, read: impl Fn(T) -> PyResult<U>) -> Option<PyResult<Vec<U>>> {
    let buffer = PyBuffer::<T>::get(array).ok()?;
    Some(buffer.to_vec(array.py()).and_then(|numbers| numbers.into_iter().map(read).collect()))
}

/// An id as a row.
fn id(number: i64) -> PyResult<u32> {
    match number {
        0..=LARGEST_ID => Ok(number as u32),
        _ => Err(PyValueError::new_err(format!("ids are whole numbers from 0 to {LARGEST_ID}, not {number}"))),
    }
}

/// The ids of an array of whole numbers.
pub fn ids(array: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let unsigned = |number: u64| id(i64::try_from(number).unwrap_or(i64::MAX));
    numbers::<i64, _>(array, id)
        .or_else(|| numbers::<i32, _>(array, |number| id(number.into())))
        .or_else(|| numbers::<u32, _>(array, |number| id(number.into())))
        .or_else(|| numbers::<u64, _>(array, unsigned))
        .unwrap_or_else(|| Err(PyTypeError::new_err("ids have to be an array of 32 or 64-bit whole numbers")))
}

/// The times of an array, in milliseconds since 1970 UTC.
pub fn times(array: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    let read = numbers::<i64, _>(array, Ok);
    read.unwrap_or_else(|| Err(PyTypeError::new_err("timestamps have to be an array of int64, in milliseconds")))
}

/// The flags of an array of bytes.
pub fn flags(array: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    let read = numbers::<u8, _>(array, |flag| Ok(flag != 0));
    read.unwrap_or_else(|| Err(PyTypeError::new_err("flags have to be an array of uint8")))
}

/// The numbers of an array of float32.
pub fn floats(array: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let read = numbers::<f32, _>(array, Ok);
    read.unwrap_or_else(|| Err(PyTypeError::new_err("vectors have to be an array of float32")))
}

/// Writes `values` into an array that has as many places.
pub fn fill<T: Element>(array: &Bound<'_, PyAny>, values: impl Iterator<Item = T>) -> PyResult<()> {
    let values: Vec<T> = values.collect();
    PyBuffer::<T>::get(array)?.copy_from_slice(array.py(), &values)
}
