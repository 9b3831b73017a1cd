//! Item–item positives: which pairs of a user's items belong together, and how much each may count.

pub mod evidence;

#[cfg(test)]
mod tests;
