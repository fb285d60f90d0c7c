//! Discrete search spaces: dimensions, points, partial assignments.
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most values that one dimension may have.
const MAX_VALUES: usize = 1 << 20;
/// Largest number whose divisors are listed.
const MAX_DIVIDEND: u64 = 1 << 40;

/// One discrete parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Dim {
    /// Listed numbers, in that order.
    Choice {
        /// Name of the parameter.
        name: String,
        /// The numbers; none may repeat.
        values: Vec<u64>,
    },
    /// Listed words, in that order.
    Label {
        /// Name of the parameter.
        name: String,
        /// The words; none may repeat.
        labels: Vec<String>,
    },
    /// `from`, `from + step`, … up to `to`.
    Range {
        /// Name of the parameter.
        name: String,
        /// Smallest value.
        from: u64,
        /// Largest value, included when a step reaches it.
        to: u64,
        /// Distance of neighbours.
        step: u64,
    },
    /// Powers of two from `from` to `to`.
    PowersOfTwo {
        /// Name of the parameter.
        name: String,
        /// Smallest value; rounded up to a power of two.
        from: u64,
        /// Largest value.
        to: u64,
    },
    /// Divisors of a number, and of the number padded to a multiple: tile sizes.
    DivisorOf {
        /// Name of the parameter.
        name: String,
        /// The number, at most 2⁴⁰.
        of: u64,
        /// Adds the divisors of the next multiple of this; 1 adds none.
        padded_to: u64,
        /// Largest divisor kept.
        max: u64,
    },
}

impl Dim {
    /// Listed numbers.
    #[must_use]
    pub fn choice(name: &str, values: impl IntoIterator<Item = u64>) -> Self {
        Self::Choice { name: name.to_owned(), values: values.into_iter().collect() }
    }

    /// Listed words.
    #[must_use]
    pub fn label<S: Into<String>>(name: &str, labels: impl IntoIterator<Item = S>) -> Self {
        Self::Label { name: name.to_owned(), labels: labels.into_iter().map(Into::into).collect() }
    }

    /// Name of the parameter.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Choice { name, .. }
            | Self::Label { name, .. }
            | Self::Range { name, .. }
            | Self::PowersOfTwo { name, .. }
            | Self::DivisorOf { name, .. } => name,
        }
    }

    fn values(&self) -> Result<Vec<u64>> {
        let bad = |must: &str, value: &dyn std::fmt::Display| {
            Err(HwError::config(format!("space.{}", self.name()), must, value))
        };
        let values = match self {
            Self::Choice { values, .. } => values.clone(),
            Self::Label { labels, .. } => {
                if labels.iter().collect::<BTreeSet<_>>().len() < labels.len() {
                    return bad("free of repetitions", &labels.join(", "));
                }
                (0..labels.len() as u64).collect()
            }
            Self::Range { from, to, step, .. } => {
                if *step == 0 {
                    return bad("of a positive step", step);
                }
                if to.saturating_sub(*from) / step >= MAX_VALUES as u64 {
                    return bad("at most 2^20 values", &format!("{from}..={to} step {step}"));
                }
                let count = if from > to { 0 } else { (to - from) / step + 1 };
                (0..count).map(|i| from + i * step).collect()
            }
            Self::PowersOfTwo { from, to, .. } => {
                (0..64).map(|e| 1u64 << e).filter(|v| v >= from && v <= to).collect()
            }
            Self::DivisorOf { of, padded_to, max, .. } => {
                if *of == 0 || *of > MAX_DIVIDEND || *padded_to == 0 || *padded_to > MAX_DIVIDEND {
                    return bad(
                        "divisors of, and padded to, 1 to 2^40",
                        &format!("{of} padded to {padded_to}"),
                    );
                }
                let mut all = divisors(*of);
                all.extend(divisors(of.next_multiple_of(*padded_to)));
                all.into_iter().filter(|d| d <= max).collect()
            }
        };
        if values.is_empty() {
            return bad("a dimension with at least one value", &"empty");
        }
        if values.len() > MAX_VALUES {
            return bad("at most 2^20 values", &values.len());
        }
        if values.iter().collect::<BTreeSet<_>>().len() < values.len() {
            return bad("free of repetitions", &format!("{values:?}"));
        }
        Ok(values)
    }
}

