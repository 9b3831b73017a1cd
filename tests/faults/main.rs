//! The fault suite: real processes, a real Kafka, real files, and whatever can happen to them. The oracle is a ledger that
//! the test keeps itself. `docs/faults.md` has a row per fault.
//!
//! | command | runs |
//! | --- | --- |
//! | `cargo test --release --all-features --test faults` | the short suite |
//! | `cargo test --release --all-features --test faults -- --include-ignored` | the long one too |
//! | `NEGSTREAM_KILLS=100 cargo test --release --all-features --test faults sinks::` | a hundred kills while three sinks are published to, each away for 30 seconds now and then |

mod brokers;
mod checkpoints;
mod crew;
mod group;
#[path = "../it/kafka_harness.rs"]
mod kafka_harness;
mod killed;
mod letters;
mod memory;
mod networks;
mod poison;
mod proxy;
mod rebalances;
#[path = "../it/s3.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod s3;
mod secured;
mod shared;
#[path = "../it/sink_servers.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod sink_servers;
mod sinks;
mod soak;
mod stores;
#[path = "../it/stub_registry.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod stub_registry;
#[path = "../it/support.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod support;
