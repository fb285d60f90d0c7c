//! Architectures and balancers against each other: a table, a picture, and who differs from the plain sum.
use crate::studies::pages::{LEVEL, Pages, ordered};
use mtl_bench::{
    Comparison, Pivot, Record, Results, Section, Table,
    compare::Outcome,
    metrics::Better,
    plot::HeatMap,
    store::Key,
    table::{Cell, Column},
};
use mtl_core::architectures::ARCHITECTURES;

/// The balancer that the others are compared with.
const PLAIN: &str = "equal";

/// Every architecture with every balancer.
pub(super) fn part(pages: &mut Pages<'_>, gains: &Results) -> anyhow::Result<Option<Section>> {
    let mut section = Section::new("Architectures").text(
        "Every architecture with every balancer. An architecture's experts, columns or branches are networks as wide as the \
         shared one, so most have more parameters than the shared bottom (hps): these are comparisons of methods as they are \
         used, not at equal cost.",
    );
    let mut found = false;
    for suite in ["multi-digits", "attributes"] {
        let prefix = format!("{suite}, ");
        let of_suite = gains.filter(|r| r.setting.starts_with(&prefix));
        // The setting is the architecture alone, so that it can be a column.
        let renamed = of_suite.records().iter().map(|r| {
            let architecture = r.setting.trim_start_matches(&prefix).to_owned();
            Record { setting: architecture, ..r.clone() }
        });
        let by_architecture = Results::from_records(renamed)?;
        if by_architecture.names(Key::Setting).len() < 2 {
            continue;
        }
        found = true;
        section = of_one_suite(pages, section, suite, &by_architecture)?;
    }
    Ok(found.then_some(section))
}

fn of_one_suite(
    pages: &mut Pages<'_>,
    section: Section,
    suite: &str,
    gains: &Results,
) -> anyhow::Result<Section> {
    let known: Vec<&str> = ARCHITECTURES.iter().map(|entry| entry.info.name).collect();
    let architectures = ordered(gains, Key::Setting, &known);
    let balancers = best_first(gains, &architectures)?;
    let names: Vec<&str> = balancers.iter().map(String::as_str).collect();
    let title = format!("Δm of architectures and balancers, {suite}");
    let mut pivot = Pivot::new(Key::Method, Key::Setting).rows(&names).columns(&architectures);
    for architecture in &architectures {
        let column = Column::new(*architecture).unit("%").better(Better::Higher).decimals(1);
        pivot = pivot.format(*architecture, column);
    }
    let table = pivot.table(gains)?.title(title.clone());
    pages.table(&format!("architectures-{suite}"), &table)?;

    let mean = |balancer: &str, architecture: &&str| -> anyhow::Result<Option<f64>> {
        let runs = gains.setting(architecture).method(balancer);
        Ok(if runs.is_empty() { None } else { Some(runs.estimate(LEVEL)?.mean) })
    };
    let row =
        |balancer: &&str| architectures.iter().map(|architecture| mean(balancer, architecture)).collect();
    let values: Vec<Vec<Option<f64>>> = names.iter().map(row).collect::<anyhow::Result<_>>()?;
    let columns: Vec<String> = architectures.iter().map(|name| (*name).to_owned()).collect();
    // A method that fails altogether would leave no colour for the others.
    let reach = spread(values.iter().flatten().flatten().copied());
    let map = HeatMap::new(&balancers, &columns, values)?
        .title(title)
        .labels("balancer", "architecture", "Δm [%]")
        .range(-reach, reach)
        .diverging(0.0)
        .decimals(1);
    pages.plot(&format!("architectures-{suite}"), &map)?;

    // Each architecture's balancers are a family of comparisons of their own.
    let columns = ["better", "worse", "no difference shown"].map(|name| Column::new(name).decimals(0));
    let mut counts =
        Table::new("architecture", columns).title(format!("Balancers beside the plain sum, {suite}"));
    let comparison = Comparison::new("delta_m", Better::Higher).label(format!("Δm ({suite})")).unit("%");
    for architecture in &architectures {
        let runs = gains.setting(architecture);
        let there = runs.names(Key::Method);
        let others: Vec<&str> = there.iter().map(String::as_str).filter(|name| *name != PLAIN).collect();
        if others.is_empty() || others.len() == there.len() {
            continue;
        }
        let verdicts = comparison.against(&runs, PLAIN, &others)?;
        let count = |outcome: Outcome| verdicts.iter().filter(|v| v.outcome() == outcome).count();
        let (better, worse) = (count(Outcome::Better), count(Outcome::Worse));
        let cells = [better, worse, verdicts.len() - better - worse].map(|n| Cell::from(n as f64));
        counts.row(*architecture, cells.to_vec())?;
    }
    pages.table(&format!("beside-plain-{suite}"), &counts)?;

    let renamed = gains
        .method(PLAIN)
        .records()
        .iter()
        .map(|r| Record { method: r.setting.clone(), setting: suite.to_owned(), ..r.clone() })
        .collect::<Vec<_>>();
    let plain = Results::from_records(renamed)?;
    let others: Vec<&str> = architectures.iter().copied().filter(|name| *name != "hps").collect();
    let comparison = Comparison::new("delta_m", Better::Higher)
        .label(format!("Δm with equal weights ({suite})"))
        .unit("%");
    let sentences = pages.compare(&comparison, &plain, "hps", &others)?;
    Ok(section
        .table(&table)
        .plot(&map, "Means over seeds; blue is worse and orange better than one model per task. Colours end at the ninth decile.")?
        .table(&counts)
        .list(sentences))
}

/// Balancers by their mean over those architectures that all of them were trained with, the best first.
fn best_first(gains: &Results, architectures: &[&str]) -> anyhow::Result<Vec<String>> {
    let names = gains.names(Key::Method);
    let complete = |architecture: &&str| gains.setting(architecture).names(Key::Method).len() == names.len();
    let common: Vec<&str> = architectures.iter().copied().filter(complete).collect();
    let mean = |name: &String| -> anyhow::Result<(String, f64)> {
        let of = |architecture: &&str| Ok(gains.setting(architecture).method(name).estimate(LEVEL)?.mean);
        let means = common.iter().map(of).collect::<anyhow::Result<Vec<f64>>>()?;
        Ok((name.clone(), means.iter().sum::<f64>() / means.len().max(1) as f64))
    };
    let mut means = names.iter().map(mean).collect::<anyhow::Result<Vec<_>>>()?;
    means.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(means.into_iter().map(|(name, _)| name).collect())
}

/// The ninth decile of the magnitudes.
fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let mut sizes: Vec<f64> = values.map(f64::abs).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len().saturating_sub(1) * 9 / 10).copied().filter(|size| *size > 0.0).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_end_at_the_ninth_decile() {
        assert_eq!(spread((0..=10).map(|i| -f64::from(i))), 9.0);
        assert_eq!((spread(std::iter::empty()), spread([0.0].into_iter())), (1.0, 1.0));
    }
}
