//! The same history at a small dim and at the largest: what the extra dims buy, in titles.

use crate::failure::bad_input;
use anyhow::Context as _;
use fmrlrec::Bundle;
use retrieval::NestedTable;

/// Films of the sample that most people know, oldest first: the history that is shown.
const KNOWN_FILMS: [&str; 5] = ["260", "1196", "1198", "1210", "2571"];
/// Length of a history picked from a sample without these films.
const PICKED: usize = 5;
/// The dim compared with the largest, where it was trained.
const SMALL_DIM: usize = 16;
/// Titles shown at each dim.
const SHOWN: usize = 5;
/// Longest title shown, in characters.
const TITLE_CHARS: usize = 44;

/// The history to show, as item ids: films that people know, else the first items there are.
pub(crate) fn pick_history(bundle: &Bundle) -> anyhow::Result<Vec<u32>> {
    let vocabulary = bundle.vocabulary();
    let known: Vec<u32> = KNOWN_FILMS.iter().filter_map(|key| vocabulary.id(key)).collect();
    if known.len() == KNOWN_FILMS.len() {
        return Ok(known);
    }
    let items = u32::try_from(vocabulary.len()).context("the vocabulary is larger than item ids can be")?;
    if items < 2 {
        return Err(bad_input(format!("the sample has {items} items; nothing can be recommended from fewer than 2")));
    }
    Ok((1..=items - 1).take(PICKED).collect())
}

/// 16 where it was trained, else the smallest dim.
pub(crate) fn small_dim(dims: &[usize]) -> usize {
    if dims.contains(&SMALL_DIM) { SMALL_DIM } else { dims.first().copied().unwrap_or(0) }
}

/// The titles recommended at both dims, side by side.
pub(crate) fn two_dims(bundle: &Bundle, history: &[u32]) -> anyhow::Result<String> {
    let dims = bundle.dims();
    let (small, large) = (small_dim(dims), dims.last().copied().unwrap_or(0));
    let table = NestedTable::new(bundle.item_table(), dims)?;
    let left = top_titles(bundle, &table, history, small)?;
    let right = top_titles(bundle, &table, history, large)?;
    let watched: Vec<&str> = history.iter().map(|id| title(bundle, *id)).collect();
    Ok(format!("after {}\n{}", watched.join("; "), side_by_side(small, &left, large, &right)))
}

fn top_titles(bundle: &Bundle, table: &NestedTable, history: &[u32], dim: usize) -> anyhow::Result<Vec<String>> {
    let query = bundle.user_vector(history, dim)?;
    let found = table.top_k(&query, SHOWN, &|id| !history.contains(&id))?;
    Ok(found.iter().map(|item| title(bundle, item.id).chars().take(TITLE_CHARS).collect()).collect())
}

fn title(bundle: &Bundle, id: u32) -> &str {
    let index = (id as usize).checked_sub(1);
    index.and_then(|index| bundle.items().get(index)).map_or("?", |item| item.title.as_str())
}

fn side_by_side(small: usize, left: &[String], large: usize, right: &[String]) -> String {
    let heading = format!("dim {small}");
    let mut text = format!("     {heading:TITLE_CHARS$}  dim {large}");
    for place in 0..left.len().max(right.len()) {
        let of = |side: &[String]| side.get(place).cloned().unwrap_or_default();
        text.push_str(&format!("\n  {}. {:TITLE_CHARS$}  {}", place + 1, of(left), of(right)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{side_by_side, small_dim};

    #[test]
    fn the_small_dim_is_16_or_the_smallest() {
        let check = |dims: &[usize], expect| assert_eq!(small_dim(dims), expect);
        check(&[8, 16, 32], 16);
        check(&[4, 8], 4);
        check(&[32], 32);
    }

    #[test]
    fn columns_line_up_when_one_side_is_shorter() {
        let text = side_by_side(16, &["A".into()], 128, &["B".into(), "C".into()]);
        let columns: Vec<usize> = text.lines().map(|line| line.find(['B', 'C']).unwrap_or(51)).collect();
        assert_eq!(columns, [51, 51, 51]);
    }
}
