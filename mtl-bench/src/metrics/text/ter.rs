//! Translation edit rate: Snover et al., *A Study of Translation Edit Rate with Targeted Human Annotation*, AMTA 2006,
//! with the search limits of Tercom as in sacreBLEU. Lower is better.
use super::{corpus, has_references};
use crate::Result;
use std::cmp::Reverse;

const MAX_SHIFT_LENGTH: usize = 10;
const MAX_SHIFT_DISTANCE: usize = 50;
const MAX_CANDIDATES: usize = 1000;
const BEAM: f64 = 25.0;

/// Edits and the length that they are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ter {
    /// Insertions, deletions, substitutions and shifts of blocks, against the closest reference.
    pub edits: u64,
    /// Mean length of the references, in words.
    pub reference_length: f64,
}

impl Ter {
    /// Edits per 100 words; above 100 for long predictions. Without a reference word 100, or 0 without edits too.
    pub fn score(&self) -> f64 {
        match self {
            Self { edits, reference_length } if *reference_length > 0.0 => {
                100.0 * *edits as f64 / reference_length
            }
            Self { edits: 0, .. } => 0.0,
            _ => 100.0,
        }
    }
}

/// Edit rate of one prediction. Words are lower-cased and separated by white space.
///
/// ```
/// // One word is missing.
/// assert_eq!(mtl_bench::metrics::text::ter("a red cat", &["a big red cat"])?.score(), 25.0);
/// // One block was moved.
/// assert_eq!(mtl_bench::metrics::text::ter("c d a b", &["a b c d"])?.score(), 25.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no references.
pub fn ter<S: AsRef<str>>(prediction: &str, references: &[S]) -> Result<Ter> {
    has_references("ter", references)?;
    let prediction = prediction.to_lowercase();
    let found: Vec<&str> = prediction.split_whitespace().collect();
    let (mut least, mut length) = (u64::MAX, 0);
    for reference in references {
        let reference = reference.as_ref().to_lowercase();
        let expected: Vec<&str> = reference.split_whitespace().collect();
        least = least.min(edits(&found, &expected));
        length += expected.len();
    }
    Ok(Ter { edits: least, reference_length: length as f64 / references.len() as f64 })
}

/// Edit rate of a corpus: edits and lengths are summed before they are divided.
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no examples, lengths differ or a prediction has no references.
pub fn corpus_ter<P: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
    predictions: &[P],
    references: &[R],
) -> Result<Ter> {
    corpus("ter", predictions, references)?;
    let mut sum = Ter::default();
    for (prediction, references) in predictions.iter().zip(references) {
        let one = ter(prediction.as_ref(), references.as_ref())?;
        sum.edits += one.edits;
        sum.reference_length += one.reference_length;
    }
    Ok(sum)
}