fn divisors(n: u64) -> BTreeSet<u64> {
    (1..).take_while(|d| d * d <= n).filter(|d| n.is_multiple_of(*d)).flat_map(|d| [d, n / d]).collect()
}

/// A product of dimensions. Every point is a list of value indices, one per dimension.
///
/// ```
/// use mtl_hw::explore::{Dim, Space};
/// let tile = Dim::DivisorOf { name: "tile".into(), of: 12, padded_to: 1, max: 6 };
/// let space = Space::new(vec![tile, Dim::choice("bits", [8, 16])])?;
/// assert_eq!(space.points(), 10); // 1, 2, 3, 4, 6
/// assert_eq!(space.describe(&space.point_at(9)), "tile=6 bits=16");
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    dims: Vec<Dim>,
    values: Vec<Vec<u64>>,
    points: u128,
}

impl Space {
    /// Lists the values of every dimension.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a space without dimensions, a dimension without values or with repeated values, a
    /// repeated name, or 2¹²⁸ points and more.
    pub fn new(dims: Vec<Dim>) -> Result<Self> {
        if dims.is_empty() {
            return Err(HwError::config("space", "a product of at least one dimension", "empty"));
        }
        let mut names = BTreeSet::new();
        let mut points = 1u128;
        let mut values = Vec::with_capacity(dims.len());
        for dim in &dims {
            if !names.insert(dim.name()) {
                return Err(HwError::config("space", "dimensions of different names", dim.name()));
            }
            let list = dim.values()?;
            points = points.checked_mul(list.len() as u128).ok_or_else(|| {
                HwError::config(
                    "space",
                    "a product of fewer than 2^128 points",
                    format!("{} dimensions", dims.len()),
                )
            })?;
            values.push(list);
        }
        Ok(Self { dims, values, points })
    }

    /// The dimensions.
    #[must_use]
    pub fn dims(&self) -> &[Dim] {
        &self.dims
    }

    /// Number of points.
    #[must_use]
    pub fn points(&self) -> u128 {
        self.points
    }

    /// Number of values of each dimension.
    pub fn sizes(&self) -> impl Iterator<Item = u32> + '_ {
        self.values.iter().map(|v| v.len() as u32)
    }

    /// Number of values of a dimension; 0 beyond the last.
    #[must_use]
    pub fn size(&self, dim: usize) -> u32 {
        self.values.get(dim).map_or(0, |v| v.len() as u32)
    }

    /// The number behind a value index, for a label its index; 0 outside the space.
    #[must_use]
    pub fn value(&self, dim: usize, index: u32) -> u64 {
        self.values.get(dim).and_then(|v| v.get(index as usize)).copied().unwrap_or(0)
    }

    /// The value as text.
    #[must_use]
    pub fn text(&self, dim: usize, index: u32) -> String {
        match self.dims.get(dim) {
            Some(Dim::Label { labels, .. }) => labels.get(index as usize).cloned().unwrap_or_default(),
            _ => self.value(dim, index).to_string(),
        }
    }

    /// All values of a point, as `name=value`.
    #[must_use]
    pub fn describe(&self, point: &Point) -> String {
        let one = |(d, &i): (usize, &u32)| {
            format!("{}={}", self.dims.get(d).map_or("", Dim::name), self.text(d, i))
        };
        point.indices().iter().enumerate().map(one).collect::<Vec<_>>().join(" ")
    }

    /// The point of a number below [`Space::points`], the last dimension running fastest.
    #[must_use]
    pub fn point_at(&self, number: u128) -> Point {
        let mut rest = number % self.points;
        let mut indices: Vec<u32> = vec![0; self.values.len()];
        for (slot, values) in indices.iter_mut().zip(&self.values).rev() {
            let n = values.len() as u128;
            *slot = (rest % n) as u32;
            rest /= n;
        }
        Point(indices)
    }

    /// Refuses points of another space.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the number of indices or one of them is out of range.
    pub fn check(&self, point: &Point) -> Result<()> {
        let fits =
            point.0.len() == self.values.len() && point.0.iter().zip(self.sizes()).all(|(&i, n)| i < n);
        if fits {
            Ok(())
        } else {
            Err(HwError::config("point", "a point of the space", format!("{:?}", point.0)))
        }
    }

    /// Steps to the next point; false after the last.
    pub(super) fn advance(&self, point: &mut Point) -> bool {
        for (slot, values) in point.0.iter_mut().zip(&self.values).rev() {
            *slot += 1;
            if (*slot as usize) < values.len() {
                return true;
            }
            *slot = 0;
        }
        false
    }

    /// Points that share a prefix of `len` indices.
    pub(super) fn below(&self, len: usize) -> u128 {
        self.values.iter().skip(len).map(|v| v.len() as u128).product()
    }
}

