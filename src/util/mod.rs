//! What every room may use, and what knows none of them: bytes as text, and panics of libraries as errors.

pub mod catch_panic;
pub mod encoding;
pub mod escape;
