//! Evaluation in chunks and tiles of 64 users and rounds of 2,048 gives each user what it gets alone.

use crate::training::{ITEMS, config, snapshot};
use feature_store::{Interaction, Snapshot};
use fmrlrec::{
    Bundle, Device, LeaveOneOut, Part, Split, TrainConfig, evaluate, metrics_of_ranks, ranks_at_dims, train,
};
use std::path::Path;

/// The items trained on with other users: round the same ring, histories longer and shorter than the model reads.
fn other_users(dir: &Path, users: u32) -> Snapshot {
    snapshot(dir, |contents| {
        contents.users = (0..users).map(|user| format!("v{user}")).collect();
        let steps = |user: u32| if user.is_multiple_of(2) { 0..12 } else { 6..12 };
        let interaction = |user: u32, step: u32| Interaction {
            user,
            item: (user * 7 + step) % ITEMS as u32 + 1,
            timestamp_ms: i64::from(step),
        };
        contents.interactions =
            (0..users).flat_map(|user| steps(user).map(move |step| interaction(user, step))).collect();
    })
}

#[test]
fn users_evaluated_together_rank_as_they_do_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 2, ..config() };
    let output = dir.path().join("bundle");
    train(&snapshot(&dir.path().join("trained"), |_| ()), &config, &output, false, Device::Cpu, &mut ()).unwrap();
    let bundle = Bundle::open(&output).unwrap();
    let check = |users: u32, expect: &[(usize, usize)]| {
        let snapshot = other_users(&dir.path().join(users.to_string()), users);
        let mut rounds = Vec::new();
        let mut progress = |done, all| rounds.push((done, all));
        let report = evaluate(&bundle, &snapshot, Split::Test, Part::Whole, &mut progress).unwrap();
        assert_eq!(rounds, expect, "{users} users");

        let mut ranks = vec![Vec::new(); bundle.dims().len()];
        for (history, target) in LeaveOneOut::new(snapshot.sequences().unwrap()).held_out(Split::Test) {
            let user = bundle.user_vector(history, 16).unwrap();
            let alone = ranks_at_dims(&user, bundle.item_table(), &[target], bundle.dims());
            ranks.iter_mut().zip(alone).for_each(|(ranks, rank)| ranks.extend(rank));
        }
        for (quality, ranks) in report.dims.iter().zip(&ranks) {
            assert!(ranks.iter().any(|rank| *rank != ranks[0]), "dim {}: ranks that tell users apart", quality.dim);
            assert_eq!(quality.metrics, metrics_of_ranks(ranks), "{users} users, dim {}", quality.dim);
        }
    };
    check(130, &[(130, 130)]);
    check(2_100, &[(2_048, 2_100), (2_100, 2_100)]);
}

/// Whole numbers, whose products have no rounding: a tile of users and a user alone get equal scores, ties included.
#[test]
fn ranks_of_many_users_are_those_of_each() {
    let (users, items, dims) = (200, 150, [3, 8, 16]);
    let mut state = 1u32;
    let mut numbers = |count: usize| -> Vec<f32> {
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as f32 - 8.0
        };
        (0..count).map(|_| number()).collect()
    };
    let (x, table) = (numbers(users * 16), numbers((items + 1) * 16));
    let targets: Vec<u32> = (0..users).map(|user| (user * 37 % items + 1) as u32).collect();
    let together = ranks_at_dims(&x, &table, &targets, &dims);
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [users; 3]);
    for (user, (x, target)) in x.chunks(16).zip(&targets).enumerate() {
        let alone = ranks_at_dims(x, &table, &[*target], &dims);
        for (together, alone) in together.iter().zip(&alone) {
            assert_eq!(together[user], alone[0], "user {user}");
        }
    }
}
