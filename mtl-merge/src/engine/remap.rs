//! Embedding tables of one vocabulary seen as tables of another, row by row.
use super::source::Source;
use crate::{Result, tensor::Values, tokenizer::RowSource};
use std::{collections::BTreeMap, ops::Range, sync::OnceLock};

/// A model's table in the output's vocabulary.
pub(crate) struct Remapped<'a> {
    /// The table of each checkpoint, by its position in the plan: source and tensor.
    pub(crate) tables: BTreeMap<usize, (&'a dyn Source, usize)>,
    /// The model's own position.
    pub(crate) own: usize,
    pub(crate) rows: &'a [RowSource],
    /// Elements of one row.
    pub(crate) width: usize,
    /// Mean of the rows that belong to tokens, once it is known, and whether it is finite.
    pub(crate) mean: OnceLock<(Vec<f64>, bool)>,
}

impl Remapped<'_> {
    /// Elements `columns` of row `row` of an input's table.
    fn row(&self, input: usize, row: usize, columns: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let (source, tensor) = self.tables[&input];
        let start = row * self.width;
        source.read(tensor, start + columns.start..start + columns.end, out)
    }

    /// Elements `columns` of output row `row`, unless it is padding.
    fn token(&self, row: usize, columns: Range<usize>, out: &mut [f64]) -> Result<bool> {
        match &self.rows[row] {
            RowSource::Own(from) => self.row(self.own, *from, columns, out),
            RowSource::Model { model, row } => self.row(*model, *row, columns, out),
            RowSource::Mean(rows) => {
                out.fill(0.0);
                let (mut one, mut finite) = (vec![0.0; out.len()], true);
                for &(model, from) in rows.iter() {
                    finite &= self.row(model, from, columns.clone(), &mut one)?;
                    out.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x);
                }
                out.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
                Ok(finite)
            }
            RowSource::Zero | RowSource::MeanOfAll => {
                out.fill(0.0);
                Ok(true)
            }
        }
    }

    /// Mean of the rows that belong to tokens.
    fn mean(&self) -> Result<&(Vec<f64>, bool)> {
        if let Some(mean) = self.mean.get() {
            return Ok(mean);
        }
        let (mut sum, mut one, mut n, mut finite) = (vec![0.0; self.width], vec![0.0; self.width], 0, true);
        for (row, source) in self.rows.iter().enumerate() {
            if *source != RowSource::MeanOfAll {
                finite &= self.token(row, 0..self.width, &mut one)?;
                sum.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x);
                n += 1;
            }
        }
        sum.iter_mut().for_each(|sum| *sum /= f64::from(n.max(1)));
        Ok(self.mean.get_or_init(|| (sum, finite)))
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
            if self.rows[row] == RowSource::MeanOfAll {
                let (mean, all_finite) = self.mean()?;
                out.copy_from_slice(&mean[columns]);
                finite &= all_finite;
            } else {
                finite &= self.token(row, columns, out)?;
            }
            at = end;
        }
        Ok(finite)
    }

    fn label(&self) -> String {
        let (source, tensor) = self.tables[&self.own];
        source.place(tensor)
    }

    fn name(&self) -> &str {
        let (source, tensor) = self.tables[&self.own];
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
        let mean = RowSource::Mean([(0, 0), (1, 1)].into());
        let rows = [RowSource::Own(1), mean, RowSource::Zero, RowSource::MeanOfAll];
        let tables: BTreeMap<usize, (&dyn Source, usize)> = [(0, (&a as _, 0)), (1, (&b as _, 0))].into();
        let table = Remapped { tables, own: 0, rows: &rows, width: 3, mean: OnceLock::new() };
        let mut expected = vec![4.0, 5.0, 6.0, 20.5, 26.0, 31.5, 0.0, 0.0, 0.0];
        expected.extend([24.5 / 3.0, 31.0 / 3.0, 37.5 / 3.0]); // Padding: the mean of the tokens' rows.
        for start in 0..12 {
            for end in start..12 {
                let mut out = vec![-1.0; end - start];
                assert!(table.read(start..end, &mut out).unwrap());
                assert_eq!(out, expected[start..end]);
            }
        }
    }
}
