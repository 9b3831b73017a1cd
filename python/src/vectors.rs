//! The item vectors that samplers look at: those of a checkpoint's model, or an array of the caller's, read where it lies.

use negstream::model::Model;
use negstream::negatives::Vectors;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Where vectors come from.
#[derive(Debug)]
pub enum StreamVectors {
    /// Nobody gave any; they have so many numbers.
    Missing {
        /// Numbers in a vector.
        dim: usize,
    },
    /// An array of the caller's: what is trained in place is seen at once.
    Array(ItemArray),
    /// A model that stands still.
    Model(Box<Model>),
}

/// An array of float32, a row for each item.
pub struct ItemArray {
    buffer: PyBuffer<f32>,
    rows: usize,
    dim: usize,
    inverse_temperature: f32,
    beta: f32,
}

impl std::fmt::Debug for ItemArray {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ItemArray").field("rows", &self.rows).field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl ItemArray {
    /// The array `vectors`, of two dimensions and contiguous.
    pub fn new(vectors: &Bound<'_, PyAny>, temperature: f32, beta: f32) -> PyResult<Self> {
        let wrong = || PyTypeError::new_err("vectors have to be a contiguous array of float32, a row for each item");
        let buffer = PyBuffer::<f32>::get(vectors).map_err(|_| wrong())?;
        let [rows, dim] = *buffer.shape() else { return Err(wrong()) };
        if !buffer.is_c_contiguous() || dim == 0 {
            return Err(wrong());
        }
        if !(temperature > 0.0 && temperature.is_finite() && beta.is_finite()) {
            return Err(PyValueError::new_err("the temperature has to be positive, and beta finite"));
        }
        Ok(Self { buffer, rows, dim, inverse_temperature: temperature.recip(), beta })
    }

    /// Reads the row of `item`, which is one of them.
    #[expect(unsafe_code, reason = "an array of the caller's can be read where it lies by its address alone")]
    fn read(&self, item: usize, out: &mut [f32]) {
        for (column, out) in out.iter_mut().enumerate() {
            let place: *const f32 = self.buffer.get_ptr(&[item, column]).cast();
            // SAFETY: the buffer is held, has two dimensions and is of aligned float32; item and column are within its shape.
            // Another thread may write at the same time, as an optimizer does: then it is the number of before or after.
            *out = unsafe { place.read_volatile() };
        }
    }
}

impl StreamVectors {
    /// Whether there are vectors to look at.
    pub fn are_there(&self) -> bool {
        !matches!(self, Self::Missing { .. })
    }
}

impl Vectors for StreamVectors {
    fn dim(&self) -> usize {
        match self {
            Self::Missing { dim } => *dim,
            Self::Array(array) => array.dim,
            Self::Model(model) => model.dim(),
        }
    }

    /// Items that came later than the vectors have zeros.
    fn vector(&self, item: u32, out: &mut [f32]) {
        out.fill(0.0);
        let item = item as usize;
        match self {
            Self::Array(array) if item < array.rows => array.read(item, out),
            Self::Model(model) if item < model.items.values.len() => Vectors::vector(&**model, item as u32, out),
            _ => {}
        }
    }

    fn inverse_temperature(&self) -> f32 {
        match self {
            Self::Missing { .. } => 1.0,
            Self::Array(array) => array.inverse_temperature,
            Self::Model(model) => model.inverse_temperature(),
        }
    }

    fn beta(&self) -> f32 {
        match self {
            Self::Missing { .. } => 1.0,
            Self::Array(array) => array.beta,
            Self::Model(model) => model.beta(),
        }
    }
}
