//! Bytes as hex digits and back.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower-case digits a byte.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of digits in any case; none if the text is anything else.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::{bytes_of_hex, hex_of};

    #[test]
    fn digits_are_read_and_nothing_else() {
        let check = |text: &str, expect: Option<&[u8]>| assert_eq!(bytes_of_hex(text).as_deref(), expect, "{text:?}");
        check("", Some(&[]));
        check("00fF", Some(&[0, 255]));
        for wrong in ["0", "0g", "+1", " 1", "é", "0x"] {
            check(wrong, None);
        }
        let all: Vec<u8> = (0..=255).collect();
        check(&hex_of(&all), Some(&all));
    }
}
