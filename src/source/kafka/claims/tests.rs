//! Decisions by hand.

use super::*;

fn own(position: u64, hold: Hold) -> Option<Own> {
    Some(Own { position, hold })
}

fn history(claims: &[(u64, &str, u64, Option<u64>)]) -> Claims {
    let claim =
        |&(number, by, from, until): &(u64, &str, u64, Option<u64>)| Claim { number, by: by.to_owned(), from, until };
    Claims { claims: claims.iter().map(claim).collect(), of: None }
}

#[test]
fn one_that_comes_back_goes_on_where_its_state_stands() {
    let claims = history(&[(3, "a", 10, None)]);
    let begin = claims.begin("a", own(50, Hold::Claim(3)), Some(40));
    assert_eq!(begin, Ok(Begin::At { offset: 50, claim: 3, new: false }));
    // Its state is gone: all since the claim is its own to read again.
    assert_eq!(claims.begin("a", None, Some(40)), Ok(Begin::At { offset: 10, claim: 3, new: false }));
}

#[test]
fn what_was_set_by_hand_is_ignored_where_a_state_knows_better() {
    let none = Claims::parse("");
    assert_eq!(none, Claims::parse("somebody else's metadata"));
    let here = Ok(Begin::At { offset: 50, claim: 3, new: true });
    assert_eq!(none.begin("a", own(50, Hold::Claim(3)), Some(7)), here);
    assert_eq!(none.begin("a", own(50, Hold::Claim(3)), None), here);
    let outside = none.begin("a", own(50, Hold::Outside), Some(7));
    assert_eq!(outside, Ok(Begin::At { offset: 50, claim: 0, new: true }));
    let let_go = none.begin("a", own(50, Hold::LetGo), Some(7));
    assert_eq!(let_go, Ok(Begin::At { offset: 7, claim: 0, new: true }));
    assert_eq!(none.begin("a", None, None), Ok(Begin::Fresh { claim: 0 }));
}

#[test]
fn a_state_that_was_overtaken_is_found_out() {
    let claims = history(&[(3, "a", 10, None), (4, "b", 40, Some(60)), (5, "c", 60, None)]);
    assert_eq!(claims.begin("a", own(50, Hold::Claim(3)), Some(80)), Err(Conflict::Overtaken { from: 40 }));
    assert_eq!(claims.begin("a", own(30, Hold::Claim(3)), Some(80)), Err(Conflict::Short { from: 40 }));
    assert_eq!(claims.begin("a", own(40, Hold::Claim(3)), Some(80)), Ok(Begin::At { offset: 80, claim: 6, new: true }));
    assert_eq!(claims.begin("a", own(9, Hold::Claim(1)), Some(80)), Err(Conflict::Forgotten));
    assert_eq!(claims.begin("b", own(60, Hold::Claim(4)), Some(80)), Ok(Begin::At { offset: 80, claim: 6, new: true }));
}

#[test]
fn histories_are_read_back_and_stay_short() {
    let claims = history(&[(3, "a\"\u{1f600}", 10, None), (4, "b", 40, Some(60))]);
    assert_eq!(Claims::parse(&claims.text()), claims);
    let mut long = Claims::default();
    for number in 0..500 {
        long = long.claimed(&"w".repeat(200), number, number * 10, 1).closed(number * 10 + 10);
    }
    let text = long.text();
    assert!(text.len() <= LONGEST);
    assert_eq!(Claims::parse(&text).newest(), long.newest());
}
