//! Decisions by hand.

use super::*;

fn own(position: u64, record: OwnershipRecord) -> Option<LocalClaim> {
    Some(LocalClaim { position, record })
}

fn history(claims: &[(u64, &str, u64, Option<u64>)]) -> Claims {
    let claim = |&(number, by, from, until): &(u64, &str, u64, Option<u64>)| Claim {
        number,
        by: by.to_owned(),
        from,
        until,
        was: None,
    };
    Claims { claims: claims.iter().map(claim).collect(), n_partitions: None }
}

#[test]
fn begin_goes_on_where_the_state_stands() {
    let claims = history(&[(3, "a", 10, None)]);
    let begin = claims.begin("a", own(50, OwnershipRecord::Claim(3)), Some(40));
    assert_eq!(begin, Ok(Begin::At { offset: 50, claim: 3, new: false }));
    // Its state is gone: all since the claim is its own to read again.
    assert_eq!(claims.begin("a", None, Some(40)), Ok(Begin::At { offset: 10, claim: 3, new: false }));
}

#[test]
fn begin_without_a_state_reads_the_own_stretch_again() {
    let closed = history(&[(3, "a", 10, Some(40))]);
    assert_eq!(closed.begin("a", None, Some(40)), Ok(Begin::At { offset: 10, claim: 4, new: true }));
    let let_go = own(40, OwnershipRecord::Released);
    assert_eq!(closed.begin("a", let_go, Some(40)), Ok(Begin::At { offset: 40, claim: 3, new: true }));
    // Another worker of the group begins behind it.
    assert_eq!(closed.begin("b", None, Some(40)), Ok(Begin::At { offset: 40, claim: 4, new: true }));
}

#[test]
fn begin_under_a_new_name_tells_the_old_one() {
    let claims = history(&[(3, "a", 10, None)]);
    let held = own(50, OwnershipRecord::Claim(3));
    assert_eq!(claims.begin("b", held, Some(40)), Ok(Begin::At { offset: 50, claim: 4, new: true }));
    let renamed = claims.claimed("b", 4, 50, 1).renamed_from(Some("a"));
    let text = renamed.to_metadata();
    assert_eq!(Claims::parse(&text), renamed);
    assert_eq!(renamed.newest().and_then(|newest| newest.was.as_deref()), Some("a"));
    // Killed before its state says so: it finds its own claim, and goes on.
    assert_eq!(renamed.begin("b", held, Some(50)), Ok(Begin::At { offset: 50, claim: 4, new: false }));
    // The state from before, come back further on.
    let later = own(70, OwnershipRecord::Claim(3));
    assert_eq!(renamed.begin("a", later, Some(50)), Err(Conflict::Overtaken { from: 50 }));
}

#[test]
fn begin_prefers_the_state_to_offsets_set_by_hand() {
    let none = Claims::parse("");
    assert_eq!(none, Claims::parse("somebody else's metadata"));
    let here = Ok(Begin::At { offset: 50, claim: 3, new: true });
    assert_eq!(none.begin("a", own(50, OwnershipRecord::Claim(3)), Some(7)), here);
    assert_eq!(none.begin("a", own(50, OwnershipRecord::Claim(3)), None), here);
    let outside = none.begin("a", own(50, OwnershipRecord::Standalone), Some(7));
    assert_eq!(outside, Ok(Begin::At { offset: 50, claim: 0, new: true }));
    let let_go = none.begin("a", own(50, OwnershipRecord::Released), Some(7));
    assert_eq!(let_go, Ok(Begin::At { offset: 7, claim: 0, new: true }));
    assert_eq!(none.begin("a", None, None), Ok(Begin::Fresh { claim: 0 }));
}

#[test]
fn begin_detects_an_overtaken_state() {
    let claims = history(&[(3, "a", 10, None), (4, "b", 40, Some(60)), (5, "c", 60, None)]);
    assert_eq!(claims.begin("a", own(50, OwnershipRecord::Claim(3)), Some(80)), Err(Conflict::Overtaken { from: 40 }));
    assert_eq!(claims.begin("a", own(30, OwnershipRecord::Claim(3)), Some(80)), Err(Conflict::Short { from: 40 }));
    assert_eq!(
        claims.begin("a", own(40, OwnershipRecord::Claim(3)), Some(80)),
        Ok(Begin::At { offset: 80, claim: 6, new: true })
    );
    assert_eq!(claims.begin("a", own(9, OwnershipRecord::Claim(1)), Some(80)), Err(Conflict::Forgotten));
    assert_eq!(
        claims.begin("b", own(60, OwnershipRecord::Claim(4)), Some(80)),
        Ok(Begin::At { offset: 80, claim: 6, new: true })
    );
}

