//! Warnings: what is likely set wrong, as the records that were read show.
//!
//! A worker with a misspelt event type, or with an id of the event where the user's should be, reads everything, fails
//! nowhere and learns nothing. Each warning here is one line that says so, with the setting to look at. They are of no
//! influence on the model, and no part of a checkpoint.

use compact_str::CompactString;

use super::Trainer;
use crate::event::EventCounts;
use crate::util::nearest::nearest;

/// Types of events that are remembered, at most.
const MAX_KINDS: usize = 8;

/// The first few types among events that are not trained on, each once.
#[derive(Debug, Default)]
pub struct IgnoredKinds(Vec<CompactString>);

impl IgnoredKinds {
    /// Notes the type of an event that is not trained on.
    pub fn note(&mut self, kind: &CompactString) {
        if self.0.len() < MAX_KINDS && !self.0.contains(kind) {
            self.0.push(kind.clone());
        }
    }
}

/// The warning where none of `events` events is of `wanted` types, but of those that were `found`.
pub fn none_of_kinds(events: u64, wanted: &[String], IgnoredKinds(found): &IgnoredKinds) -> String {
    if found.iter().all(|kind| kind.is_empty()) {
        return format!(
            "none of {events} events is of positives.kinds {wanted:?}: they have no type at all; source.fields.event_type \
             says where it is, or source.event_type which one all are of"
        );
    }
    let mut there: Vec<&str> = found.iter().map(CompactString::as_str).filter(|kind| !kind.is_empty()).collect();
    there.sort_unstable();
    let meant = wanted.iter().find_map(|wanted| {
        let (name, similarity) = nearest(there.iter().copied(), &wanted.to_lowercase())?;
        (similarity > 0.85).then(|| format!("; did you mean {name:?}?"))
    });
    let more = if found.len() < MAX_KINDS { "" } else { ", …" };
    let there: Vec<String> = there.into_iter().map(|kind| format!("{kind:?}")).collect();
    format!(
        "none of {events} events is of positives.kinds {wanted:?}; there are: {}{more}{}",
        there.join(", "),
        meant.unwrap_or_default()
    )
}

impl Trainer {
    /// What is likely set wrong, as the records so far show; each a sentence without its end.
    pub fn warnings(&self) -> Vec<String> {
        let nothing_learnt = self.why_nothing_learnt().map(|why| format!("nothing was learnt: {why}"));
        nothing_learnt.into_iter().chain(self.catalogue.warning(self.state.items.ids.len())).collect()
    }

    /// That none of the events that were read is of a type that is trained on, where so it is.
    pub fn none_of_kinds(&self) -> Option<String> {
        let mut counts = self.state.progress.events;
        counts += self.pending.counts;
        let EventCounts { used, ignored, deferred, .. } = counts;
        let kinds = &self.settings.positive_kinds;
        (used + deferred == 0 && ignored > 0).then(|| none_of_kinds(ignored, kinds, &self.ignored_kinds))
    }

    /// Why no step has trained yet; `None` where one has, or may with the batch that is begun, or where nothing was read that
    /// is to be trained on.
    fn why_nothing_learnt(&self) -> Option<String> {
        let (n_items, n_users) = (self.state.items.ids.len(), self.state.users.ids.len());
        // A step whose items are all the same one trains, and teaches nothing.
        if self.state.progress.last_loss != (0.0, 0.0) && n_items != 1 {
            return None;
        }
        if let Some(why) = self.none_of_kinds() {
            return Some(why);
        }
        let EventCounts { used, deferred, .. } = self.state.progress.events;
        Some(match () {
            () if used + deferred == 0 || (used == 0 && !self.pending.is_empty()) => return None,
            () if used == 0 => {
                format!("none of the items of {deferred} events came often enough for a row (memory.items.admit_after)")
            }
            () if n_users == 0 => {
                format!("none of the users of {used} events came often enough for a row (memory.users.admit_after)")
            }
            () if n_users as u64 == used => format!(
                "no event had an earlier one of the same user ({used} events, as many users); source.fields.user_id says \
                 where the user is"
            ),
            () if n_items == 1 => format!(
                "all {used} events are of one item, and there is nothing to tell it from; source.fields.item_id says where \
                 the item is"
            ),
            () => format!(
                "too few events had an earlier one of the same user ({used} events of {n_users} users): no batch had two"
            ),
        })
    }
}
