//! The order of keys, which decides ids: integers first, by value, then all other keys by their
//! bytes. It depends on the set of keys alone, so reordering a source file never changes an id.

use std::cmp::Ordering;

/// Compares two keys.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    match (integer(left), integer(right)) {
        // Equal values can only be equal keys: `integer` accepts one spelling a value.
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.cmp(right),
    }
}

/// The value of a key that is an integer as a program prints it: no plus sign, no leading zero.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let printed = digits == "0" && text == "0" || !digits.starts_with('0');
    if plain && printed { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_first_by_value_then_text_by_bytes() {
        let mut keys = vec!["b", "10", "007", "9", "a", "-1", "0", "-0", ""];
        keys.sort_by(|l, r| compare(l, r));
        assert_eq!(keys, ["-1", "0", "9", "10", "", "-0", "007", "a", "b"]);
    }
}
