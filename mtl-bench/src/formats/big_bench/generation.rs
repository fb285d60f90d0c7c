//! Scores of generated answers.
use super::Metric;
use crate::Result;
use crate::metrics::text::{BleuOptions, RougeKind, corpus_bleu, rouge_best};
use std::collections::BTreeMap;

/// Cleaned answers beside the accepted ones, the same number of both.
#[derive(Debug, Default)]
pub(super) struct Answers<'a> {
    pub found: Vec<&'a str>,
    pub accepted: Vec<Vec<&'a str>>,
}

impl Answers<'_> {
    pub(super) fn right(&self) -> impl Iterator<Item = bool> {
        self.found.iter().zip(&self.accepted).map(|(f, a)| a.iter().any(|t| t.trim() == *f))
    }

    /// Scores by name of one metric that needs text.
    pub(super) fn score(&self, metric: Metric, scores: &mut BTreeMap<&'static str, f64>) -> Result<()> {
        let n = self.found.len().max(1) as f64;
        match metric {
            Metric::ExactStrMatch => {
                scores.insert(metric.name(), self.right().filter(|r| *r).count() as f64 / n);
            }
            Metric::Bleu => {
                let bleu = corpus_bleu(&self.found, &self.accepted, BleuOptions::default())?;
                scores.insert(metric.name(), bleu.score);
            }
            Metric::Rouge => {
                for (name, value) in self.rouge()? {
                    scores.insert(name, value);
                }
            }
            Metric::MacroF1 => {
                let pairs = self.found.iter().zip(&self.accepted).map(|(f, a)| {
                    let target = a.iter().map(|t| t.trim()).find(|t| t == f);
                    (*f, target.or_else(|| a.first().map(|t| t.trim())).unwrap_or_default())
                });
                scores.insert(metric.name(), macro_f1(pairs));
            }
            _ => {}
        }
        Ok(())
    }

    fn rouge(&self) -> Result<[(&'static str, f64); 5]> {
        let mean = |kind: RougeKind| -> Result<f64> {
            let mut sum = 0.0;
            for (found, accepted) in self.found.iter().zip(&self.accepted) {
                sum += rouge_best(found, accepted, kind, false)?.f1;
            }
            Ok(100.0 * sum / self.found.len().max(1) as f64)
        };
        let sums = self
            .found
            .iter()
            .zip(&self.accepted)
            .map(|(f, a)| a.iter().map(|t| rouge_l_sum(f, t)).fold(0.0, f64::max));
        let l_sum = 100.0 * sums.sum::<f64>() / self.found.len().max(1) as f64;
        Ok([
            ("rouge1", mean(RougeKind::N(1))?),
            ("rouge2", mean(RougeKind::N(2))?),
            ("rougeL", mean(RougeKind::L)?),
            ("rougeLsum", l_sum),
            (Metric::Rouge.name(), l_sum),
        ])
    }
}

/// F1 averaged over all classes that occur as a target or a prediction; pairs are (prediction, target).
pub(super) fn macro_f1<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> f64 {
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new(); // right, and targets + predictions
    for (prediction, target) in pairs {
        for class in [prediction, target] {
            counts.entry(class).or_default()[1] += 1;
        }
        if prediction == target {
            counts.entry(target).or_default()[0] += 1;
        }
    }
    let f1 = |[right, all]: &[u64; 2]| 2.0 * *right as f64 / *all as f64;
    counts.values().map(f1).sum::<f64>() / counts.len().max(1) as f64
}

/// ROUGE-L F of texts of several lines: Lin 2004, section 3.2 (union of the longest common subsequences of each reference
/// line with all lines of the answer, each token of the answer counted once). Without stemming.
fn rouge_l_sum(found: &str, reference: &str) -> f64 {
    let lines =
        |text: &str| -> Vec<Vec<String>> { text.split('\n').map(tokens).filter(|l| !l.is_empty()).collect() };
    let (found, reference) = (lines(found), lines(reference));
    let count = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum::<usize>();
    let (of_found, of_reference) = (count(&found), count(&reference));
    if of_found == 0 || of_reference == 0 {
        return 0.0;
    }
    let bag = |lines: &[Vec<String>]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for token in lines.iter().flatten() {
            *counts.entry(token.clone()).or_default() += 1;
        }
        counts
    };
    let (mut left_found, mut left_reference) = (bag(&found), bag(&reference));
    let mut hits = 0usize;
    for line in &reference {
        let mut union = vec![false; line.len()];
        for other in &found {
            mark_common(line, other, &mut union);
        }
        for (token, _) in line.iter().zip(&union).filter(|(_, u)| **u) {
            let (Some(f), Some(r)) = (left_found.get_mut(token), left_reference.get_mut(token)) else {
                continue;
            };
            if *f > 0 && *r > 0 {
                (*f, *r, hits) = (*f - 1, *r - 1, hits + 1);
            }
        }
    }
    2.0 * hits as f64 / (of_found + of_reference) as f64
}

fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    parts.filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// Marks the tokens of `line` that are in its longest common subsequence with `other`.
fn mark_common(line: &[String], other: &[String], marks: &mut [bool]) {
    let width = other.len() + 1;
    let mut table = vec![0u32; (line.len() + 1) * width];
    for (i, a) in line.iter().enumerate() {
        for (j, b) in other.iter().enumerate() {
            let at = (i + 1) * width + j + 1;
            table[at] = if a == b { table[at - width - 1] + 1 } else { table[at - 1].max(table[at - width]) };
        }
    }
    let (mut i, mut j) = (line.len(), other.len());
    while i > 0 && j > 0 {
        let at = i * width + j;
        if line[i - 1] == other[j - 1] {
            marks[i - 1] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[at - width] < table[at - 1] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_text_follow_their_definitions() {
        // Lin 2004: reference w1…w5, answers "w1 w2 w6 w7 w8" and "w1 w3 w8 w9 w5": union w1 w2 w3 w5, 4 of 5.
        let f = rouge_l_sum("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5");
        assert!((f - 2.0 * 4.0 / 15.0).abs() < 1e-12, "{f}");
        assert_eq!(rouge_l_sum("", "a"), 0.0);
        assert_eq!(rouge_l_sum("One two\nthree", "one two\nthree"), 1.0);
        // Class a: 2·1 of 2 targets and 1 prediction; b: all; c: predicted once, never right.
        let f = macro_f1([("a", "a"), ("c", "a"), ("b", "b")]);
        assert!((f - (2.0 / 3.0 + 0.0 + 1.0) / 3.0).abs() < 1e-12, "{f}");
    }
}
