//! Multiplication by matrices that are packed once and used for every request.
//!
//! A general library packs both operands on each call, since it cannot know that one of them is a
//! weight. Here the right-hand matrix lies in panels of [`PANEL`] columns, row after row, which is
//! the order in which the kernel reads it, and the left-hand one is read where it is. The kernel
//! keeps up to twelve rows of a panel in registers (24 accumulators of 16 floats with AVX-512), adds
//! the bias by starting from it, and writes each result once.

use std::ops::Range;

use super::Level;

/// Columns of a panel.
pub(in crate::model::bert) const PANEL: usize = 32;

/// Rows that the widest kernel computes together.
pub(in crate::model::bert) const ROWS: usize = 12;

/// A cache line of floats. Aligned, since a vector load that crosses lines costs two.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(in crate::model::bert) struct Line(pub(in crate::model::bert) [f32; 16]);

/// One row of a panel.
pub(in crate::model::bert) type Row = [Line; 2];

pub(in crate::model::bert) const ZERO: Row = [Line([0.0; 16]); 2];

/// Writes element `column` of a panel's row.
pub(in crate::model::bert) fn put(row: &mut Row, column: usize, value: f32) {
    row[column / 16].0[column % 16] = value;
}

/// A matrix (inputs × outputs) in panels, the last one filled up with zeros.
#[derive(Debug)]
pub(in crate::model::bert) struct Packed {
    inputs: usize,
    outputs: usize,
    panels: Vec<Row>,
    bias: Vec<Row>,
}

impl Packed {
    /// From a matrix as checkpoints hold it: row-major, outputs × inputs.
    pub(in crate::model::bert) fn new(matrix: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = matrix.len() / outputs.max(1);
        let count = outputs.div_ceil(PANEL);
        let mut packed = Self {
            inputs,
            outputs,
            panels: vec![ZERO; count * inputs],
            bias: vec![ZERO; count],
        };
        for (output, (row, bias)) in matrix.chunks_exact(inputs.max(1)).zip(bias).enumerate() {
            let (panel, column) = (output / PANEL, output % PANEL);
            put(&mut packed.bias[panel], column, *bias);
            for (input, value) in row.iter().enumerate() {
                put(&mut packed.panels[panel * inputs + input], column, *value);
            }
        }
        packed
    }

    pub(in crate::model::bert) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(in crate::model::bert) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Row-major rows, `stride` floats apart, of which `width` from `column` on are meant.
#[derive(Clone, Copy)]
pub(in crate::model::bert) struct Rows<'a> {
    pub(in crate::model::bert) data: &'a [f32],
    pub(in crate::model::bert) stride: usize,
    pub(in crate::model::bert) column: usize,
    pub(in crate::model::bert) width: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, at: usize) -> &'a [f32] {
        let from = at * self.stride + self.column;
        &self.data[from..from + self.width]
    }
}

/// Where results go.
pub(in crate::model::bert) struct Target<'a> {
    pub(in crate::model::bert) data: &'a mut [f32],
    pub(in crate::model::bert) stride: usize,
    pub(in crate::model::bert) column: usize,
}

/// What results start from.
#[derive(Clone, Copy)]
pub(in crate::model::bert) enum Start<'a> {
    Zero,
    /// A row that is the same for all.
    Bias(&'a Row),
    /// What is there.
    Added,
}

