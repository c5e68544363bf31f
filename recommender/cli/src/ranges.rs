//! Numbers of flags with their ranges. What is out of its range is refused before anything is opened: clap's sentence
//! names the flag and the value, these say what to give.

use feature_store::MAX_HISTORY_LIMIT;
use retrieval::{MAX_K, MIN_TUNING_QUERIES};

/// Most queries of `tune`: their vectors are all in memory.
const MAX_QUERIES: usize = 100_000;

/// A share of results: above 0 and at most 1.
pub(crate) fn recall(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "give a number above 0 and at most 1".to_owned())
}

/// Results of a query.
pub(crate) fn results(text: &str) -> Result<usize, String> {
    whole(text, 1, MAX_K)
}

/// Queries to tune with.
pub(crate) fn queries(text: &str) -> Result<usize, String> {
    whole(text, MIN_TUNING_QUERIES, MAX_QUERIES)
}

/// Newest events of a user.
pub(crate) fn history(text: &str) -> Result<usize, String> {
    whole(text, 1, MAX_HISTORY_LIMIT)
}

fn whole(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("give a whole number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_its_range_is_told_the_range() {
        let check = |got: Result<usize, String>, expect: Result<usize, &str>| {
            assert_eq!(got.as_ref().map_err(String::as_str), expect.as_ref().map_err(|reason| *reason));
        };
        check(history("1"), Ok(1));
        check(history("10000"), Ok(10_000));
        for bad in ["0", "10001", "-1", "1.5", "many", ""] {
            check(history(bad), Err("give a whole number from 1 to 10000"));
        }
        check(results("0"), Err("give a whole number from 1 to 1000"));
        check(queries("19"), Err("give a whole number from 20 to 100000"));
        assert_eq!((recall("1"), recall("0.95")), (Ok(1.0), Ok(0.95)));
        for bad in ["0", "1.5", "-0.1", "NaN", "inf", "most"] {
            assert_eq!(recall(bad), Err("give a number above 0 and at most 1".to_owned()), "{bad}");
        }
    }
}
