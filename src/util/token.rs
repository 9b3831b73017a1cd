//! A token that a program has to show, as `Authorization: Bearer TOKEN`.

use sha2::{Digest, Sha256};

/// What a program has to show. Kept and compared by its digest, so that the time of a comparison tells nothing of it.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token of the configuration; `None` where it is empty.
    pub fn new(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(Sha256::digest(token).into()))
    }

    /// Whether the header `authorization` shows the token.
    pub fn is_shown(&self, authorization: Option<&str>) -> bool {
        let bearer = authorization.and_then(|value| value.split_once(' '));
        let Some((_, token)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else { return false };
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        digest.iter().zip(&self.0).fold(0, |differences, (theirs, ours)| differences | (theirs ^ ours)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_to_be_shown_whole() {
        let token = Token::new("0123456789abcdef").expect("it is none that is empty");
        let is_shown = |header: &str| token.is_shown(Some(header));
        assert!(is_shown("Bearer 0123456789abcdef") && is_shown("bearer  0123456789abcdef "));
        for other in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer ",
        ] {
            assert!(!is_shown(other), "{other}");
        }
        assert!(!token.is_shown(None));
        assert!(Token::new("").is_none());
        assert_eq!(format!("{token:?}"), "Token");
    }
}
