//! Searching: items and users by how their names begin.
//!
//! Every name is looked at, a few nanoseconds each: a search is asked for by a person, and an index of names would have to follow
//! the model. Of millions of names that is long for those who ask for lists meanwhile: so a thread of its own searches, holds the view
//! for some thousand names at a time, and takes a tenth of a core at most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::answer::{ApiAnswer, body, knowledge};
use super::filter::CatalogueFilter;
use super::messages::{FoundItem, ItemsAnswer, UsersAnswer};
use super::problem::{ApiProblem, ProblemKind};
use super::queue::enqueue;
use crate::recommend::slot::ViewSlot;
use crate::recommend::view::StateView;

/// Names that are looked at in one go.
const SLICE: usize = 1 << 15;
/// The pause between two of these.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Searches take a core at most one in so many parts of the time.
const SHARE_OF_TIME: u32 = 10;
/// Requests that may wait.
const QUEUE: usize = 16;

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchedNames {
    Items,
    Users,
}

/// A search that waits.
#[derive(Debug)]
struct SearchRequest {
    names: SearchedNames,
    prefix: String,
    k: usize,
    deadline: Instant,
    reply: oneshot::Sender<ApiAnswer>,
}

/// Where searches are asked for; clones are the same desk. Its thread ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct SearchDesk {
    queue: Sender<SearchRequest>,
}

impl SearchDesk {
    /// Starts the thread.
    pub(super) fn open(views: ViewSlot, titles: CatalogueFilter) -> std::io::Result<Self> {
        let (sender, receiver) = bounded(QUEUE);
        std::thread::Builder::new().name("search".to_owned()).spawn(move || work(&receiver, &views, &titles))?;
        Ok(Self { queue: sender })
    }

    /// Asks for `k` of those whose names begin with `prefix`; the answer comes by the receiver.
    pub(super) fn ask(
        &self,
        names: SearchedNames,
        (prefix, k): (String, usize),
        deadline: Instant,
    ) -> Result<oneshot::Receiver<ApiAnswer>, ApiProblem> {
        let (reply, answer) = oneshot::channel();
        let request = SearchRequest { names, prefix, k, deadline, reply };
        enqueue(&self.queue, request, "so many searches wait as may; ask again")?;
        Ok(answer)
    }
}

fn work(queue: &Receiver<SearchRequest>, views: &ViewSlot, titles: &CatalogueFilter) {
    while let Ok(request) = queue.recv() {
        let began = Instant::now();
        if request.reply.is_closed() || request.deadline <= began {
            continue;
        }
        let search = std::panic::AssertUnwindSafe(|| search(&request, views, titles));
        let fault = |_| Err(ApiProblem::new(ProblemKind::Fault, "the search met a fault"));
        let answer = std::panic::catch_unwind(search).unwrap_or_else(fault);
        // Whoever has gone gets none.
        let _ = request.reply.send(answer);
        // A single search is answered at once, many in turn.
        std::thread::sleep((began.elapsed() * (SHARE_OF_TIME - 1)).min(Duration::from_secs(1)));
    }
}

/// What was found so far.
#[derive(Default)]
struct FoundNames {
    /// The numbering of rows, and the rows that were looked at.
    numbering: Option<u64>,
    looked_at: usize,
    items: BinaryHeap<Reverse<(u64, Reverse<u32>)>>,
    users: Vec<CompactString>,
}

fn search(request: &SearchRequest, views: &ViewSlot, titles: &CatalogueFilter) -> ApiAnswer {
    let SearchRequest { names, prefix, k, deadline, reply: _ } = request;
    let mut found = FoundNames::default();
    loop {
        let answer = views.read(*deadline, |view, age| {
            let ids = match names {
                SearchedNames::Items => view.items(),
                SearchedNames::Users => view.users(),
            };
            if found.numbering != Some(ids.remaps()) {
                // Rows have other numbers than before.
                found = FoundNames { numbering: Some(ids.remaps()), ..FoundNames::default() };
            }
            let rows = found.looked_at..ids.len().min(found.looked_at + SLICE);
            found.looked_at = rows.end;
            match names {
                SearchedNames::Items => look_at_items(view, titles, (prefix, *k), rows, &mut found),
                SearchedNames::Users => look_at_users(view, (prefix, *k), rows, &mut found),
            }
            let is_full = *names == SearchedNames::Users && found.users.len() == *k;
            (found.looked_at == ids.len() || is_full).then(|| {
                let model = knowledge(view.facts(), age);
                match names {
                    SearchedNames::Items => {
                        let rows = std::mem::take(&mut found.items).into_sorted_vec();
                        let item = |Reverse((count, Reverse(row))): Reverse<(u64, Reverse<u32>)>| FoundItem {
                            item_id: view.items().name(row),
                            title: titles.title(view.items().name(row)),
                            count,
                        };
                        body(&ItemsAnswer { model, items: rows.into_iter().map(item).collect() })
                    }
                    SearchedNames::Users => {
                        body(&UsersAnswer { model, users: found.users.iter().map(CompactString::as_str).collect() })
                    }
                }
            })
        });
        match answer {
            Ok(Some(answer)) => return answer,
            // A lock that is wanted again at once is not given to others.
            Ok(None) if Instant::now() < *deadline => std::thread::park_timeout(BETWEEN_LOOKS),
            Ok(None) => return Err(ApiProblem::new(ProblemKind::Deadline, "it was too late for an answer")),
            Err(no_view) => return Err(no_view.into()),
        }
    }
}

/// Looks at some items: those with most events are kept whose id, or a word of whose title, begins with `prefix`, whatever the case.
fn look_at_items(
    view: &StateView,
    titles: &CatalogueFilter,
    (prefix, k): (&str, usize),
    rows: Range<usize>,
    found: &mut FoundNames,
) {
    let (with_titles, best) = (titles.has_titles() && !prefix.is_empty(), &mut found.items);
    for row in rows.start as u32..rows.end as u32 {
        let name = view.items().name(row);
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
}

/// Looks at some users: `k` are kept whose id begins with `prefix`, whatever the case, and of whom something is known.
fn look_at_users(view: &StateView, (prefix, k): (&str, usize), rows: Range<usize>, found: &mut FoundNames) {
    for row in rows.start as u32..rows.end as u32 {
        let name = view.users().name(row);
        if found.users.len() < k && begins_with(name, prefix) && view.knows_user(row) {
            found.users.push(name.into());
        }
    }
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
