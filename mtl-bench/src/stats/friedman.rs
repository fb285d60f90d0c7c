//! Friedman, JASA 32, 1937; F form: Iman and Davenport, Communications in Statistics A9, 1980; use for tables of
//! results: Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 7, 2006.
use super::ranks::{check_blocks, tied_ranks};
use super::{average_ranks, chi_squared_sf, f_sf, phi};
use crate::metrics::Better;
use crate::{Error, Result};

/// Result of [`friedman`].
#[derive(Debug, Clone, PartialEq)]
pub struct Friedman {
    /// Average rank of each method, 1 for the best.
    pub average_ranks: Vec<f64>,
    /// Number of blocks (tasks).
    pub blocks: usize,
    /// χ², corrected for ties; 0 when every block is one tie.
    pub chi_squared: f64,
    /// χ² without the correction.
    pub uncorrected: f64,
    /// p of χ².
    pub chi_squared_p: f64,
    /// Iman and Davenport's F; infinite when all blocks agree.
    pub f: f64,
    /// Degrees of freedom of F.
    pub df: (f64, f64),
    /// p of F: the one to report.
    pub p: f64,
    /// Kendall's coefficient of concordance, 0 to 1.
    pub kendall_w: f64,
}

/// Tests whether the methods (columns) of `blocks` `[tasks, methods]` rank alike.
///
/// ```
/// use mtl_bench::{metrics::Better, stats::friedman};
///
/// let blocks = [vec![3.0, 2.0, 1.0], vec![6.0, 5.0, 4.0], vec![9.0, 7.0, 8.0], vec![3.0, 2.0, 1.0]];
/// let test = friedman(&blocks, Better::Higher)?;
/// assert_eq!((test.chi_squared, &test.average_ranks[..]), (6.5, &[1.0, 2.25, 2.75][..]));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 3 methods (use [`super::wilcoxon`]) or 2 tasks, rows of unequal length, or
/// scores that are not finite.
pub fn friedman(blocks: &[Vec<f64>], better: Better) -> Result<Friedman> {
    check_blocks(blocks, 1)?;
    let (n, k) = (blocks.len() as f64, blocks[0].len() as f64);
    if k < 3.0 {
        return Err(Error::argument("blocks", "of at least 3 methods; use `wilcoxon` for 2", k));
    }
    if blocks.len() < 2 {
        return Err(Error::argument("blocks", "at least 2 tasks", blocks.len()));
    }
    let average_ranks = average_ranks(blocks, better)?;
    let centre = (k + 1.0) / 2.0;
    let squares: f64 = average_ranks.iter().map(|r| (r - centre).powi(2)).sum();
    let uncorrected = 12.0 * n / (k * (k + 1.0)) * squares;
    let ties: f64 = blocks.iter().map(|b| tied_ranks(b, better).1).sum();
    let factor = 1.0 - ties / (n * k * (k * k - 1.0));
    let chi_squared = if factor > 1e-12 { uncorrected / factor } else { 0.0 };
    let most = n * (k - 1.0);
    let rest = (most - chi_squared).max(0.0);
    let f = if rest > 1e-9 * most { (n - 1.0) * chi_squared / rest } else { f64::INFINITY };
    let df = (k - 1.0, (k - 1.0) * (n - 1.0));
    Ok(Friedman {
        average_ranks,
        blocks: blocks.len(),
        chi_squared,
        uncorrected,
        chi_squared_p: chi_squared_sf(chi_squared, k - 1.0)?,
        f,
        df,
        p: if f.is_finite() { f_sf(f, df.0, df.1)? } else { 0.0 },
        kendall_w: chi_squared / most,
    })
}

/// A method against the control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlComparison {
    /// Index of the method.
    pub method: usize,
    /// (R − R_control)/√(k(k+1)/6N): negative when the method is better.
    pub z: f64,
    /// Two-sided p.
    pub p: f64,
    /// p after Holm's correction over all methods but the control.
    pub holm: f64,
    /// p after Bonferroni's correction (Bonferroni–Dunn).
    pub bonferroni_dunn: f64,
}

impl Friedman {
    /// Standard error of a difference of average ranks.
    pub fn rank_error(&self) -> f64 {
        let k = self.average_ranks.len() as f64;
        (k * (k + 1.0) / (6.0 * self.blocks as f64)).sqrt()
    }

    /// Compares each method with one `control`, the fewest comparisons that answer the question.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is no such method.
    pub fn against_control(&self, control: usize) -> Result<Vec<ControlComparison>> {
        let k = self.average_ranks.len();
        let Some(base) = self.average_ranks.get(control) else {
            return Err(Error::argument("control", format!("below {k}"), control));
        };
        let others: Vec<usize> = (0..k).filter(|&m| m != control).collect();
        let z: Vec<f64> =
            others.iter().map(|&m| (self.average_ranks[m] - base) / self.rank_error()).collect();
        let p: Vec<f64> = z.iter().map(|z| (2.0 * phi(-z.abs())).min(1.0)).collect();
        let holm = super::holm(&p)?;
        let count = others.len() as f64;
        let row = |(i, &method): (usize, &usize)| ControlComparison {
            method,
            z: z[i],
            p: p[i],
            holm: holm[i],
            bonferroni_dunn: (p[i] * count).min(1.0),
        };
        Ok(others.iter().enumerate().map(row).collect())
    }
}
