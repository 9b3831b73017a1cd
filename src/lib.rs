//! negstream turns a live stream of user–item interactions into recommendation embeddings that are seconds old.
#![forbid(missing_docs)]

pub mod config;
pub mod dead_letters;
pub mod decode;
pub mod event;
pub mod kafka;
pub mod position;
pub mod source;
