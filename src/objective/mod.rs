//! \[5\] The objective: what the model is trained to do.
//!
//! The score of item c for a user u with query q is
//!
//! ```text
//! f(q, c) = s(q, c)/τ + β·log q̂(c) + ρ(u, c)
//! ```
//!
//! with the likeness s, the popularity term β and the repetition term ρ. [`score`] makes the query,
//! [`repetition`] the term ρ, and [`info_nce`] the loss: `problem` lays out what the kernel is given, [`crate::kernel`]
//! does the dense arithmetic, and `scatter` brings its gradients back to the rows.

pub mod i2i;
pub mod info_nce;
mod problem;
pub mod repetition;
mod scatter;
pub mod score;

#[cfg(test)]
mod tests;
