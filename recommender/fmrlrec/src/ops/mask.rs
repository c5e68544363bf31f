//! A dropout mask as random words of ChaCha8: each word follows from key, stream and place alone, so that a GPU
//! forms the words of the CPU, all of them at once.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where a mask's words come from, and what becomes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// Key of the generator.
    pub key: [u8; 32],
    /// Its stream.
    pub stream: u64,
    /// Place of the first element's word in the stream.
    pub start: u64,
    /// An element whose word is below it is 0.
    pub threshold: u32,
    /// What the others are.
    pub scale: f32,
}

impl Mask {
    /// The first `n` elements.
    pub fn values(&self, n: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_stream(self.stream);
        rng.set_word_pos(u128::from(self.start));
        (0..n).map(|_| if rng.next_u32() < self.threshold { 0.0 } else { self.scale }).collect()
    }
}
