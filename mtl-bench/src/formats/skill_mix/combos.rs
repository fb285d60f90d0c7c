//! Combinations of skills with a topic.
use super::Catalogue;
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use std::collections::BTreeSet;

/// k skills and a topic, by index in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Combo {
    /// Ascending, so that a combination has one form.
    pub skills: Vec<usize>,
    /// Topic.
    pub topic: usize,
}

impl Combo {
    /// The combination of skills and a topic by name.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for a name that is not in the catalogue; [`Error::Argument`] for a skill given twice or
    /// none.
    pub fn new(catalogue: &Catalogue, skills: &[&str], topic: &str) -> Result<Self> {
        let unknown =
            |kind, name: &str, known: Vec<&str>| Error::Core(mtl_core::Error::unknown(kind, name, known));
        let find = |name: &&str| {
            let found = catalogue.skills.iter().position(|s| s.name == *name);
            found.ok_or_else(|| unknown("skill", name, catalogue.skills.iter().map(|s| s.name).collect()))
        };
        let mut skills = skills.iter().map(find).collect::<Result<Vec<_>>>()?;
        skills.sort_unstable();
        let found = catalogue.topics.iter().position(|t| t.name == topic);
        let topics = || catalogue.topics.iter().map(|t| t.name).collect();
        let combo = Self { skills, topic: found.ok_or_else(|| unknown("topic", topic, topics()))? };
        combo.check(catalogue)?;
        Ok(combo)
    }

    /// Names the combination, such as `hedge+question@music`; the same for every order of its skills.
    pub fn id(&self, catalogue: &Catalogue) -> String {
        let mut names: Vec<&str> =
            self.skills.iter().filter_map(|&s| catalogue.skills.get(s)).map(|s| s.name).collect();
        names.sort_unstable();
        format!("{}@{}", names.join("+"), catalogue.topics.get(self.topic).map_or("", |t| t.name))
    }

    pub(super) fn check(&self, catalogue: &Catalogue) -> Result<()> {
        let ascending = self.skills.windows(2).all(|w| w.first() < w.last());
        let known =
            self.skills.iter().all(|&s| s < catalogue.skills.len()) && self.topic < catalogue.topics.len();
        if !self.skills.is_empty() && ascending && known {
            return Ok(());
        }
        let must = "ascending indices of skills and an index of a topic of the catalogue";
        Err(Error::argument("combo", must, format!("{self:?}")))
    }
}

/// What combinations may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Skills, by index.
    pub skills: Vec<usize>,
    /// Topics, by index.
    pub topics: Vec<usize>,
    /// Unless empty, at least one skill must be outside of these: the training skills.
    pub novel_to: Vec<usize>,
}

impl Pool {
    /// All skills and topics.
    pub fn all(catalogue: &Catalogue) -> Self {
        Self {
            skills: (0..catalogue.skills.len()).collect(),
            topics: (0..catalogue.topics.len()).collect(),
            novel_to: Vec::new(),
        }
    }
}

/// Most combinations that are listed in order to draw from them.
const LISTED: u128 = 200_000;

/// Draws `n` different combinations of `k` skills, uniformly, none of them in `exclude`.
///
/// # Errors
///
/// [`Error::Argument`] for k of 0 or above the number of skills, unknown or repeated indices, or more combinations than there
/// are (the message says how many).
pub fn combinations(
    catalogue: &Catalogue,
    pool: &Pool,
    k: usize,
    n: usize,
    seed: Seed,
    exclude: &BTreeSet<Combo>,
) -> Result<Vec<Combo>> {
    let distinct = |list: &[usize], end: usize| {
        let set: BTreeSet<usize> = list.iter().copied().filter(|&i| i < end).collect();
        (set.len() == list.len()).then(|| set.into_iter().collect::<Vec<usize>>())
    };
    let skills = distinct(&pool.skills, catalogue.skills.len());
    let topics = distinct(&pool.topics, catalogue.topics.len());
    let (Some(skills), Some(topics)) = (skills, topics) else {
        return Err(Error::argument("pool", "different indices of the catalogue", format!("{pool:?}")));
    };
    if k == 0 || k > skills.len() {
        return Err(Error::argument("k", format!("from 1 to {} (the skills)", skills.len()), k));
    }
    let allowed = |combo: &Combo| {
        let both = |&(a, b): &(usize, usize)| combo.skills.contains(&a) && combo.skills.contains(&b);
        let novel = pool.novel_to.is_empty() || combo.skills.iter().any(|s| !pool.novel_to.contains(s));
        novel && !catalogue.incompatible.iter().any(both) && !exclude.contains(combo)
    };
    let mut rng = seed.stream("skill-mix-combinations", k as u64);
    let total = choose(skills.len(), k).saturating_mul(topics.len() as u128);
    if total <= LISTED {
        let mut all: Vec<Combo> = subsets(&skills, k)
            .into_iter()
            .flat_map(|skills| topics.iter().map(move |&topic| Combo { skills: skills.clone(), topic }))
            .filter(allowed)
            .collect();
        if n > all.len() {
            return Err(Error::argument(
                "n",
                format!("at most {}, the combinations there are", all.len()),
                n,
            ));
        }
        for i in 0..n {
            let j = rng.random_range(i..all.len());
            all.swap(i, j);
        }
        all.truncate(n);
        return Ok(all);
    }
    // Too many to list: almost every draw is new, unless nearly all are excluded.
    let (mut seen, mut drawn) = (BTreeSet::new(), Vec::with_capacity(n.min(1 << 16)));
    let mut tries = 0_u64;
    while drawn.len() < n {
        tries += 1;
        if tries > 1000 * (n as u64 + 100) {
            let must =
                format!("fewer: after {tries} draws only {} allowed combinations were found", drawn.len());
            return Err(Error::argument("n", must, n));
        }
        let mut left = skills.clone();
        for i in 0..k {
            let j = rng.random_range(i..left.len());
            left.swap(i, j);
        }
        left.truncate(k);
        left.sort_unstable();
        let Some(&topic) = topics.get(rng.random_range(0..topics.len().max(1))) else { break };
        let combo = Combo { skills: left, topic };
        if allowed(&combo) && seen.insert(combo.clone()) {
            drawn.push(combo);
        }
    }
    Ok(drawn)
}

fn choose(n: usize, k: usize) -> u128 {
    (0..k.min(n - k)).fold(1_u128, |c, i| c.saturating_mul((n - i) as u128) / (i as u128 + 1))
}

/// All subsets of size k, in lexicographic order.
fn subsets(items: &[usize], k: usize) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new()];
    for size in 0..k {
        let longer = |set: &Vec<usize>| {
            let from = set.last().map_or(0, |last| items.partition_point(|i| i <= last));
            let until = items.len() - (k - size - 1);
            let next = items.get(from..until).unwrap_or_default().to_vec();
            let set = set.clone();
            next.into_iter().map(move |item| [set.as_slice(), &[item]].concat()).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(longer).collect();
    }
    found
}
