//! Expert ids per token, wherever they are stored.

/// Borrowed expert ids of one image, task and layer: one row per token, best score first.
///
/// ```
/// use mtl_hw::routing::Choices;
/// let nested = [vec![3, 1], vec![0, 2]];
/// let flat = Choices::Flat { ids: &[3, 1, 0, 2], top_k: 2 };
/// assert!(Choices::from(nested.as_slice()).rows().eq(flat.rows()));
/// assert_eq!(flat.tokens(), 2);
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Choices<'a> {
    /// One vector per token.
    Nested(&'a [Vec<u16>]),
    /// `top_k` ids per token, one token after the other.
    Flat {
        /// Ids, `[tokens · top_k]`.
        ids: &'a [u16],
        /// Experts per token; positive.
        top_k: usize,
    },
    /// A varying number of ids per token, as after drops by capacity.
    Ragged {
        /// Ids of all tokens.
        ids: &'a [u16],
        /// For each token the index in `ids` behind its last id, not decreasing.
        ends: &'a [u32],
    },
}

impl<'a> From<&'a [Vec<u16>]> for Choices<'a> {
    fn from(tokens: &'a [Vec<u16>]) -> Self {
        Self::Nested(tokens)
    }
}

impl<'a> Choices<'a> {
    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        match *self {
            Self::Nested(rows) => rows.len(),
            Self::Flat { ids, top_k } => ids.len() / top_k.max(1),
            Self::Ragged { ends, .. } => ends.len(),
        }
    }

    /// The ids of token after token.
    #[must_use]
    pub fn rows(&self) -> Rows<'a> {
        Rows { choices: *self, next: 0, start: 0 }
    }

    /// All ids in the order in which experts are visited.
    pub fn ids(&self) -> impl Iterator<Item = u16> + use<'a> {
        let (flat, nested) = match *self {
            Self::Nested(rows) => (&[][..], rows),
            Self::Flat { ids, .. } | Self::Ragged { ids, .. } => (ids, &[][..]),
        };
        flat.iter().chain(nested.iter().flatten()).copied()
    }

    /// Adds the tokens per expert to `counts`; ids beyond its end are ignored, as callers have checked them.
    pub(crate) fn count_into(&self, counts: &mut [u64]) {
        self.ids().for_each(|id| {
            if let Some(n) = counts.get_mut(usize::from(id)) {
                *n += 1;
            }
        });
    }

    /// What is wrong with the choices, if anything: each token has `top_k` distinct ids below `experts`, or fewer where
    /// `dropped`.
    pub(crate) fn fault(&self, experts: u64, top_k: u64, dropped: bool) -> Option<String> {
        for (t, ids) in self.rows().enumerate() {
            let n = ids.len() as u64;
            if n != top_k && (n > top_k || !dropped) {
                return Some(if n == experts && n > top_k {
                    format!(
                        "token {t} names all {n} experts, but top-K is {top_k}: a dense gate routes nothing"
                    )
                } else if dropped {
                    format!("token {t} has {n} experts, but at most top-K = {top_k} are allowed")
                } else {
                    format!("token {t} has {n} experts, but top-K is {top_k}")
                });
            }
            for (i, &id) in ids.iter().enumerate() {
                if u64::from(id) >= experts {
                    return Some(format!("token {t} names expert {id}, but there are {experts}"));
                }
                if ids.iter().take(i).any(|&earlier| earlier == id) {
                    return Some(format!("token {t} names expert {id} twice"));
                }
            }
        }
        None
    }
}

/// Iterator over the tokens of [`Choices`].
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    choices: Choices<'a>,
    next: usize,
    start: usize,
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [u16];

    fn next(&mut self) -> Option<&'a [u16]> {
        let row = match self.choices {
            Choices::Nested(rows) => rows.get(self.next)?.as_slice(),
            Choices::Flat { ids, top_k } => ids.get(self.start..self.start + top_k.max(1))?,
            Choices::Ragged { ids, ends } => {
                let end = *ends.get(self.next)? as usize;
                ids.get(self.start..end).unwrap_or_default()
            }
        };
        self.next += 1;
        self.start += row.len();
        Some(row)
    }
}

