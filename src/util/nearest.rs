//! The known name that a mistyped one resembles most, for messages that suggest it.

/// The name among `names` that resembles `name` most, and how much: from 0 to 1, by Jaro–Winkler. `None` where there are no
/// names.
pub fn nearest<'a>(names: impl IntoIterator<Item = &'a str>, name: &str) -> Option<(&'a str, f64)> {
    let similar = names.into_iter().map(|other| (other, strsim::jaro_winkler(other, name)));
    similar.max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_the_most_similar() {
        assert_eq!(nearest(["uniform", "unigram"], "unigran").map(|(name, _)| name), Some("unigram"));
        assert_eq!(nearest(["exact"], "exact"), Some(("exact", 1.0)));
        assert_eq!(nearest([], "name"), None);
    }
}
