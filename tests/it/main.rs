//! One binary for all integration tests.

mod alerts;
mod bad_input;
mod browser;
mod cargo_features;
mod cases;
mod checkpoints;
mod cli;
mod compare;
mod demo;
#[cfg(feature = "full")]
mod doc_blocks;
mod doctor;
mod evaluator;
mod examples;
mod export;
mod features;
mod files;
mod forged;
#[cfg(feature = "full")]
mod fresh_items;
mod http;
mod import;
mod kafka_harness;
mod kafka_live;
mod kafka_replay;
mod kafka_sense;
#[cfg(feature = "full")]
mod kafka_sink;
#[cfg(feature = "full")]
mod kafka_sink_avro;
mod kafka_source;
mod kafka_topics;
mod kafka_trouble;
mod logs;
mod misconfigured;
mod negatives;
mod objectives;
#[cfg(feature = "full")]
mod parquet_sink;
mod planted;
mod promql;
mod public_logs;
mod publish;
#[cfg(feature = "full")]
mod publish_commands;
#[cfg(feature = "full")]
mod publish_faults;
#[cfg(feature = "full")]
mod publish_servers;
mod python;
mod quality;
mod recommend;
mod recovery;
mod reference;
#[cfg(feature = "full")]
mod remote_logs;
mod replay;
#[cfg(feature = "full")]
#[expect(dead_code, reason = "shared with the fault suite, which uses more of it")]
mod s3;
#[cfg(feature = "full")]
mod schemas;
mod secrets;
mod serve;
#[cfg(feature = "full")]
mod sink_servers;
#[cfg(feature = "full")]
mod sinks;
#[cfg(feature = "full")]
mod sinks_f16;
mod sparse;
#[cfg(feature = "full")]
mod stub_registry;
#[expect(dead_code, reason = "shared with the fault suite, which uses more of it")]
mod support;
mod text_logs;
mod tidy;
mod tune;
#[cfg(feature = "full")]
mod web_server;
mod writers;