/// Value indices, one per dimension; ordered lexicographically.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Point(pub(super) Vec<u32>);

impl Point {
    /// A point from its indices; [`Space::check`] tells whether a space holds it.
    #[must_use]
    pub fn new(indices: Vec<u32>) -> Self {
        Self(indices)
    }

    /// The indices.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.0
    }

    /// The index of one dimension; 0 beyond the last.
    #[must_use]
    pub fn index(&self, dim: usize) -> u32 {
        self.0.get(dim).copied().unwrap_or(0)
    }
}

/// The first dimensions of a point, assigned in order; the rest is open.
#[derive(Debug, Clone, Copy)]
pub struct Partial<'a> {
    pub(super) space: &'a Space,
    pub(super) prefix: &'a [u32],
}

impl<'a> Partial<'a> {
    /// A prefix of a point of `space`.
    #[must_use]
    pub fn new(space: &'a Space, prefix: &'a [u32]) -> Self {
        Self { space, prefix }
    }

    /// The space.
    #[must_use]
    pub fn space(&self) -> &'a Space {
        self.space
    }

    /// Assigned indices.
    #[must_use]
    pub fn prefix(&self) -> &'a [u32] {
        self.prefix
    }

    /// The indices that a dimension can still take: one when assigned, else all.
    #[must_use]
    pub fn open(&self, dim: usize) -> std::ops::Range<u32> {
        match self.prefix.get(dim) {
            Some(&i) => i..i + 1,
            None => 0..self.space.size(dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odometer_and_numbers_agree() {
        let space = Space::new(vec![Dim::choice("a", [1, 2, 3]), Dim::label("b", ["x", "y"])]).unwrap();
        let mut point = space.point_at(0);
        for i in 0..6 {
            assert_eq!(point, space.point_at(i));
            assert_eq!(space.advance(&mut point), i < 5);
        }
        assert_eq!(space.below(1), 2);
        assert!(space.check(&Point::new(vec![3, 0])).is_err() && space.check(&Point::new(vec![0])).is_err());
    }

    #[test]
    fn tiles_are_divisors_of_the_size_and_of_the_padded_size() {
        let dim = Dim::DivisorOf { name: "t".into(), of: 10, padded_to: 4, max: 6 };
        assert_eq!(dim.values().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |dims| Space::new(dims).unwrap_err().to_string();
        insta::assert_snapshot!(error(vec![]), @"`space` must be a product of at least one dimension, but is empty");
        insta::assert_snapshot!(error(vec![Dim::choice("a", [])]), @"`space.a` must be a dimension with at least one value, but is empty");
        insta::assert_snapshot!(error(vec![Dim::choice("a", [1, 1])]), @"`space.a` must be free of repetitions, but is [1, 1]");
        insta::assert_snapshot!(error(vec![Dim::choice("a", [1]), Dim::choice("a", [2])]), @"`space` must be dimensions of different names, but is a");
        let endless = || Dim::Range { name: "a".into(), from: 0, to: u64::MAX, step: 1 };
        insta::assert_snapshot!(error(vec![endless()]), @"`space.a` must be at most 2^20 values, but is 0..=18446744073709551615 step 1");
        let wide = |i: usize| Dim::Range { name: i.to_string(), from: 1, to: 1 << 20, step: 1 };
        insta::assert_snapshot!(error((0..7).map(wide).collect()), @"`space` must be a product of fewer than 2^128 points, but is 7 dimensions");
        assert_eq!(Space::new((0..6).map(wide).collect()).unwrap().points(), 1 << 120);
    }
}
