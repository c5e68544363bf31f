//! What an epoch's batches are made of, for any sequences.

use fmrlrec::{Batch, LeaveOneOut, training_batches};
use proptest::prelude::*;
use std::collections::HashMap;

/// What is known of a training item before there are batches.
#[derive(Debug, PartialEq)]
struct Place {
    /// The item before it in its sequence; PAD before the first.
    before: u32,
    /// Place in its sequence.
    at: usize,
    /// Length of the sequence's training part.
    of: usize,
}

/// Sequences of these lengths in which no item occurs twice, so that a label says where it stands.
fn sequences(lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut next = 1;
    let sequence = |len: &usize| {
        let items = next..next + *len as u32;
        next = items.end;
        items.collect()
    };
    lengths.iter().map(sequence).collect()
}

fn places(split: &LeaveOneOut) -> HashMap<u32, Place> {
    let of_sequence = |sequence: &[u32]| -> Vec<(u32, Place)> {
        let before = |at: usize| at.checked_sub(1).map_or(0, |before| sequence[before]);
        let of = sequence.len();
        sequence.iter().enumerate().map(|(at, item)| (*item, Place { before: before(at), at, of })).collect()
    };
    split.train().flat_map(of_sequence).collect()
}

proptest! {
    #[test]
    fn an_epoch_learns_each_item_once_from_the_one_before(
        lengths in prop::collection::vec(0usize..40, 1..12), max_len in 2usize..12, positions in 1usize..60,
        seed in 0u64..1000, epoch in 0u64..100,
    ) {
        let split = LeaveOneOut::new(sequences(&lengths));
        let places = places(&split);
        let batches = training_batches(&split, max_len, positions, seed, epoch);
        prop_assert_eq!(&batches, &training_batches(&split, max_len, positions, seed, epoch));

        let mut labels: Vec<u32> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
        labels.sort_unstable();
        let mut items: Vec<u32> = places.keys().copied().collect();
        items.sort_unstable();
        prop_assert_eq!(labels, items);

        for Batch { tokens, keep, labels } in &batches {
            prop_assert_eq!((tokens.len(), keep.len()), (labels.len(), labels.len()));
            let mut window = 0;
            for (t, label) in labels.iter().enumerate() {
                let Place { before, at, of } = places[label];
                // PAD before a sequence's first window, the item before it before a later one.
                prop_assert_eq!(tokens[t], before);
                let starts = at % max_len == 0;
                let after_pad = at % max_len != 0 && tokens[t - 1] == 0;
                prop_assert_eq!(keep[t], if starts || after_pad { 0.0 } else { 1.0 }, "label {}", label);
                // A window is whole: it starts at its start and goes on without a gap.
                prop_assert!(starts || t > 0 && labels[t - 1] == before, "label {}", label);
                window = if starts { max_len.min(of - at) } else { window };
            }
            // Full only with its last window, so that it is longer than was asked for by less than that window.
            prop_assert!(labels.len() - window < positions);
        }
        if let Some((_, full)) = batches.split_last() {
            prop_assert!(full.iter().all(|batch| batch.labels.len() >= positions));
        }
    }
}

/// 100 sequences: that another epoch or seed draws the same order does not happen by chance.
#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let split = LeaveOneOut::new(sequences(&[9; 100]));
    let order = |seed, epoch| -> Vec<u32> {
        training_batches(&split, 5, 20, seed, epoch).into_iter().flat_map(|batch| batch.labels).collect()
    };
    assert_eq!(order(7, 0), order(7, 0));
    assert_ne!(order(7, 0), order(7, 1));
    assert_ne!(order(7, 0), order(8, 0));
}
