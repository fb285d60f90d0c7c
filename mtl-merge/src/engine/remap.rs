//! Embedding tables of one vocabulary seen as tables of another, row by row.
use super::source::Source;
use crate::{Result, tensor::Values};
use std::ops::Range;

/// Where a row of a table in the output's vocabulary comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowFrom {
    /// A row of the model's own table.
    Own(usize),
    /// The mean of rows of several models' tables: (position among the inputs, row).
    Mean(Vec<(usize, usize)>),
    /// Zeros.
    Zero,
}

/// A model's table in the output's vocabulary.
pub(crate) struct Remapped<'a> {
    /// The table in each input: checkpoint and tensor.
    pub(crate) tables: Vec<(&'a dyn Source, usize)>,
    /// The model's position in `tables`.
    pub(crate) own: usize,
    pub(crate) rows: &'a [RowFrom],
    /// Elements of one row.
    pub(crate) width: usize,
}

impl Remapped<'_> {
    /// Elements `columns` of row `row` of an input's table.
    fn row(&self, input: usize, row: usize, columns: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let (source, tensor) = self.tables[input];
        let start = row * self.width;
        source.read(tensor, start + columns.start..start + columns.end, out)
    }
}

impl Values for Remapped<'_> {
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let mut finite = true;
        let mut at = span.start;
        while at < span.end {
            let (row, column) = (at / self.width, at % self.width);
            let end = (at + self.width - column).min(span.end);
            let columns = column..column + (end - at);
            let out = &mut out[at - span.start..end - span.start];
            match &self.rows[row] {
                RowFrom::Own(from) => finite &= self.row(self.own, *from, columns, out)?,
                RowFrom::Zero => out.fill(0.0),
                RowFrom::Mean(rows) => {
                    out.fill(0.0);
                    let mut one = vec![0.0; out.len()];
                    for &(input, from) in rows {
                        finite &= self.row(input, from, columns.clone(), &mut one)?;
                        out.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x);
                    }
                    out.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
                }
            }
            at = end;
        }
        Ok(finite)
    }

    fn label(&self) -> String {
        let (source, tensor) = self.tables[self.own];
        source.place(tensor)
    }

    fn name(&self) -> &str {
        let (source, tensor) = self.tables[self.own];
        &source.tensors()[tensor].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, TensorMap, engine::source::MapSource};

    #[test]
    fn rows_are_picked_averaged_or_zero_wherever_a_piece_begins() {
        let map = |values: &[f32]| {
            let table = HostTensor::new(vec![2, 3], values.to_vec()).unwrap();
            TensorMap::from([("table".to_owned(), table)])
        };
        let (a, b) = (map(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), map(&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0]));
        let (a, b) = (MapSource::new("a", &a), MapSource::new("b", &b));
        let rows = [RowFrom::Own(1), RowFrom::Mean(vec![(0, 0), (1, 1)]), RowFrom::Zero];
        let table = Remapped { tables: vec![(&a, 0), (&b, 0)], own: 0, rows: &rows, width: 3 };
        let expected = [4.0, 5.0, 6.0, 20.5, 26.0, 31.5, 0.0, 0.0, 0.0];
        for start in 0..9 {
            for end in start..9 {
                let mut out = vec![-1.0; end - start];
                assert!(table.read(start..end, &mut out).unwrap());
                assert_eq!(out, expected[start..end]);
            }
        }
    }
}
