//! State as named arrays, so that a checkpoint can hold samplers, objectives and row lifecycles without knowing them.
//!
//! Names are paths (`noise/mixture/0/counts`): a component that is made of others gives each of them a scope of its own.

use std::collections::BTreeMap;

/// The numbers under one name.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Rows, places or counts.
    U32(Vec<u32>),
    /// Weights or sums.
    F64(Vec<f64>),
}

/// The state of components: arrays by name, seen from the scope that is entered ([`Self::scope`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    prefix: String,
    arrays: BTreeMap<String, Array>,
}

/// An array is missing, or its numbers cannot be a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' {problem}")]
pub struct StateDictError {
    /// The full name of the array.
    pub name: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl StateDict {
    /// A state that consists of `arrays`, given with their full names.
    pub fn from_arrays(arrays: impl IntoIterator<Item = (String, Array)>) -> Self {
        Self { prefix: String::new(), arrays: arrays.into_iter().collect() }
    }

    /// The arrays with their full names, in the order of the names.
    pub fn arrays(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Runs `part` in the scope `name`: the names that it puts and takes begin with `name/`.
    pub fn scope<T>(&mut self, name: &str, part: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('/');
        let result = part(self);
        self.prefix.truncate(length);
        result
    }

    /// Adds an array of whole numbers.
    pub fn put_u32(&mut self, name: &str, numbers: Vec<u32>) {
        self.arrays.insert(format!("{}{name}", self.prefix), Array::U32(numbers));
    }

    /// Adds an array of real numbers.
    pub fn put_f64(&mut self, name: &str, numbers: Vec<f64>) {
        self.arrays.insert(format!("{}{name}", self.prefix), Array::F64(numbers));
    }

    /// Removes an array of whole numbers, and gives it.
    ///
    /// # Errors
    /// The state has no such array of whole numbers.
    pub fn take_u32(&mut self, name: &str) -> Result<Vec<u32>, StateDictError> {
        match self.arrays.remove(&format!("{}{name}", self.prefix)) {
            Some(Array::U32(numbers)) => Ok(numbers),
            _ => Err(self.error(name, "is missing")),
        }
    }

    /// Removes an array of real numbers, and gives it.
    ///
    /// # Errors
    /// The state has no such array of real numbers.
    pub fn take_f64(&mut self, name: &str) -> Result<Vec<f64>, StateDictError> {
        match self.arrays.remove(&format!("{}{name}", self.prefix)) {
            Some(Array::F64(numbers)) => Ok(numbers),
            _ => Err(self.error(name, "is missing")),
        }
    }

    /// An error about the array `name`.
    pub fn error(&self, name: &str, problem: &'static str) -> StateDictError {
        StateDictError { name: format!("{}{name}", self.prefix), problem }
    }
}