impl Level {
    /// `rows` of `from` times the columns `columns` (at most [`PANEL`]) of a panel, to the same rows
    /// of `to`.
    pub(in crate::model::bert) fn panel(
        self,
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        rows: Range<usize>,
        columns: usize,
    ) {
        assert_eq!(panel.len(), from.width, "a panel has one row an input");
        let mut at = rows.start;
        let most = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 6,
            Self::Portable => 4,
        };
        while at < rows.end {
            // Even tiles: sixteen rows are two times eight, not twelve and four.
            let left = rows.end - at;
            let tile = left.div_ceil(left.div_ceil(most));
            match self {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Level::all` found the instructions.
                Self::Avx512 => unsafe { avx512::tile(panel, start, from, to, at, tile, columns) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Self::Avx2 => unsafe { avx2::tile(panel, start, from, to, at, tile, columns) },
                Self::Portable => portable::tile(panel, start, from, to, at, tile, columns),
            }
            at += tile;
        }
    }

    /// All of `from` times `matrix`, plus its bias.
    pub(in crate::model::bert) fn multiply(
        self,
        matrix: &Packed,
        from: Rows<'_>,
        to: &mut Target<'_>,
        rows: usize,
    ) {
        for (at, bias) in matrix.bias.iter().enumerate() {
            let panel = &matrix.panels[at * matrix.inputs..(at + 1) * matrix.inputs];
            let mut target = Target {
                data: &mut *to.data,
                stride: to.stride,
                column: to.column + at * PANEL,
            };
            let columns = PANEL.min(matrix.outputs - at * PANEL);
            self.panel(
                panel,
                Start::Bias(bias),
                from,
                &mut target,
                0..rows,
                columns,
            );
        }
    }
}

/// Row `row` of the target, where the results of a panel go.
fn place<'a>(to: &'a mut Target<'_>, row: usize, columns: usize) -> &'a mut [f32] {
    let from = row * to.stride + to.column;
    &mut to.data[from..from + columns]
}

/// The values that a row's results start from.
fn first(start: Start<'_>, to: &mut Target<'_>, row: usize, columns: usize) -> Row {
    match start {
        Start::Zero => ZERO,
        Start::Bias(bias) => *bias,
        Start::Added => {
            let mut lines = ZERO;
            for (column, value) in place(to, row, columns).iter().enumerate() {
                put(&mut lines, column, *value);
            }
            lines
        }
    }
}

/// Calls a kernel with the number of rows as a constant, so that its accumulators are registers.
#[cfg(target_arch = "x86_64")]
macro_rules! with_rows {
    ($kernel:ident $arguments:tt, $rows:expr, [$($n:literal),*]) => {
        match $rows {
            $($n => $kernel::<$n> $arguments,)*
            other => unreachable!("tiles of {other} rows"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{Line, PANEL, Row, Rows, Start, Target, place};

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    pub(in crate::model::bert) fn tile(
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        at: usize,
        rows: usize,
        columns: usize,
    ) {
        with_rows!(
            kernel(panel, start, from, to, at, columns),
            rows,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        );
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(line: &Line) -> __m512 {
        // SAFETY: a line is sixteen floats.
        unsafe { _mm512_loadu_ps(line.0.as_ptr()) }
    }

    /// Bits of the columns from `from` on that are among the first `columns`.
    fn mask(columns: usize, from: usize) -> u16 {
        let count = columns.saturating_sub(from).min(16);
        ((1u32 << count) - 1) as u16
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    fn kernel<const N: usize>(
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        at: usize,
        columns: usize,
    ) {
        let inputs: [&[f32]; N] = std::array::from_fn(|i| &from.row(at + i)[..panel.len()]);
        let (low, high) = (mask(columns, 0), mask(columns, 16));
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        match start {
            Start::Zero => {}
            Start::Bias(bias) => sums = [[load(&bias[0]), load(&bias[1])]; N],
            Start::Added => {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let there = place(to, at + i, columns);
                    let upper = there.get(16..).unwrap_or_default();
                    // SAFETY: the masks leave out what is beyond `there`.
                    unsafe {
                        sum[0] = _mm512_maskz_loadu_ps(low, there.as_ptr());
                        sum[1] = _mm512_maskz_loadu_ps(high, upper.as_ptr());
                    }
                }
            }
        }
        for (k, row) in panel.iter().enumerate() {
            let (left, right) = (load(&row[0]), load(&row[1]));
            for i in 0..N {
                let x = _mm512_set1_ps(inputs[i][k]);
                sums[i][0] = _mm512_fmadd_ps(x, left, sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(x, right, sums[i][1]);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let there = place(to, at + i, columns);
            if columns == PANEL {
                // SAFETY: `there` is 32 floats.
                unsafe {
                    _mm512_storeu_ps(there.as_mut_ptr(), sum[0]);
                    _mm512_storeu_ps(there[16..].as_mut_ptr(), sum[1]);
                }
            } else {
                // SAFETY: the masks leave out what is beyond `there`.
                unsafe { _mm512_mask_storeu_ps(there.as_mut_ptr(), low, sum[0]) };
                if let Some(upper) = there.get_mut(16..) {
                    // SAFETY: as above.
                    unsafe { _mm512_mask_storeu_ps(upper.as_mut_ptr(), high, sum[1]) };
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
    };

    use super::{Row, Rows, Start, Target, ZERO, first, place};

    #[target_feature(enable = "avx2,fma")]
    pub(in crate::model::bert) fn tile(
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        at: usize,
        rows: usize,
        columns: usize,
    ) {
        with_rows!(
            kernel(panel, start, from, to, at, columns),
            rows,
            [1, 2, 3, 4, 5, 6]
        );
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(eight: &[f32]) -> __m256 {
        assert!(eight.len() >= 8);
        // SAFETY: eight floats are there.
        unsafe { _mm256_loadu_ps(eight.as_ptr()) }
    }

    /// Half a panel after the other: twelve accumulators of the sixteen registers.
    #[target_feature(enable = "avx2,fma")]
    fn kernel<const N: usize>(
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        at: usize,
        columns: usize,
    ) {
        let inputs: [&[f32]; N] = std::array::from_fn(|i| &from.row(at + i)[..panel.len()]);
        let mut results: [Row; N] = [ZERO; N];
        for (i, row) in results.iter_mut().enumerate() {
            *row = first(start, to, at + i, columns);
        }
        for half in 0..columns.div_ceil(16) {
            let mut sums: [[__m256; 2]; N] = std::array::from_fn(|i| {
                let line = &results[i][half].0;
                [load(&line[..8]), load(&line[8..])]
            });
            for (k, row) in panel.iter().enumerate() {
                let line = &row[half].0;
                let (left, right) = (load(&line[..8]), load(&line[8..]));
                for i in 0..N {
                    let x = _mm256_set1_ps(inputs[i][k]);
                    sums[i][0] = _mm256_fmadd_ps(x, left, sums[i][0]);
                    sums[i][1] = _mm256_fmadd_ps(x, right, sums[i][1]);
                }
            }
            for (row, sum) in results.iter_mut().zip(&sums) {
                let line = &mut row[half].0;
                // SAFETY: a line is sixteen floats.
                unsafe {
                    _mm256_storeu_ps(line.as_mut_ptr(), sum[0]);
                    _mm256_storeu_ps(line[8..].as_mut_ptr(), sum[1]);
                }
            }
        }
        for (i, row) in results.iter().enumerate() {
            for (v, result) in place(to, at + i, columns)
                .iter_mut()
                .zip(row.iter().flat_map(|line| line.0))
            {
                *v = result;
            }
        }
    }
}

mod portable {
    use super::{Row, Rows, Start, Target, first, place};

    pub(in crate::model::bert) fn tile(
        panel: &[Row],
        start: Start<'_>,
        from: Rows<'_>,
        to: &mut Target<'_>,
        at: usize,
        rows: usize,
        columns: usize,
    ) {
        for row in at..at + rows {
            let mut sums = first(start, to, row, columns);
            for (x, weights) in from.row(row).iter().zip(panel) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    for (s, w) in sum.0.iter_mut().zip(&weight.0) {
                        *s += x * w;
                    }
                }
            }
            for (v, result) in place(to, row, columns)
                .iter_mut()
                .zip(sums.iter().flat_map(|l| l.0))
            {
                *v = result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let pseudo = |at: usize| ((at * 7919 + seed) % 1009) as f32 / 504.5 - 1.0;
        (0..count).map(pseudo).collect()
    }

    #[test]
    fn every_level_computes_the_product_at_every_edge() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (2, 5, 16),
            (12, 33, 32),
            (13, 8, 33),
            (25, 40, 47),
            (7, 64, 96),
            (31, 3, 70),
        ] {
            let (x, w) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
            let bias = numbers(outputs, 3);
            let packed = Packed::new(&w, &bias);
            for level in Level::all() {
                // A frame around the target, which must stay as it is.
                let stride = outputs + 3;
                let mut y = vec![7.0; rows * stride];
                let from = Rows {
                    data: &x,
                    stride: inputs,
                    column: 0,
                    width: inputs,
                };
                let mut to = Target {
                    data: &mut y,
                    stride,
                    column: 1,
                };
                level.multiply(&packed, from, &mut to, rows);
                for row in 0..rows {
                    assert_eq!((y[row * stride], y[(row + 1) * stride - 1]), (7.0, 7.0));
                    for column in 0..outputs {
                        let products = (0..inputs).map(|k| {
                            f64::from(x[row * inputs + k]) * f64::from(w[column * inputs + k])
                        });
                        let want = products.sum::<f64>() + f64::from(bias[column]);
                        let got = f64::from(y[row * stride + 1 + column]);
                        assert!(
                            (got - want).abs() < 1e-4,
                            "{level:?} {rows}x{inputs}x{outputs}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn products_can_be_added_to_what_is_there() {
        let x = numbers(5 * 4, 1);
        let panel: Vec<Row> = (0..4)
            .map(|k| [Line([k as f32; 16]), Line([1.0; 16])])
            .collect();
        for level in Level::all() {
            for columns in [3, 16, 20, 32] {
                let mut y = vec![0.5; 5 * columns];
                let from = Rows {
                    data: &x,
                    stride: 4,
                    column: 0,
                    width: 4,
                };
                let mut to = Target {
                    data: &mut y,
                    stride: columns,
                    column: 0,
                };
                level.panel(&panel, Start::Added, from, &mut to, 1..5, columns);
                assert!(y[..columns].iter().all(|v| *v == 0.5), "not among the rows");
                for (row, x) in y.chunks(columns).zip(x.chunks(4)).skip(1) {
                    for (column, got) in row.iter().enumerate() {
                        let weight = |k: usize| if column < 16 { k as f32 } else { 1.0 };
                        let want = 0.5 + (0..4).map(|k| x[k] * weight(k)).sum::<f32>();
                        assert!((got - want).abs() < 1e-5, "{level:?} {columns}");
                    }
                }
            }
        }
    }
}
