//! A dropout mask as random words of ChaCha8: each word follows from key, stream and place alone, so that a GPU
//! forms the words of the CPU, all of them at once, and a CPU on all threads.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Elements that one thread draws at a time, up to whole rows.
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
    /// What becomes of the words of each column.
    pub columns: Vec<MaskColumn>,
}

/// One column of a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskColumn {
    /// An element whose word is below it is 0.
    pub threshold: u32,
    /// What the others are.
    pub scale: f32,
}

impl MaskColumn {
    /// Zeroes each element with probability `rate`, in `0..1`; the others keep the expectation.
    pub fn new(rate: f64) -> MaskColumn {
        assert!((0.0..1.0).contains(&rate), "dropout rate {rate} is not in 0..1");
        MaskColumn { threshold: (rate * f64::from(u32::MAX)) as u32, scale: (1.0 / (1.0 - rate)) as f32 }
    }
}

impl Mask {
    /// The first `rows` rows, row-major.
    pub fn values(&self, rows: usize) -> Vec<f32> {
        let width = self.columns.len();
        let mut values = vec![0.0; rows * width];
        let chunk = CHUNK.div_ceil(width) * width;
        values.par_chunks_mut(chunk).enumerate().for_each(|(at, values)| {
            let mut rng = ChaCha8Rng::from_seed(self.key);
            rng.set_stream(self.stream);
            rng.set_word_pos(u128::from(self.start) + (at * chunk) as u128);
            for row in values.chunks_mut(width) {
                for (value, column) in row.iter_mut().zip(&self.columns) {
                    *value = if rng.next_u32() < column.threshold { 0.0 } else { column.scale };
                }
            }
        });
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_follows_from_its_place_alone() {
        let mask = Mask { key: [7; 32], stream: 3, start: 5, columns: vec![MaskColumn::new(0.25)] };
        let whole = mask.values(2 * CHUNK + 9);
        for skip in [1, 17, CHUNK - 1, CHUNK, CHUNK + 3] {
            let later = Mask { start: mask.start + skip as u64, ..mask.clone() };
            assert!(later.values(whole.len() - skip) == whole[skip..], "from {skip}");
        }
    }

    #[test]
    fn each_column_is_dropped_at_its_own_rate() {
        let rates = [0.0, 0.25, 0.6];
        let mask = Mask { key: [7; 32], stream: 3, start: 5, columns: rates.map(MaskColumn::new).to_vec() };
        let rows = CHUNK; // three chunks
        let values = mask.values(rows);
        for (at, rate) in rates.into_iter().enumerate() {
            let column: Vec<f64> = values.chunks(3).map(|row| f64::from(row[at])).collect();
            let dropped = column.iter().filter(|value| **value == 0.0).count() as f64 / rows as f64;
            let mean = column.iter().sum::<f64>() / rows as f64;
            assert!(
                (dropped - rate).abs() < 0.02 && (mean - 1.0).abs() < 0.03,
                "{rate}: {dropped} dropped, mean {mean}"
            );
        }
    }
}