/// Experts that tokens of `a` share with the tokens of `b` at the same positions; the longer one's rest is left out.
pub(crate) fn shared(a: Choices<'_>, b: Choices<'_>) -> usize {
    match (a, b) {
        (Choices::Flat { ids: x, top_k: k }, Choices::Flat { ids: y, top_k }) if k == top_k => match k {
            1 => shared_flat::<1>(x, y),
            2 => shared_flat::<2>(x, y),
            4 => shared_flat::<4>(x, y),
            _ => x.chunks_exact(k.max(1)).zip(y.chunks_exact(k.max(1))).map(|(x, y)| common(x, y)).sum(),
        },
        _ => a.rows().zip(b.rows()).map(|(x, y)| common(x, y)).sum(),
    }
}

fn shared_flat<const K: usize>(a: &[u16], b: &[u16]) -> usize {
    let of = |(x, y): (&[u16; K], &[u16; K])| {
        x.iter().map(|id| y.iter().map(|other| usize::from(id == other)).sum::<usize>()).sum::<usize>()
    };
    a.as_chunks().0.iter().zip(b.as_chunks().0).map(of).sum()
}

/// Experts that each token shares with the one before it, summed.
pub(crate) fn shared_with_previous(choices: Choices<'_>) -> usize {
    match choices {
        Choices::Flat { ids, top_k } => {
            let later = ids.get(top_k..).unwrap_or_default();
            shared(choices, Choices::Flat { ids: later, top_k })
        }
        _ => choices.rows().zip(choices.rows().skip(1)).map(|(x, y)| common(x, y)).sum(),
    }
}

fn common(a: &[u16], b: &[u16]) -> usize {
    a.iter().filter(|id| b.contains(id)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storage_yields_the_same_rows() {
        let nested = vec![vec![1u16, 2], vec![3, 0], vec![0, 1]];
        let flat: Vec<u16> = nested.iter().flatten().copied().collect();
        let rows = |c: Choices<'_>| c.rows().map(<[u16]>::to_vec).collect::<Vec<_>>();
        for c in [
            Choices::Nested(&nested),
            Choices::Flat { ids: &flat, top_k: 2 },
            Choices::Ragged { ids: &flat, ends: &[2, 4, 6] },
        ] {
            assert_eq!(rows(c), nested);
            assert_eq!(c.ids().collect::<Vec<_>>(), flat);
            assert_eq!(c.tokens(), 3);
            let mut counts = [0; 4];
            c.count_into(&mut counts);
            assert_eq!(counts, [2, 2, 1, 1]);
        }
        assert_eq!(rows(Choices::Ragged { ids: &flat, ends: &[1, 1, 4] }), [vec![1], vec![], vec![2, 3, 0]]);
    }

    #[test]
    fn shared_experts_do_not_depend_on_storage() {
        for k in 1..=5u16 {
            let row = |t: u16| (0..k).map(|i| (3 * t + t * t / 5 + i) % 7).collect::<Vec<u16>>();
            let (a, b): (Vec<_>, Vec<_>) =
                ((0..40).map(row).collect(), (0..40).map(|t| row(t / 2 + 1)).collect());
            let flat = |rows: &[Vec<u16>]| rows.concat();
            let (x, y) = (flat(&a), flat(&b));
            let top_k = usize::from(k);
            let (x, y) = (Choices::Flat { ids: &x, top_k }, Choices::Flat { ids: &y, top_k });
            assert_eq!(shared(x, y), shared(a.as_slice().into(), b.as_slice().into()));
            assert_eq!(shared(x, a.as_slice().into()), 40 * top_k);
            assert_eq!(shared_with_previous(x), shared_with_previous(a.as_slice().into()));
        }
    }

    #[test]
    fn faults_say_what_was_expected_and_found() {
        let fault = |ids: &[u16], top_k, dropped| {
            Choices::Flat { ids, top_k }.fault(4, 2, dropped).unwrap_or_default()
        };
        assert_eq!(fault(&[0, 1, 3, 2], 2, false), "");
        assert_eq!(fault(&[0, 1], 1, true), "");
        insta::assert_snapshot!(fault(&[0, 1], 1, false), @"token 0 has 1 experts, but top-K is 2");
        insta::assert_snapshot!(fault(&[0, 1, 2], 3, true), @"token 0 has 3 experts, but at most top-K = 2 are allowed");
        insta::assert_snapshot!(fault(&[0, 1, 2, 3], 4, false), @"token 0 names all 4 experts, but top-K is 2: a dense gate routes nothing");
        insta::assert_snapshot!(fault(&[0, 4], 2, false), @"token 0 names expert 4, but there are 4");
        insta::assert_snapshot!(fault(&[0, 1, 3, 3], 2, false), @"token 1 names expert 3 twice");
    }
}
