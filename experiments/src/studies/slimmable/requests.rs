//! Requests on a grid of preferences, and what raising a preference does.
use super::performance::Grid;
use mtl_core::{
    Error, MultiTaskModel, Result,
    slimmable::{
        AccuracyTable, Calibration, EncoderRule, SearchConfig, SlimmableNet, UserConstraint, WidthConfig,
        WidthRatio, search,
    },
};
use std::collections::BTreeMap;

/// Every way to deal out `parts` equal parts of preference to `tasks` tasks.
pub(super) fn preferences(tasks: usize, parts: usize) -> Vec<Vec<usize>> {
    if tasks <= 1 {
        return vec![vec![parts; tasks]];
    }
    let with = |first: usize| {
        let rest = preferences(tasks - 1, parts - first).into_iter();
        rest.map(move |rest| std::iter::once(first).chain(rest).collect())
    };
    (0..=parts).flat_map(with).collect()
}

/// Performances on the calibration split relative to those at full width, of all networks whose encoder stages have one
/// width.
pub(super) fn calibration(net: &SlimmableNet, grid: &Grid) -> Result<AccuracyTable> {
    let full = grid.of(&net.full());
    let tasks = full.len();
    let widths = &net.config().widths;
    let mut table = AccuracyTable::default();
    for encoder in widths {
        for index in 0..widths.len().pow(tasks as u32) {
            let decoder = |task: usize| widths[index / widths.len().pow(task as u32) % widths.len()];
            let mut config = WidthConfig::uniform(net.stages(), *encoder, tasks, WidthRatio::FULL);
            config.decoders = (0..tasks).map(decoder).collect();
            let scores = grid.of(&config).iter().zip(&full).map(|(value, full)| value / full).collect();
            table.insert(config, scores)?;
        }
    }
    Ok(table)
}

/// The networks that a search answers the requests at one budget with.
#[derive(Debug)]
pub(super) struct Answers {
    /// By parts of preference.
    chosen: BTreeMap<Vec<usize>, WidthConfig>,
}

/// What happens where one part of preference moves from another task to task k.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// Pairs of requests.
    pub(super) pairs: u64,
    /// Those in which the decoder of task k is not narrowed.
    pub(super) wide: u64,
    /// Those in which the performance at task k does not fall.
    pub(super) kept: u64,
    /// Those in which the encoder or the decoder of task k changes.
    pub(super) moved: u64,
    /// Those of the latter in which the performance at task k does not fall.
    pub(super) moved_kept: u64,
}

impl Moves {
    pub(super) fn add(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.wide += other.wide;
        self.kept += other.kept;
        self.moved += other.moved;
        self.moved_kept += other.moved_kept;
    }
}

impl Answers {
    /// Searches for every request of `parts` parts at `max_macs`.
    pub(super) fn find(
        net: &SlimmableNet,
        table: &AccuracyTable,
        (parts, max_macs): (usize, u64),
        rule: EncoderRule,
    ) -> Result<Self> {
        let config = SearchConfig::default().rule(rule);
        let mut chosen = BTreeMap::new();
        for request in preferences(net.tasks().len(), parts) {
            let preference = request.iter().map(|r| *r as f64 / parts as f64).collect();
            let constraint = UserConstraint { preference, max_macs };
            let choice = search(net, &constraint, Calibration::Table(table), &config)?;
            if choice.macs > max_macs {
                return Err(Error::config("macs of the answer", format!("at most {max_macs}"), choice.macs));
            }
            chosen.insert(request, choice.widths);
        }
        Ok(Self { chosen })
    }

    /// Requests and answers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Vec<usize>, &WidthConfig)> {
        self.chosen.iter()
    }

    /// All pairs of requests that differ by one part of preference, each in the direction of the task that gains it.
    pub(super) fn moves(&self, grid: &Grid) -> Moves {
        let mut moves = Moves::default();
        for (request, before) in &self.chosen {
            let tasks = request.len();
            let pairs = (0..tasks).flat_map(|to| (0..tasks).map(move |from| (to, from)));
            for (to, from) in pairs.filter(|(to, from)| to != from && request[*from] > 0) {
                let mut raised = request.clone();
                raised[from] -= 1;
                raised[to] += 1;
                let Some(after) = self.chosen.get(&raised) else { continue };
                let kept = grid.of(after)[to] >= grid.of(before)[to];
                let moved = (&after.encoder, after.decoders[to]) != (&before.encoder, before.decoders[to]);
                moves.add(Moves {
                    pairs: 1,
                    wide: u64::from(after.decoders[to] >= before.decoders[to]),
                    kept: u64::from(kept),
                    moved: u64::from(moved),
                    moved_kept: u64::from(moved && kept),
                });
            }
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_all_there_are() {
        assert_eq!(preferences(2, 2), [[0, 2], [1, 1], [2, 0]]);
        let all = preferences(4, 10);
        assert_eq!(all.len(), 286); // 13 over 3
        assert!(all.iter().all(|request| request.iter().sum::<usize>() == 10));
    }
}
