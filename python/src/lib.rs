//! `negstream._native`: what the Python package `negstream` cannot say in Python.
//!
//! | file | what Python gets |
//! | --- | --- |
//! | `program` | the whole program, as the command line has it |
//! | `model` | a checkpoint that is asked in this process: lists, neighbours, queries |
//! | `stream` | samplers, the bank and candidate sets on a stream of the caller's own |
//! | `vectors` | the caller's item vectors, read where they lie |
//! | `state` | a stream's state to and from bytes |
//! | `arrays` | arrays of the buffer protocol in and out, without NumPy as a dependency |
//! | `failure` | errors as the package's exceptions |
//!
//! Signatures are in `python/negstream/_native.pyi`. Nothing here is an interface: the package's modules wrap all of it.

mod arrays;
mod failure;
mod model;
mod program;
mod state;
mod stream;
mod vectors;

use pyo3::prelude::*;

/// The module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::program::{main, samplers, version};
    #[pymodule_export]
    use super::stream::Stream;
}