/// Shifts greedily while that lowers the edit distance.
fn edits(found: &[&str], expected: &[&str]) -> u64 {
    if expected.is_empty() {
        return found.len() as u64;
    }
    let (mut words, mut shifts, mut tried) = (found.to_vec(), 0, 0);
    loop {
        let better = best_shift(&words, expected, &mut tried);
        // The limit also drops the shift found last, as Tercom's port does.
        let (Some(better), true) = (better, tried < MAX_CANDIDATES) else { break };
        words = better;
        shifts += 1;
    }
    shifts + distance(&words, expected).0
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Edit {
    Keep,
    Substitute,
    /// A reference word that the prediction lacks.
    Insert,
    /// A word of the prediction that the reference lacks.
    Delete,
}

/// Edit distance within a band around the diagonal, and the edits from the first word to the last.
fn distance(found: &[&str], expected: &[&str]) -> (u64, Vec<Edit>) {
    let (rows, columns) = (found.len(), expected.len());
    let ratio = if rows == 0 { 1.0 } else { columns as f64 / rows as f64 };
    // Very unequal lengths need a wider band, or neighbouring rows would not overlap.
    let width = (if ratio / 2.0 > BEAM { (ratio / 2.0 + BEAM).ceil() } else { BEAM }) as usize;
    let mut costs: Vec<Vec<(u64, Edit)>> = vec![(0..=columns).map(|j| (j as u64, Edit::Insert)).collect()];
    for i in 1..=rows {
        let diagonal = (i as f64 * ratio).floor() as usize;
        let end = if i == rows { columns + 1 } else { (diagonal + width).min(columns + 1) };
        let above = &costs[i - 1];
        let mut row = vec![(u64::MAX / 2, Edit::Insert); columns + 1];
        for j in diagonal.saturating_sub(width)..end {
            if j == 0 {
                row[0] = (above[0].0 + 1, Edit::Delete);
                continue;
            }
            let same = found[i - 1] == expected[j - 1];
            let edit = if same { Edit::Keep } else { Edit::Substitute };
            // Of equal costs, the first is taken.
            for (cost, edit) in [
                (above[j - 1].0 + u64::from(!same), edit),
                (above[j].0 + 1, Edit::Delete),
                (row[j - 1].0 + 1, Edit::Insert),
            ] {
                if cost < row[j].0 {
                    row[j] = (cost, edit);
                }
            }
        }
        costs.push(row);
    }
    let (mut i, mut j, mut trace) = (rows, columns, Vec::new());
    while i > 0 || j > 0 {
        let edit = match (i, j) {
            (_, 0) => Edit::Delete,
            (0, _) => Edit::Insert,
            _ => costs[i][j].1,
        };
        trace.push(edit);
        i -= usize::from(edit != Edit::Insert);
        j -= usize::from(edit != Edit::Delete);
    }
    trace.reverse();
    (costs[rows][columns].0, trace)
}

/// What the edit distance says about positions.
#[derive(Debug, Default)]
struct Alignment {
    /// Per reference word, one past the last position of the prediction that is aligned up to it.
    next: Vec<usize>,
    wrong_expected: Vec<bool>,
    wrong_found: Vec<bool>,
}

fn alignment(trace: &[Edit]) -> Alignment {
    let mut all = Alignment::default();
    for &edit in trace {
        let wrong = edit != Edit::Keep;
        if edit != Edit::Insert {
            all.wrong_found.push(wrong);
        }
        if edit != Edit::Delete {
            all.wrong_expected.push(wrong);
            all.next.push(all.wrong_found.len());
        }
    }
    all
}

/// Gain, length, start and place of a shift.
type Rank = (i64, usize, Reverse<usize>, Reverse<usize>);

/// The shift that lowers the distance most: then the longest, the earliest, and the one to the earliest place.
fn best_shift<'a>(words: &[&'a str], expected: &[&str], tried: &mut usize) -> Option<Vec<&'a str>> {
    let (before, trace) = distance(words, expected);
    let alignment = alignment(&trace);
    let mut best: Option<(Rank, Vec<&str>)> = None;
    for (from, at, length) in equal_blocks(words, expected) {
        let block = from..from + length;
        let wrong = |flags: &[bool], start: usize| flags[start..start + length].contains(&true);
        // `next` is one past the aligned position: in the block when that position is.
        let inside = alignment.next[at].checked_sub(1).is_some_and(|p| block.contains(&p));
        if !wrong(&alignment.wrong_found, from) || !wrong(&alignment.wrong_expected, at) || inside {
            continue;
        }
        let mut previous = None;
        for target in at..=at + length {
            // Behind the word that the reference word before is aligned with, or at the very start.
            let place = match target.checked_sub(1) {
                None => 0,
                Some(before) => alignment.next[before],
            };
            if previous == Some(place) {
                continue;
            }
            previous = Some(place);
            let shifted = shift(words, from, length, place);
            let gain = before as i64 - distance(&shifted, expected).0 as i64;
            *tried += 1;
            let rank = (gain, length, Reverse(from), Reverse(place));
            if best.as_ref().is_none_or(|(r, _)| rank > *r) {
                best = Some((rank, shifted));
            }
        }
        if *tried >= MAX_CANDIDATES {
            break;
        }
    }
    best.filter(|(rank, _)| rank.0 > 0).map(|(_, words)| words)
}

/// Blocks of equal words: start in the prediction, start in the reference, length.
fn equal_blocks(words: &[&str], expected: &[&str]) -> Vec<(usize, usize, usize)> {
    let mut blocks = Vec::new();
    for from in 0..words.len() {
        for at in 0..expected.len() {
            if from.abs_diff(at) <= MAX_SHIFT_DISTANCE {
                let same = words[from..].iter().zip(&expected[at..]).take_while(|(a, b)| a == b).count();
                blocks.extend((1..=same.min(MAX_SHIFT_LENGTH)).map(|length| (from, at, length)));
            }
        }
    }
    blocks
}

fn shift<'a>(words: &[&'a str], from: usize, length: usize, place: usize) -> Vec<&'a str> {
    let to = from + length;
    let parts: [&[&str]; 4] = if place < from {
        [&words[..place], &words[from..to], &words[place..from], &words[to..]]
    } else if place > to {
        [&words[..from], &words[to..place], &words[from..to], &words[place..]]
    } else {
        // Inside the block itself: it moves on by as many words as the place is into it.
        let end = (length + place).min(words.len());
        [&words[..from], &words[to..end], &words[from..to], &words[end..]]
    };
    parts.concat()
}
