//! Where a value of the table lies, and in which order a score is added up.
//!
//! ```text
//! rows [n + 1, s_m], row-major          stored
//! item 0 | a a | b b | c c c c |        slice 1 [n + 1, s_1]        a a a a a a ...
//! item 1 | a a | b b | c c c c |  --->  slice 2 [n + 1, s_2 - s_1]  b b b b b b ...
//! ...                                   slice m                     c c c c c c ...
//! ```
//! A query of dim s_i reads slices 1..=i: contiguous memory, all of it used. In wide rows the same
//! prefix would be a short run at a long stride, and the memory bus would fetch the rest as well.
//! Within a slice a row is contiguous, so that a shortlist can be scored row by row.
//!
//! The rule of addition. Every slice is padded with zeros to a multiple of 8 columns, and the padded
//! columns of all slices are cut at multiples of [`CUT`]. Within a cut, lane `j` of 8 adds the
//! products of columns `j, j + 8, ...` in order, each fused with its addition; the lanes are then added as
//! `((0+1)+(2+3)) + ((4+5)+(6+7))`, and the sums of the cuts in order. Whatever path scores a row
//! (scan, batch, shortlist, cell), on one machine the score has the same bits.

use std::ops::Range;

/// Lanes of a register, and the unit that slices are padded to.
pub(crate) const LANES: usize = 8;
/// Padded columns after which lanes are added up: 16 rows of one cut fit half of a 32 KiB first cache.
pub(crate) const CUT: usize = 256;
/// Rows of a block: one word of a bitset. Tables are padded with zero rows to whole blocks.
pub(crate) const BLOCK: usize = 64;

/// Columns that are stored together and added up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of row 0's first value.
    pub(crate) offset: usize,
    /// Values from one row to the next.
    pub(crate) stride: usize,
    /// Columns, a multiple of [`LANES`].
    pub(crate) width: usize,
    /// First column in the padded query.
    pub(crate) query: usize,
}

/// Nesting dims and where their columns lie.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dims: Vec<usize>,
    rows: usize,
    blocks: usize,
    segments: Vec<Segment>,
    /// Segments of each cut.
    cuts: Vec<Range<usize>>,
    /// Per level: segments and padded columns of its prefix.
    levels: Vec<(usize, usize)>,
}

impl Layout {
    /// `dims` ascending from at least 1; `rows` at least 1.
    pub(crate) fn new(dims: &[usize], rows: usize) -> Layout {
        let blocks = rows.div_ceil(BLOCK);
        let (mut segments, mut levels, mut padded, mut start) = (Vec::new(), Vec::new(), 0, 0);
        for &end in dims {
            let stride = (end - start).next_multiple_of(LANES);
            let offset = padded * blocks * BLOCK;
            let mut done = 0;
            while done < stride {
                let width = (CUT - (padded + done) % CUT).min(stride - done);
                segments.push(Segment { offset: offset + done, stride, width, query: padded + done });
                done += width;
            }
            padded += stride;
            start = end;
            levels.push((segments.len(), padded));
        }
        let cuts = group_by_cut(&segments);
        Layout { dims: dims.to_vec(), rows, blocks, segments, cuts, levels }
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Rows that hold something, PAD among them.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Values of the whole table, padding included.
    pub(crate) fn values(&self) -> usize {
        self.blocks * BLOCK * self.padded(self.dims.len() - 1)
    }

    /// Columns of a level's prefix, padding included.
    pub(crate) fn padded(&self, level: usize) -> usize {
        self.levels[level].1
    }

    /// The cuts of a level, each as its segments, from cut `first` on. The last one may end early.
    pub(crate) fn cuts(&self, level: usize, first: usize) -> impl Iterator<Item = &[Segment]> {
        let end = self.levels[level].0;
        let cuts = self.cuts[first..].iter().take_while(move |cut| cut.start < end);
        cuts.map(move |cut| &self.segments[cut.start..cut.end.min(end)])
    }

    /// How many cuts are complete at a level: their sums are final, whatever larger dim is scored next.
    pub(crate) fn complete_cuts(&self, level: usize) -> usize {
        self.padded(level) / CUT
    }

    /// Copies a vector of a level's dim to padded columns.
    pub(crate) fn pad(&self, vector: &[f32], level: usize, padded: &mut [f32]) {
        debug_assert_eq!((vector.len(), padded.len()), (self.dims[level], self.padded(level)));
        padded.fill(0.0);
        let (mut from, mut to) = (0, 0);
        for (&end, &(_, padded_end)) in self.dims[..=level].iter().zip(&self.levels) {
            padded[to..to + end - from].copy_from_slice(&vector[from..end]);
            (from, to) = (end, padded_end);
        }
    }

    /// The slices of a level: columns of a row, and where row 0's part and the next row's lie.
    pub(crate) fn slices(&self, level: usize) -> impl Iterator<Item = (Range<usize>, usize, usize)> {
        let starts = std::iter::once((0, 0)).chain(self.dims.iter().copied().zip(self.levels.iter().map(|l| l.1)));
        starts.zip(&self.dims[..=level]).map(|((start, padded), &end)| {
            (start..end, padded * self.blocks * BLOCK, (end - start).next_multiple_of(LANES))
        })
    }
}

fn group_by_cut(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match cuts.last_mut() {
            Some(cut) if segments[cut.start].query / CUT == segment.query / CUT => cut.end = at + 1,
            _ => cuts.push(at..at + 1),
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::{CUT, LANES, Layout};

    #[test]
    fn segments_tile_the_padded_columns() {
        for dims in [vec![1], vec![3, 5, 300], vec![8, 16, 32, 64, 128, 256, 512, 1024], vec![2048], vec![250, 530]] {
            let layout = Layout::new(&dims, 65);
            for level in 0..dims.len() {
                let mut column = 0;
                for (at, cut) in layout.cuts(level, 0).enumerate() {
                    for segment in cut {
                        assert_eq!((segment.query, segment.query / CUT), (column, at), "{dims:?}");
                        assert_eq!(segment.width % LANES, 0);
                        column += segment.width;
                    }
                }
                assert_eq!(column, layout.padded(level), "{dims:?} level {level}");
            }
        }
    }
}
