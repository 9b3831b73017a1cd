//! One binary for all integration tests.

mod files;
mod kafka_harness;
mod kafka_source;
mod kafka_trouble;
