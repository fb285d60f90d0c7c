//! Captions of steps.
use super::{Step, Task, best_assignment};
use crate::metrics::text::{
    CiderKind, MeteorOptions, cider, coco_bleu, coco_rouge_l, distinct_n, meteor_lite,
};
use crate::stats::mean;
use crate::{Error, Result};

/// Lower-case words without punctuation, separated by blanks: the tokens of the COCO metrics, without the PTB tool.
pub fn coco_tokens(text: &str) -> String {
    let kept: String =
        text.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' }).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Scores of captions against their references.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionScores {
    /// BLEU-1 to BLEU-4 of the corpus, 0 to 1.
    pub bleu: [f64; 4],
    /// Mean METEOR with exact and stem matches only, 0 to 1.
    pub meteor_lite: f64,
    /// Mean ROUGE-L with β = 1.2, 0 to 1.
    pub rouge_l: f64,
    /// Mean CIDEr, 0 to 10.
    pub cider: f64,
    /// Mean CIDEr-D, 0 to 10.
    pub cider_d: f64,
    /// Different words over all words of the predictions.
    pub distinct_1: f64,
}

/// Scores captions; `pairs` are of a prediction and its references. Document frequencies come from these references.
///
/// # Errors
///
/// [`Error::Metric`] for fewer than 2 captions, or one without references.
pub fn caption_scores<P: AsRef<str>, S: AsRef<str>>(pairs: &[(P, Vec<S>)]) -> Result<CaptionScores> {
    let found: Vec<String> = pairs.iter().map(|(p, _)| coco_tokens(p.as_ref())).collect();
    let references: Vec<Vec<String>> =
        pairs.iter().map(|(_, r)| r.iter().map(|t| coco_tokens(t.as_ref())).collect()).collect();
    let cider_of = |kind| Ok::<_, Error>(mean(&cider(&found, &references, kind)?));
    let (plain, clipped) = (cider_of(CiderKind::Plain)?, cider_of(CiderKind::D)?);
    let each = |score: &dyn Fn(&str, &[String]) -> Result<f64>| {
        let scores = found.iter().zip(&references).map(|(p, r)| score(p, r)).collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>(mean(&scores))
    };
    let no_words = found.iter().all(String::is_empty);
    Ok(CaptionScores {
        bleu: coco_bleu(&found, &references)?.0,
        meteor_lite: each(&|p, r| meteor_lite(p, r, MeteorOptions::default()))?,
        rouge_l: each(&|p, r| coco_rouge_l(p, r))?,
        cider: plain,
        cider_d: clipped,
        distinct_1: if no_words { 0.0 } else { distinct_n(&found, 1)? },
    })
}

/// A step that a system found, with its caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// Start, s.
    pub start: f64,
    /// End, s.
    pub end: f64,
    /// Caption.
    pub caption: String,
}

/// Intersection over union of two intervals in time, 0 to 1.
pub fn temporal_iou(a: (f64, f64), b: (f64, f64)) -> f64 {
    let common = (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
    let all = (a.1 - a.0) + (b.1 - b.0) - common;
    if all > 0.0 { common / all } else { 0.0 }
}

/// Scores of found steps at one threshold of temporal IoU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DenseScores {
    /// Least IoU of a match.
    pub threshold: f64,
    /// Share of the predicted steps that match one.
    pub precision: f64,
    /// Share of the reference steps that are matched.
    pub recall: f64,
    /// Mean METEOR-lite of the captions of matched steps; 0 without a match.
    pub meteor_lite: f64,
    /// Mean ROUGE-L (β = 1.2) of the captions of matched steps; 0 without a match.
    pub rouge_l: f64,
    /// METEOR-lite times recall.
    pub meteor_recall: f64,
}

/// Scores of the found steps of videos: `[video]` of predictions and references, at the thresholds 0.3, 0.5 and 0.7.
///
/// Steps are matched one to one, so that the sum of the IoUs at or above the threshold is largest.
///
/// # Errors
///
/// [`Error::Metric`] when there are no reference steps or a predicted time is not finite or out of order.
pub fn dense_scores(videos: &[(Vec<Predicted>, Vec<Step>)]) -> Result<[DenseScores; 3]> {
    const NAME: &str = "dense_captions";
    let steps: usize = videos.iter().map(|(_, r)| r.len()).sum();
    let predictions: usize = videos.iter().map(|(p, _)| p.len()).sum();
    if steps == 0 {
        return Err(Error::metric(NAME, "there are no reference steps"));
    }
    for (v, (predicted, _)) in videos.iter().enumerate() {
        let bad = |p: &Predicted| !(p.start < p.end && p.start.is_finite() && p.end.is_finite());
        if let Some(i) = predicted.iter().position(bad) {
            return Err(Error::metric(
                NAME,
                format!("prediction {i} of video {v} has no start before its end"),
            ));
        }
    }
    let at = |threshold: f64| -> Result<DenseScores> {
        let (mut meteor, mut rouge) = (Vec::new(), Vec::new());
        for (predicted, reference) in videos {
            let iou = |p: &Predicted, r: &Step| {
                let iou = temporal_iou((p.start, p.end), (r.start, r.end));
                if iou >= threshold { iou } else { 0.0 }
            };
            let scores: Vec<Vec<f64>> =
                predicted.iter().map(|p| reference.iter().map(|r| iou(p, r)).collect()).collect();
            for (p, matched) in predicted.iter().zip(best_assignment(&scores)?) {
                let Some(r) = matched.and_then(|m| reference.get(m)).filter(|r| iou(p, r) > 0.0) else {
                    continue;
                };
                let (found, expected) = (coco_tokens(&p.caption), [coco_tokens(&r.caption)]);
                meteor.push(meteor_lite(&found, &expected, MeteorOptions::default())?);
                rouge.push(coco_rouge_l(&found, &expected)?);
            }
        }
        let average = |values: &[f64]| if values.is_empty() { 0.0 } else { mean(values) };
        let recall = meteor.len() as f64 / steps as f64;
        Ok(DenseScores {
            threshold,
            precision: meteor.len() as f64 / predictions.max(1) as f64,
            recall,
            meteor_lite: average(&meteor),
            rouge_l: average(&rouge),
            meteor_recall: average(&meteor) * recall,
        })
    };
    Ok([at(0.3)?, at(0.5)?, at(0.7)?])
}

/// What of the guideline a captioner is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guidance {
    /// Nothing: step captioning.
    None,
    /// All steps.
    Guideline,
    /// The step that the video's step belongs to, from the annotation; nothing where it has none.
    Oracle,
}

/// A text prompt for the caption of a step; `segment` describes the video segment, such as features or a transcript.
pub fn caption_prompt(task: &Task, step: &Step, segment: &str, guidance: Guidance) -> String {
    let mut prompt = String::new();
    match guidance {
        Guidance::None => {}
        Guidance::Guideline => prompt.push_str(&format!("Guideline:\n{}\n", task.guideline_text())),
        Guidance::Oracle => {
            let matching = task.guideline.iter().find(|g| Some(g.id) == step.guideline);
            if let Some(matching) = matching {
                prompt.push_str(&format!("Guideline step: {}\n", matching.text));
            }
        }
    }
    prompt.push_str(&format!("Segment from {:.1} s to {:.1} s: {segment}\nCaption:", step.start, step.end));
    prompt
}
