//! \[5\] The objective: what the model is trained to do.
//!
//! The score of item c for a user u with query q is
//!
//! ```text
//! f(q, c) = s(q, c)/τ + β·log q̂(c) + ρ(u, c)
//! ```
//!
//! with the likeness s, the popularity term β and the repetition term ρ. [`score`] holds the query and its gradient,
//! [`repetition`] the term ρ, and [`info_nce`] the loss, handing the dense arithmetic to [`crate::kernel`].

pub mod info_nce;
pub mod repetition;
mod scatter;
pub mod score;

#[cfg(test)]
mod tests;
