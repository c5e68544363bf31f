//! Times as other products write them: RFC 3339 text, or numbers since the Unix epoch.

use super::Reject;
use super::fields::{find, shown};
use serde_json::Value;

/// Unit of a time that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

/// The time at the first path that is there, in milliseconds since the Unix epoch.
pub(super) fn time_ms(value: &Value, paths: &[&str], unit: Unit) -> Result<i64, Reject> {
    let Some((path, found)) = paths.iter().find_map(|path| find(value, path).map(|found| (path, found))) else {
        return Err(Reject(format!("{} is missing; give the time of the event", paths.join(" or "))));
    };
    let refuse =
        || Reject(format!("{path} is {}; give RFC 3339 text or an integer since the Unix epoch", shown(found)));
    let number = match found {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => match text.parse() {
            Ok(number) => Some(number),
            Err(_) => return rfc3339_ms(text).ok_or_else(refuse),
        },
        _ => None,
    };
    let number = number.ok_or_else(refuse)?;
    match unit {
        Unit::Seconds => number.checked_mul(1000).ok_or_else(refuse),
        Unit::Milliseconds => Ok(number),
        Unit::Microseconds => Ok(number.div_euclid(1000)),
    }
}

/// `2024-02-29T12:34:56.789Z` (or a space for `T`, an offset for `Z`, nothing for `Z`: then UTC) in
/// milliseconds since the Unix epoch; further digits of the second are cut.
pub(super) fn rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let at = |place: usize, any: &[u8]| bytes.get(place).is_some_and(|byte| any.contains(byte));
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if day == 0 || day > days_of(year, month)? || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        millis = format!("{:0<3}", &fraction[..digits.min(3)]).parse().ok()?;
        rest = &fraction[digits..];
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds(rest)?) * 1000 + millis)
}

fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let digits = |from: usize, to: usize| text.get(from..to).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let (hours, minutes): (i64, i64) = (digits(1, 3)?.parse().ok()?, digits(4, 6)?.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: years are counted from March, so that a leap day
/// is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::rfc3339_ms;

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(rfc3339_ms(text), expect, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T12:34:56.789Z", Some(951_827_696_789));
        check("2024-12-31 23:59:59.9", Some(1_735_689_599_900));
        check("2024-01-01T02:00:00.123456+02:00", Some(1_704_067_200_123));
        check("2023-12-31T19:30:00-04:30", Some(1_704_067_200_000));
        check("1969-12-31T23:59:59Z", Some(-1000));
        for bad in [
            "",
            "2024",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+2:00",
            "2024-01-01T00:00:00Zz",
            "2024-01-0éT00:00:00Z",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00+aa:00",
            "2024-01-01T00:00:00++1:00",
        ] {
            check(bad, None);
        }
    }
}
