//! [2] Decoding: bytes and columns to interactions.

pub mod rows;
