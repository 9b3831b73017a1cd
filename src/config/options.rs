//! What the options of samplers and of objectives have in common.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// What is wrong with `value` of the option `option`, which belongs to `kinds` (none named: to all) and lies within
/// `bounds`, where it was given to `kind`, called `name`.
pub(super) fn mistake<Kind: PartialEq, Value: PartialOrd + Display>(
    (option, value): (&str, &Value),
    bounds: RangeInclusive<Value>,
    (kind, name): (&Kind, &str),
    kinds: &[Kind],
) -> Option<String> {
    if !kinds.is_empty() && !kinds.contains(kind) {
        return Some(format!("'{option}' is not an option of '{name}'"));
    }
    // Not a number lies between nothing.
    let within = bounds.contains(value);
    (!within).then(|| format!("'{option}' of '{name}' must lie in {}..={}", bounds.start(), bounds.end()))
}
