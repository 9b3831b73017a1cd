//! Credentials in URLs, hidden from whatever is shown.
//!
//! A URL may hold a password before its host (`https://user:password@host`) or a signature in its query (`?sig=…`), and it
//! comes in by many ways: as the address of a log, of a proxy, in the words of a library. So what is shown goes through
//! [`hide_credentials`] at the end, wherever it comes from.

use std::borrow::Cow;

use super::config_section::REDACTED;

/// What ends a URL in a text.
const ENDS: [char; 7] = ['"', '\'', '`', '<', '>', '|', '\\'];

/// `text` with the user information, the query's values and the fragment of each URL in it hidden.
pub fn hide_credentials(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || ENDS.contains(&c)).unwrap_or(after.len());
        // One that follows without a gap has its own turn.
        let end = after.find("://").map_or(end, |next| end.min(next));
        hide_in(&after[..end], &mut shown);
        rest = &after[end..];
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Whether an address may hold a password before its host, or a signature in its query.
pub fn may_hold_credentials(address: &str) -> bool {
    address.contains(['@', '?', '#'])
}

/// Adds what may be shown of a URL's part behind `://`.
fn hide_in(url: &str, shown: &mut String) {
    let (mut place, behind) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    // A password may hold slashes, however wrong that is.
    if let Some((_, host)) = place.rsplit_once('@') {
        shown.push_str(REDACTED);
        shown.push('@');
        place = host;
    }
    shown.push_str(place);
    for parameter in behind.split_inclusive(['?', '#', '&']) {
        let value = parameter.trim_end_matches(['?', '#', '&']);
        if let Some((name, _)) = value.split_once('=') {
            shown.push_str(name);
            shown.push('=');
        }
        if !value.is_empty() {
            shown.push_str(REDACTED);
        }
        shown.push_str(&parameter[value.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_credentials_and_keep_the_rest() {
        for (text, shown) in [
            ("nothing to hide @ all? a=b", "nothing to hide @ all? a=b"),
            ("cannot read http://host:8081/a/b: no", "cannot read http://host:8081/a/b: no"),
            ("https://user:S@host/a, then", "https://(not shown)@host/a, then"),
            ("(https://user:S/x@y@host/a)", "(https://(not shown)@host/a)"),
            ("\"s3://AK:S@bucket/p\" is", "\"s3://(not shown)@bucket/p\" is"),
            ("at https://h/p?sig=S&se=1 now", "at https://h/p?sig=(not shown)&se=(not shown) now"),
            ("at https://h/p?S", "at https://h/p?(not shown)"),
            ("https://h/#access_token=S", "https://h/#access_token=(not shown)"),
            ("http://a?x=S http://u:S@b", "http://a?x=(not shown) http://(not shown)@b"),
        ] {
            assert_eq!(hide_credentials(text), shown);
            assert_eq!(hide_credentials(&hide_credentials(text)).matches("S@").count(), 0);
        }
    }
}
