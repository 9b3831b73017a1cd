//! Figures of a log's events, and what they say of it: how often people come back to what they had, which types of events
//! there are, how far the order of the rows is from that of time.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher as _};

use chrono::DateTime;
use compact_str::CompactString;
use serde_json::{Value, json};

use super::ProposedSetting;
use crate::event::{Interaction, Rejection};

/// Events that come so long after a later one are out of order, in milliseconds: as the pipeline counts them.
const LATE: i64 = 3_600_000;
/// From this share of repeats on, own items stay in the ranking.
const REPEATS: f64 = 0.1;
/// Types of events that are told, at most.
const MOST_KINDS: usize = 20;
/// Types of events that are no sign of interest, in small letters without marks.
const NO_INTEREST: [&str; 20] = [
    "impression",
    "exposure",
    "shown",
    "show",
    "return",
    "returned",
    "refund",
    "cancel",
    "cancelled",
    "remove",
    "removefromcart",
    "removedfromcart",
    "unlike",
    "dislike",
    "thumbsdown",
    "skip",
    "unfollow",
    "unsubscribe",
    "hide",
    "notinterested",
];

/// Figures of the rows of a log.
#[derive(Debug, Default)]
pub struct Survey {
    rows: u64,
    /// Of each reason how many rows, and what was said of the first.
    rejected: BTreeMap<&'static str, (u64, String)>,
    /// Events of each user; users and items by their hashes, which take little room.
    users: HashMap<u64, u64>,
    items: HashSet<u64>,
    /// What user had which item, and when.
    pairs: HashSet<u64>,
    moments: HashSet<u64>,
    kinds: BTreeMap<CompactString, u64>,
    repeats: u64,
    doubles: u64,
    late: u64,
    future: u64,
    newest: Option<i64>,
    oldest: Option<i64>,
    /// The latest time of the file that is being read.
    reached: (u32, i64),
}

impl Survey {
    /// Takes in the row of a file, by its number. No event is later than `now`.
    pub fn take(&mut self, file: u32, outcome: &Result<Interaction, Rejection>, now: i64) {
        self.rows += 1;
        let event = match outcome {
            Ok(event) => event,
            Err(rejection) => {
                let (count, _) = self.rejected.entry(rejection.reason.name()).or_insert((0, rejection.detail.clone()));
                *count += 1;
                return;
            }
        };
        *self.users.entry(hash_of(&event.user)).or_default() += 1;
        self.items.insert(hash_of(&event.item));
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        let is_new = self.moments.insert(hash_of((&event.user, &event.item, event.timestamp, &event.kind)));
        self.doubles += u64::from(!is_new);
        let is_first = self.pairs.insert(hash_of((&event.user, &event.item)));
        self.repeats += u64::from(!is_first && is_new);
        self.future += u64::from(event.timestamp > now);
        if self.oldest.is_none() || self.reached.0 != file {
            self.reached = (file, event.timestamp);
        }
        self.late += u64::from(event.timestamp < self.reached.1 - LATE);
        self.reached.1 = self.reached.1.max(event.timestamp);
        self.newest = Some(self.newest.map_or(event.timestamp, |newest| newest.max(event.timestamp)));
        self.oldest = Some(self.oldest.map_or(event.timestamp, |oldest| oldest.min(event.timestamp)));
    }

    /// How many rows are events.
    pub fn events(&self) -> u64 {
        self.users.values().sum()
    }

    /// Whether a replay has to read the log in the order of time.
    pub fn needs_sorting(&self) -> bool {
        self.late > 0
    }

    /// What follows for the model's settings.
    pub fn settings(&self) -> Vec<ProposedSetting> {
        let mut settings = Vec::new();
        let repeats = self.share(self.repeats);
        if repeats >= REPEATS {
            let why = format!("people come back to what they had in {:.0} % of the events", 100.0 * repeats);
            settings.push(ProposedSetting::plain("evaluate.repeat", "true", why));
        }
        let of_interest: Vec<String> =
            self.kinds.keys().filter(|kind| shows_interest(kind)).map(ToString::to_string).collect();
        if !of_interest.is_empty() && of_interest.len() < self.kinds.len() {
            let why = "the other types of events are no sign of interest";
            settings.push(ProposedSetting::list("positives.kinds", &of_interest, why));
        }
        settings
    }

