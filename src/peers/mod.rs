//! Peers: rankings by counting alone, which every model is held against. No weights are learnt; history is exact to the event.
//!
//! | peer | scores an item by |
//! | --- | --- |
//! | popularity, recent popularity | how often it came, of late or ever |
//! | own history | how often the user had it, decayed; then popularity |
//! | own transitions | what the user took after their newest item before |
//! | item-kNN | what came together with the user's five newest items, damped by frequency |
//! | VSTAN | what was taken around those items lately, by users whose pasts resemble this one |
//! | mixes | weighted sums of these |
//!
//! A peer with free settings is given those that do best on the very events that are reported: a bar that is too high on
//! purpose. The protocol is that of [`crate::evaluate`].
//!
//! | file | what it holds |
//! | --- | --- |
//! | `registry` | which peers there are, and the settings of each that are tried |
//! | `interactions` | the events, as numbers |
//! | `pass` | one pass over the events: the history, and the ranks under any number of mixes |
//! | `history` | the users' and the items' pasts |
//! | `popularity` | decayed counts, and the items in their order |
//! | `item_knn` | the table of co-occurrence |
//! | `vstan` | the sessions that resemble a user's |
//! | `mix` | the weights of a mix, and grids of them |

mod history;
pub mod interactions;
mod item_knn;
pub mod mix;
pub mod pass;
mod popularity;
pub mod registry;
#[cfg(test)]
mod tests;
pub mod vstan;
