//! A companion table of one or two bytes a value: the scan reads a quarter or half of the memory, and the
//! result is exact.
//!
//! A row is stored as coarse values times a scale, with the length of what rounding took away. By
//! Cauchy-Schwarz that length bounds how far the row's score can be from the estimate. A row whose estimate
//! plus bound is below the k-th largest estimate minus bound cannot be a result; the others, some tens at
//! most in practice, are scored from the table itself. So recall is 1 by proof, not by luck.

use crate::bitset::bits;
use crate::buffer::Buffer;
use crate::funnel::Survivors;
use crate::kernel::Kernel;
use crate::layout::{BLOCK, GROUP, LANES};
use crate::select::Best;
use crate::table::{check_k, check_threads};
use crate::{Filter, NestedTable, RetrievalError, Scored, scan, split};
use half::f16;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of one row that lie together: a register.
pub(crate) const RUN: usize = 32;
/// Roundings allowed for besides those that grow with the columns ([`rounding`]).
const ROUNDINGS: usize = 64;
/// Covers products so small that f32 holds few of their digits.
const TINY: f32 = 1e-30;

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// One byte: whole numbers of -127 to 127 (in rows of more than 133,144 columns of fewer, so that sums fit
    /// 32 bits).
    Int8,
    /// Two bytes: IEEE half precision. Fewer rows are scored twice than with one byte.
    Half,
}

/// A table's prefix in bytes.
pub struct CodedTable {
    table: Arc<NestedTable>,
    level: usize,
    precision: Precision,
    /// Bytes of a row, a multiple of [`RUN`].
    width: usize,
    /// Groups of 8 rows, interleaved by runs of 32 bytes.
    codes: Buffer<u8>,
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

impl CodedTable {
    /// Codes the prefix of `dim` columns: `dim + 12` or `2 dim + 12` bytes an item, beside the table.
    ///
    /// # Errors
    /// `dim` is no nesting dim, or the system has no memory for it.
    pub fn new(table: Arc<NestedTable>, dim: usize, precision: Precision) -> Result<CodedTable, RetrievalError> {
        let level = table.level(dim)?;
        let width = (dim * precision.bytes()).next_multiple_of(RUN);
        let blocks = table.view(level).layout.blocks();
        let mut codes = Buffer::zeroed(blocks * BLOCK * width)?;
        let mut rows = vec![Row::default(); blocks * BLOCK];
        let mut code = vec![0u8; width];
        for (id, row) in rows.iter_mut().enumerate().take(table.items() + 1).skip(1) {
            *row = precision.encode(&table.vector(id as u32, dim)?, &mut code);
            for (run, values) in code.chunks_exact(RUN).enumerate() {
                let place = id / GROUP * GROUP * width + (run * GROUP + id % GROUP) * RUN;
                codes.as_mut_slice()[place..place + RUN].copy_from_slice(values);
            }
        }
        Ok(CodedTable { table, level, precision, width, codes, rows })
    }

    /// Exactly what [`NestedTable::search`] gives at this table's dim, bit for bit.
    ///
    /// # Errors
    /// As [`NestedTable::search`]; the query's dim was trained, but is not the one that was coded.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        filter: &Filter<'_>,
        threads: usize,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (level, padded) = self.table.padded_query(query)?;
        if level != self.level {
            return Err(RetrievalError::Uncoded { dim: query.len(), coded: self.table.dims()[self.level] });
        }
        check_k(k)?;
        check_threads(threads)?;
        filter.check(self.table.items())?;
        let ids = self.candidates(&Coded::new(query, self.precision, self.width), k, filter, threads);
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
        let codes = &self.codes.as_slice()[first * self.width..][..BLOCK * self.width];
        let sums = query.sums(view.kernel, codes);
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

impl std::fmt::Debug for CodedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CodedTable({:?}, dim {} of {:?})", self.precision, self.table.dims()[self.level], self.table)
    }
}

/// One thread's findings.
struct Part {
    /// Scores that the best items have at least.
    sure: Best,
    /// Items whose score at most reached the threshold when they were met, with that most.
    possible: Vec<Scored>,
}

/// A query as the kernel takes it.
struct Coded {
    code: Code,
    row: Row,
    length: f32,
    /// Bound on rounding, relative to the lengths of row and query.
    rounding: f32,
}

enum Code {
    Int8(Vec<i8>),
    /// Not rounded: halves are widened by the kernel.
    Half(Vec<f32>),
}

