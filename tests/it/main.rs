//! One binary for all integration tests.

mod evaluator;
mod files;
mod kafka_harness;
mod kafka_source;
mod kafka_trouble;
mod quality;
mod recovery;
mod support;
