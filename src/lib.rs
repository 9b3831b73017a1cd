//! negstream turns a live stream of user–item interactions into recommendation embeddings that are seconds old.
#![deny(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod dead_letters;
pub mod decode;
pub mod evaluate;
pub mod event;
pub mod exit;
pub mod kafka;
pub mod kernel;
pub mod negatives;
pub mod objective;
pub mod position;
pub mod reporter;
pub mod signals;
pub mod source;
pub mod synth;
pub mod table;
pub mod telemetry;
pub mod trainer;
pub mod worker;
