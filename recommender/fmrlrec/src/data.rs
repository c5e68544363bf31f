//! From sequences to splits, windows and packed batches.

use crate::TrainError;
use feature_store::PAD;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Which held-out item is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Each user's second last item, from all before it.
    Validation,
    /// Each user's last item, from all before it.
    Test,
}

/// Leave-one-out: of each sequence of at least three items the last is for test and the second
/// last for validation. Shorter sequences are for training only.
#[derive(Debug, Clone)]
pub struct LeaveOneOut {
    sequences: Vec<Vec<u32>>,
}

impl LeaveOneOut {
    /// Keeps the sequences; user order stays.
    pub fn new(sequences: Vec<Vec<u32>>) -> LeaveOneOut {
        LeaveOneOut { sequences }
    }

    /// What training may see.
    pub fn train(&self) -> impl Iterator<Item = &[u32]> {
        self.sequences.iter().map(|s| if s.len() < 3 { &s[..] } else { &s[..s.len() - 2] })
    }

    /// History and target of every evaluated user.
    pub fn held_out(&self, split: Split) -> impl Iterator<Item = (&[u32], u32)> {
        let back = match split {
            Split::Validation => 2,
            Split::Test => 1,
        };
        self.sequences.iter().filter(|s| s.len() >= 3).map(move |s| (&s[..s.len() - back], s[s.len() - back]))
    }
}

/// Packed sequences.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// `[t]` item ids.
    pub tokens: Vec<u32>,
    /// `[t]`: 0 where a sequence starts, else 1.
    pub keep: Vec<f32>,
    /// `[t]`: the item that follows each token.
    pub labels: Vec<u32>,
}

impl Batch {
    /// Adds one sequence whose first token may be PAD, the start token. The state never passes
    /// from PAD to the first item.
    fn push(&mut self, tokens: impl IntoIterator<Item = u32>) {
        let mut before = PAD;
        for token in tokens {
            self.keep.push(if before == PAD { 0.0 } else { 1.0 });
            self.tokens.push(token);
            before = token;
        }
    }
}

/// Batches of one epoch: windows in an order drawn from (seed, epoch), about `positions` labels each.
/// The first window of a sequence starts with PAD, so the first item too is learned.
pub fn training_batches(split: &LeaveOneOut, max_len: usize, positions: usize, seed: u64, epoch: u64) -> Vec<Batch> {
    let mut windows: Vec<(u32, &[u32])> = Vec::new();
    for sequence in split.train() {
        let mut before = PAD;
        for window in sequence.chunks(max_len) {
            windows.push((before, window));
            before = window[window.len() - 1];
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    windows.shuffle(&mut rng);

    let mut batches: Vec<Batch> = Vec::new();
    for (before, labels) in windows {
        if batches.last().is_none_or(|batch| batch.labels.len() >= positions) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(std::iter::once(before).chain(labels[..labels.len() - 1].iter().copied()));
            batch.labels.extend_from_slice(labels);
        }
    }
    batches
}

/// Packs the newest `max_len` items of each history; an empty history is the start token alone.
/// Also gives the position of each history's last token.
pub fn pack_histories<'a>(histories: impl Iterator<Item = &'a [u32]>, max_len: usize) -> (Batch, Vec<u32>) {
    let mut batch = Batch::default();
    let mut last = Vec::new();
    for history in histories {
        let newest = &history[history.len().saturating_sub(max_len)..];
        if newest.is_empty() {
            batch.push([PAD]);
        } else {
            batch.push(newest.iter().copied());
        }
        last.push(batch.tokens.len() as u32 - 1);
    }
    (batch, last)
}

/// Refuses data that training could only fail on later.
pub(crate) fn check_sequences(split: &LeaveOneOut, items: usize) -> Result<(), TrainError> {
    if items == 0 {
        return Err(TrainError::Data("the Snapshot has no items; lower the k-core in the build configuration".into()));
    }
    if split.train().all(|sequence| sequence.is_empty()) {
        return Err(TrainError::Data("no user has an interaction to train on; lower the k-core or add data".into()));
    }
    if split.held_out(Split::Validation).next().is_none() {
        return Err(TrainError::Data("no user has three interactions, so nothing can be held out; add data".into()));
    }
    Ok(())
}
