//! What the model has to beat: popularity, and item-to-item cosine over a user's last ten items.
//! Both learn from the histories that the model reads in the same evaluation: those of the evaluated users, up
//! to the target. On the test split these hold the validation items, which the model's weights were not trained
//! on, and they lack users of fewer than three items, which the weights were trained on.

use crate::data::{LeaveOneOut, Split};
use crate::evaluate::rank;
use rayon::prelude::*;
use std::cmp::Reverse;

/// Newest items of a history that vote.
const VOTERS: usize = 10;

/// Ranks of the targets when items are ordered by number of interactions.
pub(crate) fn popularity(held: &LeaveOneOut, split: Split, items: usize) -> Vec<usize> {
    let mut counts = vec![0u64; items + 1];
    for (history, _) in held.held_out(split) {
        history.iter().for_each(|item| counts[*item as usize] += 1);
    }
    let mut order: Vec<usize> = (1..=items).collect();
    // A stable sort: equal ones rank by id.
    order.sort_by_key(|item| Reverse(counts[*item]));
    let mut ranks = vec![0; items + 1];
    order.iter().enumerate().for_each(|(before, item)| ranks[*item] = before + 1);
    held.held_out(split).map(|(_, target)| ranks[target as usize]).collect()
}

/// Most users whose histories speak for one voter, evenly from all who have it: without a bound the cost grows with the
/// square of an item's popularity.
const MOST_USERS: usize = 2048;
/// Most items of these histories together, about: where histories are long fewer users are asked.
const MOST_READ: usize = 1 << 17;

/// Ranks of the targets when an item's score is the sum of its cosines with the user's last ten
/// items, each item being the set of users who have it in their history; a voter of more users than
/// the bounds above allow is estimated from as many.
pub(crate) fn item_to_item(held: &LeaveOneOut, split: Split, items: usize) -> Vec<usize> {
    let histories: Vec<Vec<u32>> = held.held_out(split).map(|(history, _)| distinct(history)).collect();
    let mut users_of = vec![Vec::new(); items + 1];
    for (user, history) in histories.iter().enumerate() {
        history.iter().for_each(|item| users_of[*item as usize].push(user));
    }
    let read = |users: &[usize]| users.iter().map(|user| histories[*user].len()).sum::<usize>();
    let asked_of: Vec<usize> = users_of
        .iter()
        .map(|users| users.len().min(MOST_USERS).min((users.len() * MOST_READ).div_ceil(read(users).max(1))))
        .collect();
    let users: Vec<(&[u32], u32)> = held.held_out(split).collect();
    users
        .par_iter()
        .map(|(history, target)| {
            let mut scores = vec![0.0f32; items + 1];
            for voter in &history[history.len().saturating_sub(VOTERS)..] {
                let voters = &users_of[*voter as usize];
                let asked = asked_of[*voter as usize];
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Histories and targets of the test split.
    fn held<'a>(users: impl IntoIterator<Item = (&'a [u32], u32)>) -> LeaveOneOut {
        LeaveOneOut::new(users.into_iter().map(|(history, target)| [history, &[target]].concat()).collect())
    }

    /// Five users, and one too short to be evaluated, who does not count.
    #[test]
    fn ranks_are_those_found_by_hand() {
        let users: [(&[u32], u32); 6] =
            [(&[1, 2], 3), (&[1, 2, 3], 4), (&[3], 3), (&[2, 3], 1), (&[1, 1, 4], 3), (&[4, 3], 5)];
        let held = held(users);
        // Interactions of items 1 to 5: 4, 3, 3, 2, 0.
        assert_eq!(popularity(&held, Split::Test, 5), [3, 4, 1, 3, 5]);
        // Users of items 1 to 4: 3, 3, 3, 2. Cosines: 2/3 of (1, 2) and (2, 3), 1/3 of (1, 3), 1/sqrt(6) of (1, 4) and
        // (3, 4). Scores of items 1 to 5, user by user:
        //   .67  .67 1.00  .41 0
        //  1.00 1.33 1.00  .82 0
        //  1.00  .67  .67  .41 0
        //   .41 1.33 1.07  .82 0    item 1 votes twice
        //   .74  .67  .41  .41 0
        assert_eq!(item_to_item(&held, Split::Test, 5), [1, 4, 1, 2, 5]);
    }

    /// Item 1, which has item 4 beside it, is the eleventh newest of the first user.
    #[test]
    fn the_newest_ten_items_vote() {
        let check = |threes: usize, expect: [usize; 2]| {
            let history = [vec![1], vec![3; threes]].concat();
            let users: [(&[u32], u32); 2] = [(&history, 4), (&[1, 4], 3)];
            assert_eq!(item_to_item(&held(users), Split::Test, 4), expect, "{threes}");
        };
        // Of the second user 1 and 3 are ahead by what 1 and 4 vote for: 1 is .71, 3 and 4 are both .71, and ids decide.
        check(9, [3, 2]);
        check(10, [4, 2]);
    }

    /// All users have item 1: half as many speak for it, every other one, and each counts twice.
    #[test]
    fn what_a_popular_item_says_is_estimated_from_some_of_its_users() {
        // Four users have item 9 too, who are asked; one of them has item 3.
        const OTHERS: [&[u32]; 4] = [&[1, 2], &[1, 2, 5], &[1, 1], &[1, 1]];
        let history = |user: usize| -> &'static [u32] {
            match user {
                2 => &[1, 3, 9],
                6 | 10 | 14 => &[1, 9],
                _ => OTHERS[user % 4],
            }
        };
        let target = |user: usize| [(2, 5), (6, 2), (10, 3), (14, 9)].iter().find(|(asked, _)| *asked == user);
        let users = (0..2 * MOST_USERS).map(|user| (history(user), target(user).map_or(1, |(_, item)| *item)));
        let ranks = item_to_item(&held(users), Split::Test, 9);
        // Item 1 gives item 2 a cosine of .71 (.35 if who is asked counted once), item 9 gives item 3 .5. Item 5, whose
        // users are not asked, would have .5 from all of them: it is behind 2, 3, 9, 1 and, by id, 4.
        assert_eq!([2, 6, 10, 14].map(|user| ranks[user]), [6, 1, 2, 3]);
    }

    /// Two users with the same long history but for one item: the first alone is asked.
    #[test]
    fn of_long_histories_fewer_are_asked() {
        let shared = MOST_READ as u32 - 1;
        let history = |own: u32| -> Vec<u32> { std::iter::once(own).chain(1..=shared).collect() };
        let (first, second) = (history(shared + 1), history(shared + 2));
        let users: [(&[u32], u32); 2] = [(&first, shared + 1), (&second, shared + 2)];
        // Its own item has 2 / sqrt(2) from each voter, shared ones 2 / sqrt(4), the other user's nothing.
        let last = MOST_READ + 1;
        assert_eq!(item_to_item(&held(users), Split::Test, last), [1, last]);
    }
}