impl Coded {
    fn new(query: &[f32], precision: Precision, width: usize) -> Coded {
        let length = query.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32;
        let rounding = rounding(query.len());
        match precision {
            Precision::Int8 => {
                let mut code = vec![0; width];
                let row = precision.encode(query, &mut code);
                Coded { code: Code::Int8(bytemuck::cast_slice(&code).to_vec()), row, length, rounding }
            }
            Precision::Half => {
                let mut code = query.to_vec();
                code.resize(width / size_of::<f16>(), 0.0);
                // Products with a code below the smallest f32 are lost, up to half of that for each column: as
                // much as if the query had lost this (a coded row is at least nearly as long as its scale).
                let lost = query.len() as f32 * f32::from_bits(1);
                Coded { code: Code::Half(code), row: Row { scale: 1.0, length, lost }, length, rounding }
            }
        }
    }

    /// Inner products of the codes of 64 rows, without scales.
    fn sums(&self, kernel: Kernel, codes: &[u8]) -> [f32; BLOCK] {
        match &self.code {
            Code::Int8(query) => {
                let mut sums = [0; BLOCK];
                kernel.int8_block(bytemuck::cast_slice(codes), query, &mut sums);
                sums.map(|sum| sum as f32)
            }
            Code::Half(query) => {
                let mut sums = [0.0; BLOCK];
                kernel.half_block(codes, query, &mut sums);
                sums
            }
        }
    }

    /// A row's score, and how far off that can be: the row's loss times the query, the coded row times the
    /// query's loss, and rounding.
    #[inline]
    fn estimate(&self, sum: f32, row: Row) -> (f32, f32) {
        let rounding = self.rounding * (row.length + row.lost) * self.length + TINY;
        (sum * (row.scale * self.row.scale), row.lost * self.length + row.length * self.row.lost + rounding)
    }
}

/// Bound on the rounding of an f32 score and of its estimate together, relative to the lengths of row and query.
///
/// A rounding takes at most half of EPSILON, so `columns / 4 + 128` are allowed for. On the way of one product to
/// an estimate of halves lie at most `columns / 8 + 1`, one for each addition of its lane (`half_block`); to one
/// of bytes, whose sums are whole numbers, none. On its way to a score lie 32 in its lane, and one for each cut
/// (layout.rs): at most `columns / 31 + 1`, as a column takes at most 8 padded ones and a cut has at least 248.
/// Products that are not fused with their addition, the sums of lanes, scales, lengths and the bound itself take
/// fewer than 30.
fn rounding(columns: usize) -> f32 {
    (columns / LANES + ROUNDINGS) as f32 * f32::EPSILON
}

impl Precision {
    fn bytes(self) -> usize {
        match self {
            Precision::Int8 => 1,
            Precision::Half => size_of::<f16>(),
        }
    }

    /// The largest code. Halves are at most 1, so that none overflows and small vectors lose nothing more; sums of
    /// products of bytes fit an i32.
    fn largest(self, columns: usize) -> f32 {
        match self {
            Precision::Int8 => (i32::MAX as usize / columns).isqrt().min(127) as f32,
            Precision::Half => 1.0,
        }
    }

    /// Writes the nearest codes; places beyond the vector become 0.
    fn encode(self, vector: &[f32], code: &mut [u8]) -> Row {
        let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / self.largest(vector.len());
        code.fill(0);
        // A vector so small that its step is no normal number is all loss.
        let inverse = if scale.is_normal() && (1.0 / scale).is_normal() { 1.0 / scale } else { 0.0 };
        let (mut length, mut lost) = (0.0f64, 0.0f64);
        for (&value, code) in vector.iter().zip(code.chunks_exact_mut(self.bytes())) {
            let coded = f64::from(self.encode_value(value * inverse, code)) * f64::from(scale);
            length += coded * coded;
            lost += (f64::from(value) - coded).powi(2);
        }
        Row { scale, length: up(length.sqrt()), lost: up(lost.sqrt()) }
    }

    /// Writes one value and returns what was written.
    fn encode_value(self, value: f32, code: &mut [u8]) -> f32 {
        match self {
            Precision::Int8 => {
                let whole = value.round().clamp(-127.0, 127.0) as i8;
                code.copy_from_slice(&whole.to_le_bytes());
                f32::from(whole)
            }
            Precision::Half => {
                let half = f16::from_f32(value);
                code.copy_from_slice(&half.to_le_bytes());
                half.to_f32()
            }
        }
    }
}

/// The next f32 that is not smaller: a bound must not be rounded down.
fn up(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}