#[test]
fn check_whole_detects_a_state_from_before_a_released_stretch() {
    let claims = history(&[(3, "a", 10, None), (4, "b", 40, Some(60)), (5, "a", 60, Some(60)), (6, "c", 60, None)]);
    for reached in [None, Some(10), Some(39)] {
        assert_eq!(claims.check_whole("a", reached), Err(Conflict::Short { from: 40 }), "{reached:?}");
    }
    assert_eq!(claims.check_whole("a", Some(40)), Ok(()));
    assert_eq!(claims.check_whole("b", Some(59)), Err(Conflict::Short { from: 60 }));
    // What it reads just now begins where the claim did, and others were never here.
    assert_eq!((claims.check_whole("c", None), claims.check_whole("d", None)), (Ok(()), Ok(())));
    // Of a history that has forgotten its middle, what is left is told.
    let short = history(&[(3, "a", 10, None), (7, "b", 80, None)]);
    assert_eq!(short.check_whole("a", None), Ok(()));
}

/// A worker that let go of all when it ended, and whose newest checkpoint is damaged since: what only that one held is in the
/// topic still, and nobody else has read it.
#[test]
fn begin_reads_again_what_only_this_worker_has_read() {
    let claims = history(&[(0, "a", 0, Some(100))]);
    let older = own(66, OwnershipRecord::Claim(0));
    assert_eq!(claims.check("a", older.unwrap()), Ok(()));
    assert_eq!(claims.check_whole("a", Some(66)), Ok(()));
    assert_eq!(claims.begin("a", older, Some(100)), Ok(Begin::At { offset: 66, claim: 1, new: true }));
    assert_eq!(claims.begin("renamed", older, Some(100)), Ok(Begin::At { offset: 66, claim: 1, new: true }));
    // A state from before it was assigned the partition.
    assert_eq!(claims.check_whole("a", None), Ok(()));
    assert_eq!(claims.begin("a", None, Some(100)), Ok(Begin::At { offset: 0, claim: 1, new: true }));

    let again = claims.claimed("a", 1, 66, 1);
    let whole = own(100, OwnershipRecord::Claim(0));
    assert_eq!(
        again.check("a", whole.unwrap()),
        Err(Conflict::Overtaken { from: 66 }),
        "the damaged one, brought back"
    );
    assert_eq!(again.begin("a", older, Some(66)), Ok(Begin::At { offset: 66, claim: 1, new: false }), "killed at once");
    let oldest = own(33, OwnershipRecord::Claim(0));
    assert_eq!(
        again.begin("a", oldest, Some(66)),
        Ok(Begin::At { offset: 33, claim: 2, new: true }),
        "damaged once more"
    );
    let all = again.begin("a", None, Some(66));
    assert_eq!(all, Ok(Begin::At { offset: 0, claim: 2, new: true }), "and all of them");
    // Until it begins, it looks whether anybody else does.
    let gone_back = again.gone_back("a", oldest).unwrap();
    assert_eq!(gone_back, LocalClaim { position: 33, record: OwnershipRecord::Claim(1) });
    assert_eq!(again.gone_back("a", older), None);
    assert_eq!(again.begin("a", Some(gone_back), Some(66)), Ok(Begin::At { offset: 33, claim: 2, new: true }));
    let taken = again.claimed("b", 2, 100, 1);
    assert_eq!(taken.check("a", gone_back), Err(Conflict::Short { from: 100 }));
}

#[test]
fn begin_reads_again_behind_what_other_workers_have_read() {
    let claims = history(&[(3, "a", 10, None), (4, "b", 40, Some(60)), (5, "a", 60, Some(90))]);
    for held in [OwnershipRecord::Claim(3), OwnershipRecord::Released] {
        assert_eq!(claims.begin("a", own(40, held), Some(90)), Ok(Begin::At { offset: 60, claim: 6, new: true }));
    }
    assert_eq!(claims.check_whole("a", Some(40)), Ok(()));
    assert_eq!(claims.begin("a", own(35, OwnershipRecord::Claim(3)), Some(90)), Err(Conflict::Short { from: 40 }));
    // Somebody has begun behind it, and may have read by now.
    let taken = history(&[(0, "a", 0, Some(90)), (1, "b", 90, None)]);
    assert_eq!(taken.begin("a", own(40, OwnershipRecord::Claim(0)), Some(90)), Err(Conflict::Short { from: 90 }));
    // Somebody had, and let go of it without a record.
    let touched = history(&[(0, "a", 0, Some(90)), (1, "b", 90, Some(90)), (2, "a", 90, Some(95))]);
    let begin = touched.begin("a", own(40, OwnershipRecord::Claim(0)), Some(95));
    assert_eq!(begin, Ok(Begin::At { offset: 40, claim: 3, new: true }));
}

#[test]
fn history_is_read_back_and_stays_short() {
    let claims = history(&[(3, "a\"\u{1f600}", 10, None), (4, "b", 40, Some(60))]);
    assert_eq!(Claims::parse(&claims.to_metadata()), claims);
    let mut long = Claims::default();
    for number in 0..500 {
        long = long.claimed(&"w".repeat(200), number, number * 10, 1).closed(number * 10 + 10);
    }
    let text = long.to_metadata();
    assert!(text.len() <= LONGEST);
    assert_eq!(Claims::parse(&text).newest(), long.newest());
}
