//! State of samplers as named arrays, so that a checkpoint can hold any sampler without knowing it.

use std::collections::BTreeMap;

/// One array.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Rows, places, counts.
    Whole(Vec<u32>),
    /// Weights.
    Real(Vec<f64>),
}

/// Arrays by name. A sampler that is made of others hands each a part of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    prefix: String,
    arrays: BTreeMap<String, Array>,
}

/// Something is missing, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' {problem}")]
pub struct StateDictError {
    /// Of the array.
    pub name: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl StateDict {
    /// Of arrays with their full names.
    pub fn from_arrays(arrays: impl IntoIterator<Item = (String, Array)>) -> Self {
        Self { prefix: String::new(), arrays: arrays.into_iter().collect() }
    }

    /// The arrays with their full names, in the order of these.
    pub fn arrays(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Lets `part` put down, or take back, under names that begin with `name`.
    pub fn within<T>(&mut self, name: &str, part: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('/');
        let result = part(self);
        self.prefix.truncate(length);
        result
    }

    /// Puts down whole numbers.
    pub fn put_whole(&mut self, name: &str, numbers: Vec<u32>) {
        self.arrays.insert(format!("{}{name}", self.prefix), Array::Whole(numbers));
    }

    /// Puts down real numbers.
    pub fn put_real(&mut self, name: &str, numbers: Vec<f64>) {
        self.arrays.insert(format!("{}{name}", self.prefix), Array::Real(numbers));
    }

    /// Takes whole numbers back.
    ///
    /// # Errors
    /// Where there are none.
    pub fn take_whole(&mut self, name: &str) -> Result<Vec<u32>, StateDictError> {
        match self.arrays.remove(&format!("{}{name}", self.prefix)) {
            Some(Array::Whole(numbers)) => Ok(numbers),
            _ => Err(self.error(name, "is missing")),
        }
    }

    /// Takes real numbers back.
    ///
    /// # Errors
    /// Where there are none.
    pub fn take_real(&mut self, name: &str) -> Result<Vec<f64>, StateDictError> {
        match self.arrays.remove(&format!("{}{name}", self.prefix)) {
            Some(Array::Real(numbers)) => Ok(numbers),
            _ => Err(self.error(name, "is missing")),
        }
    }

    /// An error about the array `name`.
    pub fn error(&self, name: &str, problem: &'static str) -> StateDictError {
        StateDictError { name: format!("{}{name}", self.prefix), problem }
    }
}
