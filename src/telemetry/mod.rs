//! \[9\] Telemetry: what the worker shows of itself, and where.
//!
//! The trainer publishes one [`status::Status`] about twice a second; everything else reads it. So a page, a scrape and
//! a log line never disagree, and none of them can hold the trainer up.
//!
//! | part | for whom |
//! | --- | --- |
//! | [`status`] | the plain data, and the handle that carries it from the trainer to whoever shows it |
//! | [`metrics`] | Prometheus: one closed list of names |
//! | [`health`] | an orchestrator: is it alive, is it ready |
//! | [`http`] | the address that serves all of that, and the page for people |
//! | [`logging`] | lines on standard error |
//! | [`process`] | what the operating system says of the process |
//!
//! It knows of the crate only events and configuration. Identifiers of users and items never become labels, and
//! whatever comes from outside is escaped where it is shown.

mod config;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod status;

pub use config::{HttpConfig, LogConfig, LogFormat};
