//! What every room may use, and what knows none of them: bytes as text, panics of libraries as errors, and the declaration
//! of configuration sections.

pub mod catch_panic;
pub mod config_section;
pub mod encoding;
pub mod escape;
