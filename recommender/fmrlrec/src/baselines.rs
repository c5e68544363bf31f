//! What the model has to beat: popularity, and item-to-item cosine over a user's last ten items.
//! Both learn from the histories that the model reads in the same evaluation: those of the evaluated users, up
//! to the target. On the test split these hold the validation items, which the model's weights were not trained
//! on, and they lack users of fewer than three items, which the weights were trained on.

use crate::data::{LeaveOneOut, Split};
use crate::evaluate::rank;
use rayon::prelude::*;

/// Newest items of a history that vote.
const VOTERS: usize = 10;

/// Ranks of the targets when items are ordered by number of interactions.
pub(crate) fn popularity(held: &LeaveOneOut, split: Split, items: usize) -> Vec<usize> {
    let mut counts = vec![0.0f32; items + 1];
    for (history, _) in held.held_out(split) {
        history.iter().for_each(|item| counts[*item as usize] += 1.0);
    }
    held.held_out(split).map(|(_, target)| rank(&counts, target as usize)).collect()
}

/// Most users whose histories speak for one voter, evenly from all who have it: without a bound the cost grows with the
/// square of an item's popularity.
const MOST_USERS: usize = 2048;

/// Ranks of the targets when an item's score is the sum of its cosines with the user's last ten
/// items, each item being the set of users who have it in their history; a voter of more than [`MOST_USERS`]
/// users is estimated from as many.
pub(crate) fn item_to_item(held: &LeaveOneOut, split: Split, items: usize) -> Vec<usize> {
    let histories: Vec<Vec<u32>> = held.held_out(split).map(|(history, _)| distinct(history)).collect();
    let mut users_of = vec![Vec::new(); items + 1];
    for (user, history) in histories.iter().enumerate() {
        history.iter().for_each(|item| users_of[*item as usize].push(user));
    }
    let users: Vec<(&[u32], u32)> = held.held_out(split).collect();
    users
        .par_iter()
        .map(|(history, target)| {
            let mut scores = vec![0.0f32; items + 1];
            for voter in &history[history.len().saturating_sub(VOTERS)..] {
                let voters = &users_of[*voter as usize];
                let asked = voters.len().min(MOST_USERS);
                let share = voters.len() as f32 / asked.max(1) as f32;
                let neighbours = (0..asked).flat_map(|at| &histories[voters[at * voters.len() / asked]]);
                // An item's cosine with itself says nothing about what comes next.
                for item in neighbours.filter(|item| *item != voter) {
                    let norm = (voters.len() * users_of[*item as usize].len()) as f32;
                    scores[*item as usize] += share / norm.sqrt();
                }
            }
            rank(&scores, *target as usize)
        })
        .collect()
}

fn distinct(history: &[u32]) -> Vec<u32> {
    let mut items = history.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}
