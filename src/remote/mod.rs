//! How object stores and web servers are reached: connections, repetitions, credentials, and files that are read there by
//! ranges. What lies there, and where, is the business of whoever asks.
//!
//! Everything waits: requests make progress on a thread of their own (`runtime`), and no other room needs to know of it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`runtime`] | the thread on which requests make progress |
//! | [`connection`] | connections that give up after a timeout |
//! | [`retry`] | how often a store is asked |
//! | [`stores`] | the stores: S3, Google's, Azure's, with their options |
//! | [`client`] | what all files of a command share: the thread, the connections, the cache |
//! | [`bucket`] | the objects of a bucket: one by its key, all below a prefix |
//! | [`web`] | a file of a web server |
//! | [`file`] | a file that is read by ranges, wherever it lies |
//! | [`cache`] | what was read of such files, and read ahead |
//! | [`error`] | what can go wrong, with what to do about it |

pub mod bucket;
pub mod cache;
pub mod client;
pub mod connection;
pub mod error;
pub mod file;
pub mod retry;
pub mod runtime;
pub mod stores;
#[cfg(feature = "http")]
pub mod web;