    /// What would go wrong, or looks as if it had; each a sentence without its end.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (events, users, items) = (self.events(), self.users.len(), self.items.len());
        for (reason, (count, example)) in &self.rejected {
            warnings.push(format!("{count} of {} rows cannot be read ({reason}), such as: {example}", self.rows));
        }
        if events == 0 {
            return warnings;
        }
        if self.late > 0 {
            let share = 100.0 * self.share(self.late);
            warnings.push(format!("{share:.0} % of the events come an hour or more after a later one: --sort reads them in the order of time"));
        }
        let doubles = self.share(self.doubles);
        if doubles >= 0.01 {
            warnings.push(format!(
                "{:.0} % of the rows are there more than once: same user, item, type and time",
                100.0 * doubles
            ));
        }
        if users == 1 {
            warnings.push("all events are of one user: is source.fields.user_id the column of users?".to_owned());
        } else if self.users.values().all(|count| *count == 1) {
            warnings.push("no user has two events, so that there is no past to predict from: is source.fields.user_id the column of users, or of events?".to_owned());
        }
        if items == 1 {
            warnings.push("all events are of one item: is source.fields.item_id the column of items?".to_owned());
        } else if events >= 100 && items as u64 == events {
            warnings.push("no item comes twice, so that nothing can be learnt of any: is source.fields.item_id the column of items?".to_owned());
        }
        if self.oldest == self.newest && events > 1 {
            warnings.push("all events have the same time: their order is that of the rows".to_owned());
        }
        if self.future > 0 {
            warnings.push(format!(
                "{} events are later than now: is source.timestamp_unit or source.timezone right?",
                self.future
            ));
        }
        warnings
    }

    /// The figures, for programs.
    pub fn json(&self) -> Value {
        let time = |time: Option<i64>| time.and_then(DateTime::from_timestamp_millis).map(|time| time.to_rfc3339());
        let rejected: BTreeMap<_, _> = self
            .rejected
            .iter()
            .map(|(reason, (count, example))| (*reason, json!({ "rows": count, "example": example })))
            .collect();
        let kinds: BTreeMap<&str, u64> =
            self.kinds.iter().take(MOST_KINDS).map(|(kind, count)| (kind.as_str(), *count)).collect();
        json!({
            "rows": self.rows,
            "events": self.events(),
            "rejected": rejected,
            "users": self.users.len(),
            "items": self.items.len(),
            "kinds": kinds,
            "repeats": self.share(self.repeats),
            "doubles": self.share(self.doubles),
            "late": self.share(self.late),
            "first": time(self.oldest),
            "last": time(self.newest),
        })
    }

    /// The figures, for people: names and what is said of each.
    pub fn text(&self) -> Vec<(&'static str, String)> {
        let day = |time: Option<i64>| {
            let time = time.and_then(DateTime::from_timestamp_millis);
            time.map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M").to_string())
        };
        let mut kinds: Vec<(&CompactString, &u64)> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = |(kind, count): &(&CompactString, &u64)| match kind.as_str() {
            "" => format!("none {count}"),
            kind => format!("{kind} {count}"),
        };
        let kinds: Vec<String> = kinds.iter().take(MOST_KINDS).map(named).collect();
        vec![
            ("events", format!("{} of {} rows", self.events(), self.rows)),
            ("users", self.users.len().to_string()),
            ("items", self.items.len().to_string()),
            ("types", kinds.join(", ")),
            ("span", format!("{} to {} UTC", day(self.oldest), day(self.newest))),
            ("repeats", format!("{:.1} %", 100.0 * self.share(self.repeats))),
        ]
    }

    fn share(&self, part: u64) -> f64 {
        part as f64 / self.events().max(1) as f64
    }
}

/// The same for the same value, in every run.
fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn shows_interest(kind: &str) -> bool {
    let plain: String =
        kind.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase()).collect();
    !NO_INTEREST.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;

    const NOW: i64 = 1_767_225_600_000;

    fn survey(events: &[(&str, &str, &str, i64)]) -> Survey {
        let mut survey = Survey::default();
        for (user, item, kind, time) in events {
            let event = Interaction {
                user: (*user).into(),
                item: (*item).into(),
                kind: (*kind).into(),
                timestamp: *time,
                session: None,
                value: None,
                features: Vec::new(),
            };
            survey.take(0, &Ok(event), NOW);
        }
        survey
    }

    #[test]
    fn settings_follow_from_repeats_and_types() {
        let shop = survey(&[("u", "a", "view", 1), ("u", "a", "view", 2), ("u", "b", "remove_from_cart", 3)]);
        let settings: Vec<String> =
            shop.settings().iter().map(|setting| format!("{}={}", setting.key, setting.value)).collect();
        assert_eq!(settings, ["evaluate.repeat=true", "positives.kinds=[\"view\"]"]);
        assert!(survey(&[("u", "a", "", 1), ("u", "b", "", 2)]).settings().is_empty());
        let same = survey(&[("u", "a", "", 1), ("u", "a", "", 1)]);
        assert!(same.settings().is_empty(), "a row that comes twice is no repeat");
    }

    #[test]
    fn warnings_say_what_would_go_wrong() {
        let said = |events: &[(&str, &str, &str, i64)]| survey(events).warnings().join("\n");
        assert!(said(&[("u", "a", "", 2 * LATE), ("v", "a", "", 1)]).contains("--sort"));
        assert!(said(&[("u", "a", "", 1), ("u", "b", "", 1)]).contains("same time"));
        assert!(said(&[("u", "a", "", 1), ("u", "b", "", 2)]).contains("one user"));
        assert!(said(&[("u", "a", "", 1), ("v", "b", "", 2)]).contains("no user has two"));
        assert!(said(&[("u", "a", "", 1), ("v", "a", "", NOW + 1)]).contains("later than now"));
        assert!(said(&[("u", "a", "", 1), ("u", "a", "", 1), ("v", "a", "", 1)]).contains("more than once"));
        assert_eq!(said(&[("u", "a", "", 1), ("u", "b", "", 2), ("v", "a", "", 3)]), "");
        let mut survey = Survey::default();
        let rejection = Rejection {
            reason: Reason::EmptyId,
            detail: "item_id is empty".to_owned(),
            key: None,
            payload: Vec::new(),
        };
        survey.take(0, &Err(rejection), NOW);
        assert!(survey.warnings()[0].contains("item_id is empty") && survey.events() == 0);
    }
}
