//! Which pair to ask about next.
use crate::metrics::pairwise::{Rating, TrueSkill};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;

/// The pairs whose game is expected to decrease σ₁² + σ₂² most, at most `top` of them, each with a seed that both players have
/// recordings of, drawn at random; best first, ties by index.
///
/// `seeds` are those of each player. Pairs without a common seed are left out. The competition kept a queue of 25 pairs and
/// refilled it when it was short or 5 minutes old; `round` counts such refills.
///
/// ```
/// use mtl_bench::formats::basalt::next_pairs;
/// use mtl_bench::metrics::pairwise::{Rating, TrueSkill};
///
/// let rating = |mu, sigma| Rating { mu, sigma };
/// let ratings = [rating(25.0, 1.0), rating(25.0, 8.0), rating(26.0, 8.0)];
/// let pairs = next_pairs(&TrueSkill::default(), &ratings, &[vec![7], vec![7], vec![7]], 1, mtl_core::Seed(0), 0)?;
/// assert_eq!(pairs, [(1, 2, 7)]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when there is not a list of seeds for each player; as [`TrueSkill::information`].
pub fn next_pairs(
    model: &TrueSkill,
    ratings: &[Rating],
    seeds: &[Vec<u64>],
    top: usize,
    seed: Seed,
    round: u64,
) -> Result<Vec<(usize, usize, u64)>> {
    if ratings.len() != seeds.len() {
        return Err(Error::argument(
            "seeds",
            format!("one list for each of {} players", ratings.len()),
            seeds.len(),
        ));
    }
    let mut pairs = Vec::new();
    for (i, (a, of_a)) in ratings.iter().zip(seeds).enumerate() {
        for (j, (b, of_b)) in ratings.iter().zip(seeds).enumerate().skip(i + 1) {
            let common: Vec<u64> = of_a.iter().copied().filter(|s| of_b.contains(s)).collect();
            if !common.is_empty() {
                pairs.push((model.information(*a, *b)?, i, j, common));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    pairs.truncate(top);
    let mut rng = seed.stream("basalt-pairs", round);
    let drawn = |(_, i, j, common): (f64, usize, usize, Vec<u64>)| {
        let at = rng.random_range(0..common.len());
        common.get(at).map(|&s| (i, j, s))
    };
    Ok(pairs.into_iter().filter_map(drawn).collect())
}
