//! negstream turns a live stream of user–item interactions into recommendation embeddings that are seconds old.
#![deny(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod context;
pub mod decode;
pub mod evaluate;
pub mod event;
pub mod kernel;
pub mod negatives;
pub mod objective;
pub mod position;
pub mod signals;
pub mod source;
pub mod synth;
pub mod table;
pub mod telemetry;
pub mod trainer;
