//! Multiple choice as BIG-bench scores it: Srivastava et al., *Beyond the Imitation Game*, TMLR 2023, arXiv 2206.04615.
use super::{Binning, Calibration, finite};
use crate::{Error, Result};

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Score of the most probable choice, the first of several.
    pub grade: f64,
    /// Mean over choices of (probability − score)².
    pub brier: f64,
    /// Probability of the most probable choice.
    pub confidence: f64,
    /// Whether the score of the most probable choice is above 0.
    pub correct: bool,
    /// Mean score of the choices: what chance reaches.
    pub chance: f64,
}

impl Choice {
    /// Scores one question; probabilities are the softmax of `log_probs` over its choices.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are no choices, lengths differ or a number is not finite.
    pub fn of(log_probs: &[f64], scores: &[f64]) -> Result<Self> {
        const NAME: &str = "multiple_choice";
        if log_probs.is_empty() || log_probs.len() != scores.len() {
            let message = format!("{} probabilities and {} scores of choices", log_probs.len(), scores.len());
            return Err(Error::metric(NAME, message));
        }
        finite(NAME, "log probability", log_probs.iter().copied())?;
        finite(NAME, "score", scores.iter().copied())?;
        let best = (1..log_probs.len()).fold(0, |b, i| if log_probs[i] > log_probs[b] { i } else { b });
        let weights: Vec<f64> = log_probs.iter().map(|l| (l - log_probs[best]).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let n = scores.len() as f64;
        let square = |(w, s): (&f64, &f64)| (w / sum - s).powi(2);
        Ok(Self {
            grade: scores[best],
            brier: weights.iter().zip(scores).map(square).sum::<f64>() / n,
            confidence: 1.0 / sum,
            correct: scores[best] > 0.0,
            chance: scores.iter().sum::<f64>() / n,
        })
    }
}

/// Means over questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceScores {
    /// Mean grade.
    pub grade: f64,
    /// Mean Brier score, averaged over choices.
    pub brier: f64,
    /// Expected calibration error in 10 bins of equal width.
    pub ece: f64,
    /// Mean score of a random choice.
    pub chance: f64,
    /// 100 (grade − chance) / (high − chance): 0 for chance, 100 for the best; may be negative.
    pub normalised_grade: f64,
}

/// Scores a task; `high` is the grade that counts as 100, usually 1.
///
/// ```
/// use mtl_bench::metrics::{Choice, choice_scores};
///
/// let right = Choice::of(&[0.0, -3.0], &[1.0, 0.0])?;
/// assert_eq!(choice_scores(&[right], 1.0)?.normalised_grade, 100.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no questions, or `high` is not above chance.
pub fn choice_scores(choices: &[Choice], high: f64) -> Result<ChoiceScores> {
    const NAME: &str = "multiple_choice";
    if choices.is_empty() {
        return Err(Error::metric(NAME, "there are no examples"));
    }
    let mean = |value: fn(&Choice) -> f64| choices.iter().map(value).sum::<f64>() / choices.len() as f64;
    let (grade, chance) = (mean(|c| c.grade), mean(|c| c.chance));
    if !(high > chance && high.is_finite()) {
        return Err(Error::metric(NAME, format!("the best grade {high} is not above chance, {chance}")));
    }
    let confidence: Vec<f64> = choices.iter().map(|c| c.confidence).collect();
    let correct: Vec<bool> = choices.iter().map(|c| c.correct).collect();
    Ok(ChoiceScores {
        grade,
        brier: mean(|c| c.brier),
        ece: Calibration::of(&confidence, &correct, Binning::EqualWidth, 10)?.expected_error(),
        chance,
        normalised_grade: 100.0 * (grade - chance) / (high - chance),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(Choice::of(&[0.0], &[]).unwrap_err(), @"`multiple_choice`: 1 probabilities and 0 scores of choices");
        insta::assert_snapshot!(Choice::of(&[f64::NAN], &[1.0]).unwrap_err(), @"`multiple_choice`: log probability 0 is NaN");
        let sure = Choice::of(&[0.0], &[1.0]).unwrap();
        insta::assert_snapshot!(choice_scores(&[sure], 1.0).unwrap_err(), @"`multiple_choice`: the best grade 1 is not above chance, 1");
    }
}
