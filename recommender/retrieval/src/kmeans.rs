//! Centres of cells: k-means with a seed, the same centres on any number of threads.
//!
//! The nearest centre is the one with the largest `x . c - |c|^2 / 2`: an inner product of columns and
//! one more, so assignment is a batch of exact searches with k = 1.

use crate::{Filter, MAX_BATCH, NestedTable, RetrievalError};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows a centre is learned from, at most.
const SAMPLE: usize = 256;

/// Cells, and how to find them.
pub(crate) struct KMeans {
    pub(crate) dim: usize,
    pub(crate) cells: usize,
    pub(crate) iterations: usize,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
}

impl KMeans {
    /// Centres [cells, dim] of `rows` [n, dim], n at least `cells`.
    ///
    /// # Errors
    /// Rows or centres are so long that their distances could overflow.
    pub(crate) fn centres(&self, rows: &[f32]) -> Result<Vec<f32>, RetrievalError> {
        let random = &mut ChaCha8Rng::seed_from_u64(self.seed);
        let mut order: Vec<usize> = (0..rows.len() / self.dim).collect();
        let (chosen, _) = order.partial_shuffle(random, self.cells * SAMPLE);
        let sample: Vec<f32> = chosen.iter().flat_map(|&row| &rows[row * self.dim..][..self.dim]).copied().collect();
        // The sample is in random order: its first rows are a random start.
        let mut centres = sample[..self.cells * self.dim].to_vec();
        for _ in 0..self.iterations {
            let cells = self.assign(&sample, &centres)?;
            self.update(&sample, &cells, &mut centres, random);
        }
        Ok(centres)
    }

    /// The cell, from 0, of each row.
    ///
    /// # Errors
    /// As [`KMeans::centres`].
    pub(crate) fn assign(&self, rows: &[f32], centres: &[f32]) -> Result<Vec<usize>, RetrievalError> {
        let width = self.dim + 1;
        let mut table = vec![0.0; width];
        let mut longest = 0.0f64;
        for centre in centres.chunks_exact(self.dim) {
            let squares: f64 = centre.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
            table.extend_from_slice(centre);
            table.push((-squares / 2.0) as f32);
            longest = longest.max(squares.sqrt());
        }
        // What the table of centres refuses as its row or as a query is neither to the caller.
        let named = |error: RetrievalError| match error {
            RetrievalError::Row { .. } | RetrievalError::Overflow { .. } => RetrievalError::Centres { length: longest },
            other => other,
        };
        let table = NestedTable::new(&table, &[width]).map_err(named)?;
        let mut cells = Vec::with_capacity(rows.len() / self.dim);
        let mut batch = Vec::with_capacity(MAX_BATCH * width);
        for rows in rows.chunks(MAX_BATCH * self.dim) {
            batch.clear();
            for row in rows.chunks_exact(self.dim) {
                batch.extend_from_slice(row);
                batch.push(1.0);
            }
            let nearest = table.top_k_batch(&batch, width, 1, &[Filter::all()], self.threads).map_err(named)?;
            cells.extend(nearest.iter().map(|best| best[0].id as usize - 1));
        }
        Ok(cells)
    }

    /// Moves each centre to the mean of its rows; one without rows to a row by chance.
    fn update(&self, rows: &[f32], cells: &[usize], centres: &mut [f32], random: &mut ChaCha8Rng) {
        let mut sums = vec![0.0f64; centres.len()];
        let mut counts = vec![0usize; self.cells];
        for (row, &cell) in rows.chunks_exact(self.dim).zip(cells) {
            counts[cell] += 1;
            sums[cell * self.dim..].iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (cell, centre) in centres.chunks_exact_mut(self.dim).enumerate() {
            if counts[cell] == 0 {
                let row = random.random_range(0..cells.len());
                centre.copy_from_slice(&rows[row * self.dim..][..self.dim]);
            } else {
                let sums = &sums[cell * self.dim..];
                centre.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum / counts[cell] as f64) as f32);
            }
        }
    }
}
