//! Whether what is written may have colours.

/// Whether colours are wanted where output goes to a terminal, or not to one: `NO_COLOR`, with any value, refuses them.
pub fn are_wanted(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
