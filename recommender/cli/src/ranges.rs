//! Numbers of flags with their ranges. What is out of its range is refused before anything is opened: clap's sentence
//! names the flag and the value, these say what to give.

use retrieval::{MAX_K, MIN_TUNING_QUERIES};

/// Most queries of `tune`: their vectors are all in memory.
const MAX_QUERIES: usize = 100_000;
/// Most events that a store keeps for a user.
const MAX_HISTORY: usize = 10_000;

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
    whole(text, 1, MAX_HISTORY)
}

/// A dim. Which ones were trained, the Bundle says later.
pub(crate) fn dim(text: &str) -> Result<usize, String> {
    let dim = text.parse::<usize>().ok().filter(|dim| *dim > 0);
    dim.ok_or_else(|| "give a dim that was trained, such as 64".to_owned())
}

/// A dim of a block, or 0 for a block left out.
pub(crate) fn block_dim(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a dim that was trained, such as 64, or 0".to_owned())
}

/// What the numbers of a run depend on.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("give a whole number from 0 to {}", u64::MAX))
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
        check(dim("0"), Err("give a dim that was trained, such as 64"));
        check(block_dim("0"), Ok(0));
        assert_eq!((recall("1"), recall("0.95")), (Ok(1.0), Ok(0.95)));
        for bad in ["0", "1.5", "-0.1", "NaN", "inf", "most"] {
            assert_eq!(recall(bad), Err("give a number above 0 and at most 1".to_owned()), "{bad}");
        }
    }
}
