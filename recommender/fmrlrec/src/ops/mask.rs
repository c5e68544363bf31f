//! A dropout mask as random words of ChaCha8: each word follows from key, stream and place alone, so that a GPU
//! forms the words of the CPU, all of them at once, and a CPU on all threads.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Elements that one thread draws at a time.
const CHUNK: usize = 1 << 14;

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
        let mut values = vec![0.0; n];
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(at, values)| {
            let mut rng = ChaCha8Rng::from_seed(self.key);
            rng.set_stream(self.stream);
            rng.set_word_pos(u128::from(self.start) + (at * CHUNK) as u128);
            values.fill_with(|| if rng.next_u32() < self.threshold { 0.0 } else { self.scale });
        });
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_follows_from_its_place_alone() {
        let mask = Mask { key: [7; 32], stream: 3, start: 5, threshold: 1 << 30, scale: 4.0 / 3.0 };
        let whole = mask.values(2 * CHUNK + 9);
        let dropped = whole.iter().filter(|value| **value == 0.0).count() as f64 / whole.len() as f64;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped}");
        for skip in [1, 17, CHUNK - 1, CHUNK, CHUNK + 3] {
            let later = Mask { start: mask.start + skip as u64, ..mask.clone() };
            assert!(later.values(whole.len() - skip) == whole[skip..], "from {skip}");
        }
    }
}
