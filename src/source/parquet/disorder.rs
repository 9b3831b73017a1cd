//! Notices where the time of a log goes backwards: logs that are sorted by user, shuffled, or read in the wrong order make a
//! model that has seen the future of each user and the past of the items.

use crate::event::Record;

/// How much earlier than the newest event before it an event may be without being out of order, in milliseconds: what
/// buffers and clocks bring about.
const TOLERANCE: i64 = 3_600_000;

/// What is known of the order of the events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disorder {
    newest: i64,
    events: u64,
    /// Events that came more than [`TOLERANCE`] after a later one.
    late: u64,
    /// The most that an event was too late, in milliseconds.
    most: i64,
}

impl Default for Disorder {
    fn default() -> Self {
        Self { newest: i64::MIN, events: 0, late: 0, most: 0 }
    }
}

impl Disorder {
    /// Takes note of records, in the order in which they are read. Gives the first that is out of order, and by how many
    /// milliseconds, where none was before.
    pub(super) fn observe<'r>(&mut self, records: &'r [Record]) -> Option<(&'r Record, i64)> {
        let mut first = None;
        for record in records {
            let Ok(event) = &record.outcome else { continue };
            self.events += 1;
            let behind = self.newest.saturating_sub(event.timestamp);
            if self.newest > event.timestamp && behind > TOLERANCE {
                if self.late == 0 {
                    first = Some((record, behind));
                }
                self.late += 1;
                self.most = self.most.max(behind);
            }
            self.newest = self.newest.max(event.timestamp);
        }
        first
    }

    /// The words for how far out of order the whole was; `None` where it was in order.
    pub(super) fn summary(&self) -> Option<String> {
        let Self { events, late, most, .. } = self;
        (*late > 0).then(|| {
            let share = 100.0 * *late as f64 / *events as f64;
            format!(
                "{late} of {events} events ({share:.1} %) came after events of more than an hour later, by {} at most",
                span(*most)
            )
        })
    }
}

/// A time span in words.
pub(super) fn span(milliseconds: i64) -> String {
    let minutes = milliseconds / 60_000;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Interaction;

    fn records(times: &[i64]) -> Vec<Record> {
        let event = |timestamp: i64| Interaction {
            user: "u".into(),
            item: "i".into(),
            kind: "".into(),
            timestamp,
            session: None,
            value: None,
            features: Vec::new(),
        };
        let record = |(offset, time): (usize, &i64)| Record {
            stream: 0,
            offset: offset as u64,
            broker_timestamp: None,
            outcome: Ok(event(*time)),
        };
        times.iter().enumerate().map(record).collect()
    }

    #[test]
    fn events_that_are_too_late_are_counted_and_the_first_is_told() {
        let hour = TOLERANCE;
        let mut disorder = Disorder::default();
        assert_eq!(disorder.observe(&records(&[hour, 3 * hour, 2 * hour])), None);
        assert_eq!(disorder.summary(), None, "an hour is tolerated");
        let late = records(&[4 * hour, hour, 2 * hour, 4 * hour]);
        let (first, behind) = disorder.observe(&late).unwrap();
        assert_eq!((first.offset, behind), (1, 3 * hour));
        assert_eq!(disorder.observe(&records(&[0])), None, "told once");
        let words = disorder.summary().unwrap();
        assert!(words.starts_with("3 of 8 events (37.5 %)") && words.contains("by 4 hours"), "{words}");
    }
}
