//! The best encoder: among all there are, or by mutation of one stage at a time.
use super::{SearchConfig, SlimmableNet, WidthRatio, search::Candidate};
use crate::Result;
use rand::RngExt;
use std::collections::BTreeSet;

/// What an encoder is worth; none where it does not fit the budget or was not measured.
type Evaluate<'a> = dyn FnMut(&[WidthRatio]) -> Result<Option<Candidate>> + 'a;

/// The best candidate, deterministically; `anchor` is an encoder that must be among those considered.
pub(super) fn best(
    net: &SlimmableNet,
    config: &SearchConfig,
    anchor: Option<&[WidthRatio]>,
    evaluate: &mut Evaluate<'_>,
) -> Result<Option<Candidate>> {
    let (ratios, stages) = (&net.config().widths, net.stages());
    let uniform = || ratios.iter().map(|w| vec![*w; stages]);
    let count = (0..stages).try_fold(1usize, |n, _| n.checked_mul(ratios.len()));
    let all = count.is_some_and(|n| n <= config.population.saturating_mul(config.generations));
    if !config.per_stage {
        return best_of(uniform(), evaluate);
    }
    if all {
        let count = count.unwrap_or(0);
        return best_of((0..count).map(|index| nth(ratios, stages, index)), evaluate);
    }
    let mut known: BTreeSet<Vec<WidthRatio>> = BTreeSet::new();
    let mut generation: Vec<Vec<WidthRatio>> = uniform().chain(anchor.map(<[_]>::to_vec)).collect();
    let mut parents: Vec<Candidate> = Vec::new();
    for index in 0..=config.generations {
        for encoder in generation {
            if known.insert(encoder.clone()) {
                parents.extend(evaluate(&encoder)?);
            }
        }
        parents.sort_by(Candidate::order);
        parents.truncate(config.population);
        if index == config.generations || parents.is_empty() {
            break;
        }
        let mut rng = config.seed.stream("slimmable search", index as u64);
        let mut child = || {
            // Of two parents the better one, as they are sorted.
            let at = rng.random_range(0..parents.len()).min(rng.random_range(0..parents.len()));
            let mut encoder = parents.get(at).map(|p| p.widths.encoder.clone()).unwrap_or_default();
            let (stage, ratio) =
                (rng.random_range(0..stages.max(1)), rng.random_range(0..ratios.len().max(1)));
            if let (Some(slot), Some(ratio)) = (encoder.get_mut(stage), ratios.get(ratio)) {
                *slot = *ratio;
            }
            encoder
        };
        generation = (0..config.population).map(|_| child()).collect();
    }
    Ok(parents.into_iter().next())
}

fn best_of(
    encoders: impl Iterator<Item = Vec<WidthRatio>>,
    evaluate: &mut Evaluate<'_>,
) -> Result<Option<Candidate>> {
    let mut best: Option<Candidate> = None;
    for encoder in encoders {
        if let Some(candidate) = evaluate(&encoder)?
            && best.as_ref().is_none_or(|b| candidate.order(b).is_lt())
        {
            best = Some(candidate);
        }
    }
    Ok(best)
}

/// The `index`-th of all encoders.
fn nth(ratios: &[WidthRatio], stages: usize, mut index: usize) -> Vec<WidthRatio> {
    let n = ratios.len().max(1);
    let mut digit = || {
        let ratio = ratios.get(index % n).copied().unwrap_or(WidthRatio::FULL);
        index /= n;
        ratio
    };
    (0..stages).map(|_| digit()).collect()
}
