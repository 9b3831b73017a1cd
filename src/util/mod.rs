//! What every room may use, and what knows none of them: bytes as text, panics of libraries as errors, the declaration of
//! configuration sections, names that resemble a mistyped one, files and their names or without one, output files, how Parquet is laid out, what
//! may not be shown, tokens, options of object stores, drawings on pages, threads that stay awake, and what this program was built with.

pub mod attentive;
pub mod cargo_feature;
pub mod catch_panic;
pub mod chart;
pub mod colours;
pub mod component;
pub mod config_section;
pub mod credentials;
pub mod encoding;
pub mod escape;
pub mod file_name;
#[cfg(test)]
pub mod generated;
pub mod nearest;
pub mod output_file;
pub mod parquet_layout;
pub mod storage_options;
pub mod temporary;
pub mod token;
