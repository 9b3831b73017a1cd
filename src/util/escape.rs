//! Text from outside, made harmless for whatever shows it: terminals, log lines, labels of metrics.
//!
//! There is one set of characters for all of them ([`is_unsafe`]): those that drive a terminal, end a line, or reorder or
//! hide what is read. `tracing-subscriber` escapes some control characters by itself, but neither the line separators of
//! Unicode nor the characters that reorder text, and only in some kinds of values.

use std::fmt;

/// Whether a character drives a terminal, ends a line, or reorders or hides text. Every such character has a code point of
/// at most four hexadecimal digits.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` with every unsafe character as a Rust escape (`\n`, `\u{1b}`).
pub fn escape_for_terminal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // Writing to a string cannot fail.
    let _ = fmt::Write::write_str(&mut Escaping(&mut escaped), text);
    escaped
}

/// `json` with every unsafe character as a JSON escape (`\u202e`). The text has to be valid JSON on one line: there, such
/// characters occur only inside strings.
pub fn escape_json_line(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_unsafe(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// `text` as a page shows it, in an element or an attribute; unsafe characters are shown as they are by [`escape_for_terminal`].
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in escape_for_terminal(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A writer that escapes unsafe characters on their way into a string.
#[derive(Debug)]
pub struct Escaping<'a>(pub &'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if is_unsafe(character) {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_for_terminal_leaves_nothing_that_drives_or_reorders() {
        let escaped = escape_for_terminal("a\u{1b}[31mb\n\u{202e}c\u{9b}\u{feff}é");
        assert_eq!(escaped, "a\\u{1b}[31mb\\n\\u{202e}c\\u{9b}\\u{feff}é");
    }

    #[test]
    fn escape_json_line_keeps_the_meaning() {
        let line = "{\"item\":\"\u{9b}\u{202e}x\"}";
        let escaped = escape_json_line(line);
        assert!(!escaped.contains(is_unsafe));
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(line).expect("json"), serde_json::from_str(&escaped).expect("json"));
        assert_eq!(before, after);
    }

    #[test]
    fn is_unsafe_characters_have_four_digits() {
        assert!(
            ('\u{0}'..=char::MAX).filter(|character| is_unsafe(*character)).all(|character| character <= '\u{ffff}')
        );
    }
}
