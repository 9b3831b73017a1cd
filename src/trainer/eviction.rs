//! Rows that go: everybody who holds something by row, or refers to rows, is told of the new numbers.
//!
//! It happens as a step begins, before anything of its batch is captured, so that what a checkpoint holds and what is in
//! memory are the same at any time in between.

use super::Trainer;
use crate::evaluate::popularity::PopularityOrder;
use crate::table::row_remap::RowRemap;
use crate::trainer::state::State;

impl Trainer {
    /// Lets rows go, where there would be too many with what waits, or their time is over. Who and what the batch names
    /// stays.
    pub(super) fn make_room(&mut self, now: u64) {
        let Self { state, waiting, popularity, .. } = self;
        let incoming = waiting.events.len();
        let (n_items, n_users) = (state.items.len(), state.users.ids.len());
        if state.tenure.items.is_due(n_items, incoming, now) {
            let named = waiting.events.iter().filter_map(|taken| state.items.get(&taken.event.item));
            named.for_each(|item| state.tenure.items.see(item, now));
            if let Some(items) = state.tenure.items.evict(n_items, incoming, now) {
                state.keep_items(&items);
                *popularity = PopularityOrder::new(&state.frequencies);
            }
        }
        if state.tenure.users.is_due(n_users, incoming, now) {
            let named = waiting.events.iter().filter_map(|taken| state.users.ids.get(&taken.event.user));
            named.for_each(|user| state.tenure.users.see(user, now));
            if let Some(users) = state.tenure.users.evict(n_users, incoming, now) {
                state.keep_users(&users);
            }
        }
    }
}

impl State {
    /// Keeps the items that stay.
    fn keep_items(&mut self, items: &RowRemap) {
        // Named one by one, so that a new field asks whether it has to hear of this.
        let Self {
            items: names,
            occurrences,
            last_event,
            tenure: _,
            users,
            model,
            objectives,
            frequencies,
            live,
            noise,
            bank,
            ledger,
            tally: _,
            steps: _,
            last_loss: _,
            last_parts: _,
            events: _,
            rejected_share: _,
            audit: _,
            positions: _,
            ownerships: _,
        } = self;
        names.keep(items);
        occurrences.keep(items);
        last_event.keep(items);
        users.keep_items(items);
        model.keep_items(items);
        objectives.keep_items(items);
        frequencies.keep(items);
        live.keep(items);
        noise.keep_items(items);
        bank.keep(items);
        ledger.keep_items(items);
    }

    /// Keeps the users that stay.
    fn keep_users(&mut self, users: &RowRemap) {
        self.users.keep(users);
        self.model.keep_users(users);
        self.noise.keep_users(users);
        self.ledger.keep_users(users);
    }
}
