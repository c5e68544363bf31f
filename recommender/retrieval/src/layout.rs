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
//!
//! Within a slice, 8 rows are interleaved by cache lines: line 1 of each, then line 2 of each. So a scan
//! that keeps 8 rows in registers reads one ascending stream (8 streams were slower, and
//! every software prefetch slower still), while a row of a shortlist still reads whole lines that are its own. A slice
//! whose width is an odd multiple of 8 ends in half a line a row.
//!
//! The rule of addition. Every slice is padded with zeros to a multiple of 8 columns, and the padded
//! columns of all slices, a line at a time, are dealt to cuts of at most [`CUT`] columns. Within a cut,
//! lane `j` of 8 adds the products of columns `j, j + 8, ...` in order, each fused with its addition; the
//! lanes are then added as `((0+1)+(2+3)) + ((4+5)+(6+7))`, and the sums of the cuts in order. Whatever
//! path scores a row (scan, batch, shortlist, cell), on one machine the score has the same bits.

use std::ops::Range;

/// Lanes of a register, and the unit that slices are padded to.
pub(crate) const LANES: usize = 8;
/// Values of a cache line: the run of a row that is stored together.
pub(crate) const LINE: usize = 16;
/// Rows that are interleaved.
pub(crate) const GROUP: usize = 8;
/// Padded columns after which lanes are added up: 16 rows of one cut fit half of a 32 KiB first cache.
pub(crate) const CUT: usize = 256;
/// Rows of a block: one word of a bitset. Tables are padded with zero rows to whole blocks.
pub(crate) const BLOCK: usize = 64;

/// Columns that are stored together and added up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of row 0's first value.
    pub(crate) offset: usize,
    /// Columns of the slice, padded: a group of rows takes [`GROUP`] times as many values.
    pub(crate) stride: usize,
    /// Columns, a multiple of [`LANES`].
    pub(crate) width: usize,
    /// First column in the padded query.
    pub(crate) query: usize,
}

impl Segment {
    /// Index of the first value of a row's line, and how many values the line has. `column` is a
    /// multiple of [`LINE`] below the width.
    #[inline]
    pub(crate) fn line(&self, row: usize, column: usize) -> (usize, usize) {
        let width = LINE.min(self.width - column);
        let group = self.offset + row / GROUP * GROUP * self.stride;
        (group + column * GROUP + row % GROUP * width, width)
    }
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
        let (mut cuts, mut left) = (Vec::new(), CUT);
        for &end in dims {
            let stride = (end - start).next_multiple_of(LANES);
            let base = padded * blocks * BLOCK;
            let mut done = 0;
            while done < stride {
                let rest = stride - done;
                let width = if rest <= left { rest } else { left / LINE * LINE };
                if width > 0 {
                    segments.push(Segment { offset: base + done * GROUP, stride, width, query: padded + done });
                }
                (done, left) = (done + width, left - width);
                if width < rest || left == 0 {
                    let first = cuts.last().map_or(0, |cut: &Range<usize>| cut.end);
                    cuts.push(first..segments.len());
                    left = CUT;
                }
            }
            padded += stride;
            start = end;
            levels.push((segments.len(), padded));
        }
        let first = cuts.last().map_or(0, |cut| cut.end);
        if first < segments.len() {
            cuts.push(first..segments.len());
        }
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
        self.cuts.iter().take_while(|cut| cut.end <= self.levels[level].0).count()
    }

    /// Whether a level ends where a cut ends.
    pub(crate) fn ends_cut(&self, level: usize) -> bool {
        self.cuts.iter().any(|cut| cut.end == self.levels[level].0)
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

    /// Where the lines of a row lie, in the order of its unpadded columns: columns, index of their values.
    pub(crate) fn lines(&self, row: usize, level: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let starts = std::iter::once(0).chain(self.dims.iter().copied());
        let padded = std::iter::once(0).chain(self.levels.iter().map(|&(_, padded)| padded));
        starts.zip(padded).zip(&self.dims[..=level]).flat_map(move |((start, padded), &end)| {
            let stride = (end - start).next_multiple_of(LANES);
            let slice = Segment { offset: padded * self.blocks * BLOCK, stride, width: stride, query: 0 };
            (start..end).step_by(LINE).map(move |column| {
                let (at, width) = slice.line(row, column - start);
                (column..end.min(column + width), at)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CUT, LANES, Layout};

    #[test]
    fn segments_tile_the_padded_columns() {
        let many: Vec<usize> = (1..600).step_by(7).collect();
        for dims in [vec![1], vec![3, 5, 300], vec![8, 16, 64, 256, 1024], vec![2048], vec![250, 530], many] {
            let layout = Layout::new(&dims, 65);
            for level in 0..dims.len() {
                let mut column = 0;
                for cut in layout.cuts(level, 0) {
                    assert!(cut.iter().map(|segment| segment.width).sum::<usize>() <= CUT);
                    for segment in cut {
                        assert_eq!((segment.query, segment.width % LANES), (column, 0), "{dims:?}");
                        column += segment.width;
                    }
                }
                assert_eq!(column, layout.padded(level), "{dims:?} level {level}");
            }
        }
    }

    #[test]
    fn every_value_has_a_place_of_its_own() {
        for dims in [vec![5], vec![8, 16, 64, 300, 1000], vec![3, 41]] {
            let layout = Layout::new(&dims, 70);
            let mut taken = vec![false; layout.values()];
            for row in 0..70 {
                for (columns, at) in layout.lines(row, dims.len() - 1) {
                    taken[at..at + columns.len()].iter_mut().for_each(|place| {
                        assert!(!*place, "{dims:?} row {row}");
                        *place = true;
                    });
                }
            }
            assert_eq!(taken.iter().filter(|&&place| place).count(), 70 * dims[dims.len() - 1]);
        }
    }
}
