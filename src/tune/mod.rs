//! A search for better settings by successive halving: what is tried, and who goes on. Running it is the command's.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `space` | the declared ranges and choices, and the draws from them |
//! | `halving` | how many settings meet in each rung, on how much of the log, and which of them go on |

pub mod halving;
pub mod space;
