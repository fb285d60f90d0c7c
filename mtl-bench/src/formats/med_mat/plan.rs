//! Training sets of equal size and different composition.
use super::{Catalogue, Element, Subset};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// What a model is trained on before it is tested on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// Nothing: the base model.
    Base,
    /// One pair cover, drawn by the seed.
    Cover,
    /// All data sets that share an element, without those of the same triplet.
    Related,
    /// All data sets that share none.
    Unrelated,
    /// Everything but the same triplet.
    All,
    /// As [`Regime::All`], without the data sets that carry one element of the target.
    Break(Element),
    /// This many images of the target alone.
    Target(usize),
    /// A pair cover and this many images of the target beside the equal size.
    CoverPlus(usize),
}

/// How many images to take from which data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlan {
    /// Identifier of the target.
    pub target: String,
    /// The regime.
    pub regime: Regime,
    /// Identifiers and numbers of images, in the order of the catalogue; the target last.
    pub sources: Vec<(String, usize)>,
    /// Images that the data sets of the regime lack to reach the size asked for; 0 unless smaller plans are allowed.
    pub missing: usize,
}

impl Catalogue {
    /// Composes `n` images for a target, spread as evenly over the sources as their sizes (`images`, by identifier) allow;
    /// what is left over goes to sources drawn by the seed.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error`] for an unknown target; [`Error::Missing`] for a regime without sources (no cover, nothing related)
    /// or a source without a number of images; [`Error::Argument`] when there are fewer than `n` images and
    /// `allow_smaller` is not set.
    pub fn plan(
        &self,
        target: &str,
        regime: Regime,
        n: usize,
        images: &BTreeMap<String, usize>,
        allow_smaller: bool,
        seed: Seed,
    ) -> Result<SplitPlan> {
        self.get(target)?;
        let mut rng = seed.fork("med-mat plan").stream(target, 0);
        let pool: Vec<&Subset> = match regime {
            Regime::Base | Regime::Target(_) => Vec::new(),
            Regime::Cover | Regime::CoverPlus(_) => {
                let covers = self.pair_covers(target)?;
                let drawn = if covers.is_empty() { 0 } else { rng.random_range(0..covers.len()) };
                covers.get(drawn).map(|(a, b)| vec![*a, *b]).unwrap_or_default()
            }
            Regime::Related => {
                let unrelated = self.unrelated(target)?;
                self.pool(target)?.into_iter().filter(|s| !unrelated.contains(s)).collect()
            }
            Regime::Unrelated => self.unrelated(target)?,
            Regime::All => self.pool(target)?,
            Regime::Break(element) => self.broken(target, element)?,
        };
        let size = |id: &str| {
            let what = || Error::Missing { what: format!("the number of images of `{id}`") };
            images.get(id).copied().ok_or_else(what)
        };
        let needs_pool = !matches!(regime, Regime::Base | Regime::Target(_));
        if needs_pool && pool.is_empty() {
            return Err(Error::Missing {
                what: format!("data sets for `{target}` in the regime {regime:?}"),
            });
        }
        let sizes: Vec<usize> = pool.iter().map(|s| size(&s.id)).collect::<Result<_>>()?;
        let mut counts = share(&sizes, if needs_pool { n } else { 0 }, &mut rng);
        let mut missing = if needs_pool { n.saturating_sub(counts.iter().sum()) } else { 0 };
        let mut sources: Vec<(String, usize)> = pool
            .iter()
            .zip(counts.drain(..))
            .filter(|(_, c)| *c > 0)
            .map(|(s, c)| (s.id.clone(), c))
            .collect();
        if let Regime::Target(own) | Regime::CoverPlus(own) = regime {
            let there = size(target)?.min(own);
            missing += own - there;
            if there > 0 {
                sources.push((target.to_owned(), there));
            }
        }
        if missing > 0 && !allow_smaller {
            let wanted = format!("at most what the regime {regime:?} of `{target}` has");
            return Err(Error::argument("n", wanted, format!("{missing} too many")));
        }
        Ok(SplitPlan { target: target.to_owned(), regime, sources, missing })
    }
}

/// Fills sources evenly up to their sizes until `n` are taken or all is.
fn share(sizes: &[usize], n: usize, rng: &mut impl rand::Rng) -> Vec<usize> {
    let mut counts = vec![0usize; sizes.len()];
    let mut left = n;
    loop {
        let mut open: Vec<usize> = (0..sizes.len()).filter(|&i| counts.get(i) < sizes.get(i)).collect();
        if left == 0 || open.is_empty() {
            return counts;
        }
        let each = left / open.len();
        if each == 0 {
            open.shuffle(rng);
            open.truncate(left);
        }
        for i in open {
            if let (Some(count), Some(size)) = (counts.get_mut(i), sizes.get(i)) {
                let more = each.max(1).min(size - *count);
                *count += more;
                left -= more;
            }
        }
    }
}
