//! One binary for all integration tests.

mod bad_input;
mod cli;
mod demo;
mod evaluator;
mod features;
mod files;
mod kafka_harness;
mod kafka_replay;
mod kafka_source;
mod kafka_trouble;
mod negatives;
mod objectives;
mod python;
mod quality;
mod recovery;
mod replay;
mod schemas;
mod stub_registry;
mod support;
mod tidy;
