//! A companion table of one byte a value: the scan reads a quarter of the memory, and the result is exact.
//!
//! A row is stored as whole numbers of -127 to 127 times a scale, with the length of what rounding took
//! away. By Cauchy-Schwarz that length bounds how far the row's score can be from the estimate. A row
//! whose estimate plus bound is below the k-th largest estimate minus bound cannot be a result; the others,
//! some tens at most in practice, are scored from the table itself. So recall is 1 by proof, not by luck.

use crate::bitset::bits;
use crate::buffer::Buffer;
use crate::funnel::Survivors;
use crate::layout::{BLOCK, GROUP};
use crate::select::Best;
use crate::table::{check_k, check_threads};
use crate::{Filter, NestedTable, RetrievalError, Scored, scan, split};
use std::sync::Arc;

/// Columns of one row that lie together: a register of bytes.
pub(crate) const RUN: usize = 32;
/// Bound on the rounding of an f32 score and of an estimate, relative to the lengths of row and query: at
/// most 50 roundings of 6e-8 lie on the way to a score of 2048 columns.
const ROUNDING: f32 = 1e-5;
/// Covers products so small that f32 holds few of their digits.
const TINY: f32 = 1e-30;

/// A table's prefix in bytes.
pub struct Int8Table {
    table: Arc<NestedTable>,
    level: usize,
    /// Columns, a multiple of [`RUN`].
    width: usize,
    /// Groups of 8 rows, interleaved by runs of 32 columns.
    codes: Buffer<i8>,
    rows: Vec<Row>,
}

/// What is known of a coded row.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Value of one step.
    scale: f32,
    /// Length of the coded vector.
    length: f32,
    /// Length of what rounding took away.
    lost: f32,
}

impl Int8Table {
    /// Codes the prefix of `dim` columns: `dim + 12` bytes an item, beside the table.
    ///
    /// # Errors
    /// `dim` is no nesting dim, or the system has no memory for it.
    pub fn new(table: Arc<NestedTable>, dim: usize) -> Result<Int8Table, RetrievalError> {
        let level = table.level(dim)?;
        let width = dim.next_multiple_of(RUN);
        let blocks = table.view(level).layout.blocks();
        let mut codes = Buffer::zeroed(blocks * BLOCK * width)?;
        let mut rows = vec![Row::default(); blocks * BLOCK];
        let mut code = vec![0i8; width];
        for id in 1..=table.items() {
            rows[id] = encode(&table.vector(id as u32, dim)?, &mut code);
            for (run, values) in code.chunks_exact(RUN).enumerate() {
                let place = id / GROUP * GROUP * width + (run * GROUP + id % GROUP) * RUN;
                codes.as_mut_slice()[place..place + RUN].copy_from_slice(values);
            }
        }
        Ok(Int8Table { table, level, width, codes, rows })
    }

    /// Exactly what [`NestedTable::search`] gives at this table's dim, bit for bit.
    ///
    /// # Errors
    /// As [`NestedTable::search`]; the query's dim is not the one that was coded.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        filter: &Filter<'_>,
        threads: usize,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (level, padded) = self.table.padded_query(query)?;
        if level != self.level {
            let trained = vec![self.table.dims()[self.level]];
            return Err(RetrievalError::Untrained { dim: query.len(), trained });
        }
        check_k(k)?;
        check_threads(threads)?;
        filter.check(self.table.items())?;
        let ids = self.candidates(&Coded::new(query, self.width), k, filter, threads);
        let mut survivors = Survivors::unscored(ids);
        survivors.rescore(self.table.view(level), &padded);
        Ok(survivors.best(k))
    }

    /// Every item that can be among the `k` best.
    fn candidates(&self, query: &Coded, k: usize, filter: &Filter<'_>, threads: usize) -> Vec<u32> {
        let blocks = self.rows.len() / BLOCK;
        let threads = split::threads_for(blocks * BLOCK * self.width, 1, threads);
        let chunks = split::Chunks::new(blocks, self.width);
        let parts = split::run(threads, || {
            let mut part = Part { sure: Best::new(k, self.rows.len()), possible: Vec::new() };
            while let Some(chunk) = chunks.take() {
                chunk.for_each(|block| self.block(block, query, filter, &mut part));
            }
            part
        });
        let (sure, possible): (Vec<Best>, Vec<_>) = parts.into_iter().map(|part| (part.sure, part.possible)).unzip();
        let sure = scan::merge(sure).into_sorted();
        let floor = if sure.len() < k { f32::NEG_INFINITY } else { sure[k - 1].score };
        possible.into_iter().flatten().filter(|upper| upper.score >= floor).map(|upper| upper.id).collect()
    }

    fn block(&self, block: usize, query: &Coded, filter: &Filter<'_>, part: &mut Part) {
        let view = self.table.view(self.level);
        let word = filter.word(block, view.layout.rows());
        if word == 0 {
            return;
        }
        let first = block * BLOCK;
        let mut sums = [0i32; BLOCK];
        view.kernel.int8_block(&self.codes.as_slice()[first * self.width..], self.width, &query.code, &mut sums);
        let (mut upper, mut lower) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let rows: &[Row; BLOCK] = self.rows[first..].first_chunk().expect("rows are whole blocks");
        for at in 0..BLOCK {
            let (estimate, bound) = query.estimate(sums[at], rows[at]);
            (lower[at], upper[at]) = (estimate - bound, estimate + bound);
        }
        for bit in bits(view.kernel.reaching(&upper, part.sure.threshold()) & word) {
            let id = (first + bit) as u32;
            if filter.list_accepts(id) {
                part.possible.push(Scored { id, score: upper[bit] });
                scan::offer(&mut part.sure, Scored { id, score: lower[bit] }, &|_| true);
            }
        }
    }
}

impl std::fmt::Debug for Int8Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Int8Table(dim {} of {:?})", self.table.dims()[self.level], self.table)
    }
}

/// One thread's findings.
struct Part {
    /// Scores that the best items have at least.
    sure: Best,
    /// Items whose score at most reached the threshold when they were met, with that most.
    possible: Vec<Scored>,
}

/// A query in bytes.
struct Coded {
    code: Vec<i8>,
    row: Row,
    length: f32,
}

impl Coded {
    fn new(query: &[f32], width: usize) -> Coded {
        let mut code = vec![0; width];
        let row = encode(query, &mut code);
        let length = query.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32;
        Coded { code, row, length }
    }

    /// A row's score, and how far off that can be: the row's loss times the query, the coded row times the
    /// query's loss, and rounding.
    #[inline]
    fn estimate(&self, sum: i32, row: Row) -> (f32, f32) {
        let rounding = ROUNDING * (row.length + row.lost) * self.length + TINY;
        (sum as f32 * (row.scale * self.row.scale), row.lost * self.length + row.length * self.row.lost + rounding)
    }
}

/// Writes the nearest whole numbers of steps; places beyond the vector become 0.
fn encode(vector: &[f32], code: &mut [i8]) -> Row {
    let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    code.fill(0);
    // A vector so small that its step is no normal number is all loss.
    let inverse = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let (mut length, mut lost) = (0.0f64, 0.0f64);
    for (&value, code) in vector.iter().zip(code) {
        *code = (value * inverse).round().clamp(-127.0, 127.0) as i8;
        let coded = f64::from(*code) * f64::from(scale);
        length += coded * coded;
        lost += (f64::from(value) - coded).powi(2);
    }
    Row { scale, length: up(length.sqrt()), lost: up(lost.sqrt()) }
}

/// The next f32 that is not smaller: a bound must not be rounded down.
fn up(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}
