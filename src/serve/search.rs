//! Searching: items and users by how their names begin.
//!
//! Every name is looked at, a few nanoseconds each: a search is asked for by a person, and an index of names would have to follow
//! the model.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::filter::CatalogueFilter;
use crate::recommend::view::StateView;

/// The rows of the `k` items with most events whose id, or a word of whose title, begins with `prefix`, whatever the case.
pub(super) fn items(view: &StateView, titles: &CatalogueFilter, prefix: &str, k: usize) -> Vec<u32> {
    let with_titles = titles.has_titles() && !prefix.is_empty();
    let mut best: BinaryHeap<Reverse<(u64, Reverse<u32>)>> = BinaryHeap::new();
    for (row, name) in view.items().iter().enumerate() {
        let row = row as u32;
        let is_found = begins_with(name, prefix)
            || (with_titles
                && titles.title(name).is_some_and(|title| {
                    begins_with(title, prefix) || title.split(' ').any(|word| begins_with(word, prefix))
                }));
        if !is_found {
            continue;
        }
        let entry = Reverse((view.occurrences(row), Reverse(row)));
        if best.len() < k {
            best.push(entry);
        } else if best.peek().is_some_and(|worst| entry < *worst) {
            best.pop();
            best.push(entry);
        }
    }
    best.into_sorted_vec().into_iter().map(|Reverse((_, Reverse(row)))| row).collect()
}

/// `k` users whose id begins with `prefix`, whatever the case, and of whom something is known.
pub(super) fn users<'a>(view: &'a StateView, prefix: &str, k: usize) -> Vec<&'a str> {
    let known =
        |(row, name): (usize, &'a str)| (begins_with(name, prefix) && view.knows_user(row as u32)).then_some(name);
    view.users().iter().enumerate().filter_map(known).take(k).collect()
}

/// Whether `name` begins with `prefix`, whatever the case of letters in ASCII.
fn begins_with(name: &str, prefix: &str) -> bool {
    name.as_bytes().get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_whatever_the_case() {
        assert!(begins_with("Matrix", "mat") && begins_with("a", "") && begins_with("é1", "é"));
        assert!(!begins_with("ma", "mat") && !begins_with("é", "e") && !begins_with("", "a"));
    }
}
