//! The situation of an event: what the user's own clock and the time of day say before anything is known of items.

/// Number of buckets of the user's events so far.
pub const ACTIVITY_BUCKETS: usize = 24;
/// Number of buckets of the time since the user's newest event.
pub const GAP_BUCKETS: usize = 28;
/// Number of buckets of the place in the session.
pub const SESSION_BUCKETS: usize = 16;
/// Milliseconds without an event after which a user's next one begins a new session: half an hour.
pub const SESSION_GAP_MS: i64 = 1_800_000;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The buckets that say in which situation an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// Bucket of the user's events so far, in half octaves.
    pub activity: u8,
    /// Bucket of the seconds since the user's newest event, in octaves.
    pub gap: u8,
    /// Hour of the day, UTC.
    pub hour: u8,
    /// Day of the week, UTC; 0 is the Thursday that 1970 began with.
    pub weekday: u8,
    /// Events of the session before this one, as far as there are buckets.
    pub session: u8,
}

impl Situation {
    /// The situation at `now` of a user with `clock` events, the newest at `newest` (milliseconds since 1970 UTC), and
    /// `session_events` of these in the session that it belongs to.
    pub fn of(clock: u32, newest: Option<i64>, session_events: u32, now: i64) -> Self {
        let gap_ms = newest.map(|newest| now.saturating_sub(newest).max(0));
        let seconds = |gap_ms: i64| (1 + gap_ms / 1000).ilog2() as usize;
        let in_session = if gap_ms.is_some_and(|gap| gap <= SESSION_GAP_MS) { session_events as usize } else { 0 };
        let clock = u64::from(clock.max(1));
        Self {
            // floor(2·log₂ x) = floor(log₂ x²)
            activity: (clock * clock).ilog2().min(ACTIVITY_BUCKETS as u32 - 1) as u8,
            gap: gap_ms.map_or(GAP_BUCKETS - 1, seconds).min(GAP_BUCKETS - 1) as u8,
            hour: (now.div_euclid(HOUR_MS)).rem_euclid(24) as u8,
            weekday: (now.div_euclid(DAY_MS)).rem_euclid(7) as u8,
            session: in_session.min(SESSION_BUCKETS - 1) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn situation_tells_activity_gap_time_and_session() {
        // Friday 1970-01-02, 03:00:10 UTC.
        let now = DAY_MS + 3 * HOUR_MS + 10_000;
        let expected = Situation { activity: 3, gap: 3, hour: 3, weekday: 1, session: 2 };
        assert_eq!(Situation::of(3, Some(now - 9_000), 2, now), expected);
        // After a pause a new session begins.
        let later = Situation::of(3, Some(now - SESSION_GAP_MS - 1), 2, now);
        assert_eq!((later.gap, later.session), (10, 0));
        let first = Situation::of(0, None, 0, now);
        assert_eq!((first.activity, first.gap, first.session), (0, 27, 0));
    }

    #[test]
    fn situation_stays_in_its_buckets() {
        let extreme = Situation::of(u32::MAX, Some(i64::MIN), u32::MAX, i64::MAX);
        assert_eq!((extreme.activity, extreme.gap, extreme.session), (23, 27, 0));
        // Before 1970: a Wednesday, an hour before midnight.
        let before = Situation::of(1, Some(0), 500, -1);
        assert_eq!((before.hour, before.weekday, before.gap, before.session), (23, 6, 0, 15));
    }
}
