//! Triplets and what they share.
use crate::formats::document::Document;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A part of a triplet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// How the image was taken.
    Modality,
    /// What part of the body it shows.
    Area,
    /// What is asked.
    Task,
}

impl Element {
    /// All three, in the order of a triplet.
    pub const ALL: [Self; 3] = [Self::Modality, Self::Area, Self::Task];
}

/// Modality, area and task, compared without case and outer or repeated white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Triplet {
    parts: [String; 3],
    keys: [String; 3],
}

impl Triplet {
    /// A triplet of these names.
    pub fn new(modality: &str, area: &str, task: &str) -> Self {
        let tidy = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
        let parts = [tidy(modality), tidy(area), tidy(task)];
        Self { keys: parts.clone().map(|p| p.to_lowercase()), parts }
    }

    /// An element as it was written.
    pub fn element(&self, element: Element) -> &str {
        let [modality, area, task] = &self.parts;
        match element {
            Element::Modality => modality,
            Element::Area => area,
            Element::Task => task,
        }
    }

    /// Which elements are equal, in the order of [`Element::ALL`].
    pub fn shares(&self, other: &Self) -> [bool; 3] {
        let ([a, b, c], [x, y, z]) = (&self.keys, &other.keys);
        [a == x, b == y, c == z]
    }

    fn key(&self, element: Element) -> &str {
        let [modality, area, task] = &self.keys;
        match element {
            Element::Modality => modality,
            Element::Area => area,
            Element::Task => task,
        }
    }
}

/// A data set of images with one triplet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Identifier.
    pub id: String,
    /// Its triplet.
    pub triplet: Triplet,
}

/// Data sets, each of which can be a target or a source of training data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    subsets: Vec<Subset>,
}

/// What the catalogue offers for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetStats {
    /// Identifier of the target.
    pub id: String,
    /// Others that share an element, those of the same triplet included.
    pub related: usize,
    /// Others that share none.
    pub unrelated: usize,
    /// Others of the same triplet.
    pub identical: Vec<String>,
    /// Number of pair covers.
    pub pair_covers: usize,
    /// The first pair cover in the order of the catalogue.
    pub first_cover: Option<(String, String)>,
    /// Whether each element occurs in some other data set of another triplet.
    pub coverable: bool,
}

/// What a catalogue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueStats {
    /// For modality, area and task: how many data sets carry each name (lower case).
    pub degrees: [BTreeMap<String, usize>; 3],
    /// Number of different triplets.
    pub distinct_triplets: usize,
    /// Per data set, in order.
    pub targets: Vec<TargetStats>,
}

/// The task class of a task's name: names of the released table are nearly unique, so that compositions need classes.
/// The first rule with a word in the lower-cased name wins: `det`, `seg` → localisation; `quality`; `level`, `degree`,
/// `cleanliness` → grading; `cancer`, `tumor`, `melanoma`, `lesion` → tumour; `hemorrhage` → condition; `type`; `multi` →
/// multi-label; else condition.
pub fn coarse_task(name: &str) -> &'static str {
    const RULES: [(&[&str], &str); 7] = [
        (&["det", "seg"], "localisation"),
        (&["quality"], "quality"),
        (&["level", "degree", "cleanliness"], "grading"),
        (&["cancer", "tumor", "melanoma", "lesion"], "tumour"),
        (&["hemorrhage"], "condition"),
        (&["type"], "type"),
        (&["multi"], "multi-label"),
    ];
    let name = name.to_lowercase();
    let rule = RULES.iter().find(|(words, _)| words.iter().any(|w| name.contains(w)));
    rule.map_or("condition", |(_, class)| class)
}

impl Catalogue {
    /// A catalogue of data sets.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for none, an empty element or an identifier that occurs twice.
    pub fn new(subsets: Vec<Subset>) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for subset in &subsets {
            if !seen.insert(&subset.id) {
                return Err(Error::argument(
                    "subsets",
                    "of different identifiers",
                    format!("`{}` twice", subset.id),
                ));
            }
            if Element::ALL.iter().any(|e| subset.triplet.element(*e).is_empty()) {
                return Err(Error::argument(
                    "subsets",
                    "without empty elements",
                    format!("one in `{}`", subset.id),
                ));
            }
        }
        if subsets.is_empty() {
            return Err(Error::argument("subsets", "at least one", 0));
        }
        Ok(Self { subsets })
    }

    /// Reads `{"subsets": [{"id", "modality", "area", "task"}, …]}`; `task` maps the name of a task to its class, for
    /// example [`coarse_task`].
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`] for a key that is missing or empty, a wrong type,
    /// no data sets, or an identifier that occurs twice.
    pub fn read(path: &Path, task: impl Fn(&str) -> String) -> Result<Self> {
        let document = Document::read(path)?;
        let list = document.root().need("subsets")?;
        let (mut subsets, mut seen) = (Vec::new(), BTreeSet::new());
        for node in list.items()? {
            let text = |key: &str| {
                let found = node.need(key)?;
                let text = found.text()?;
                if text.trim().is_empty() { Err(found.error("is empty")) } else { Ok(text) }
            };
            let id = text("id")?.to_owned();
            if !seen.insert(id.clone()) {
                return Err(node.need("id")?.error(format!("`{id}` is there twice")));
            }
            let triplet = Triplet::new(text("modality")?, text("area")?, &task(text("task")?));
            subsets.push(Subset { id, triplet });
        }
        if subsets.is_empty() {
            return Err(list.error("is empty"));
        }
        Self::new(subsets)
    }

    /// All data sets, in order.
    pub fn subsets(&self) -> &[Subset] {
        &self.subsets
    }

    /// A data set.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error`] for an unknown identifier.
    pub fn get(&self, id: &str) -> Result<&Subset> {
        let known = self.subsets.iter().map(|s| s.id.as_str());
        let found = self.subsets.iter().find(|s| s.id == id);
        found.ok_or_else(|| mtl_core::Error::unknown("data set", id, known).into())
    }

    fn sharing<'a>(&'a self, target: &'a Subset) -> impl Iterator<Item = (&'a Subset, [bool; 3])> + Clone {
        let others = self.subsets.iter().filter(|s| s.id != target.id);
        others.map(|s| (s, s.triplet.shares(&target.triplet)))
    }

    /// Others that share at least one element, those of the same triplet included.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn related(&self, target: &str) -> Result<Vec<&Subset>> {
        let target = self.get(target)?;
        Ok(self.sharing(target).filter(|(_, s)| s.contains(&true)).map(|(s, _)| s).collect())
    }

    /// Others that share no element.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn unrelated(&self, target: &str) -> Result<Vec<&Subset>> {
        let target = self.get(target)?;
        Ok(self.sharing(target).filter(|(_, s)| !s.contains(&true)).map(|(s, _)| s).collect())
    }

    /// Others of the same triplet; never training data of a regime.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn identical(&self, target: &str) -> Result<Vec<&Subset>> {
        let target = self.get(target)?;
        Ok(self.sharing(target).filter(|(_, s)| !s.contains(&false)).map(|(s, _)| s).collect())
    }

    /// Others of another triplet: what training may draw on.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn pool(&self, target: &str) -> Result<Vec<&Subset>> {
        let target = self.get(target)?;
        Ok(self.sharing(target).filter(|(_, s)| s.contains(&false)).map(|(s, _)| s).collect())
    }

    /// The pool without the data sets that carry an element of the target.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn broken(&self, target: &str, element: Element) -> Result<Vec<&Subset>> {
        let key = self.get(target)?.triplet.key(element);
        Ok(self.pool(target)?.into_iter().filter(|s| s.triplet.key(element) != key).collect())
    }

    /// Pairs of the pool in which all elements of the target occur, in the order of the catalogue.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn pair_covers(&self, target: &str) -> Result<Vec<(&Subset, &Subset)>> {
        let target = self.get(target)?;
        let pool: Vec<(&Subset, [bool; 3])> =
            self.sharing(target).filter(|(_, s)| s.contains(&false) && s.contains(&true)).collect();
        let mut covers = Vec::new();
        for (i, (first, a)) in pool.iter().enumerate() {
            let rest = pool.iter().skip(i + 1);
            let covering = rest.filter(|(_, b)| a.iter().zip(b).all(|(x, y)| *x || *y));
            covers.extend(covering.map(|(second, _)| (*first, *second)));
        }
        Ok(covers)
    }

    /// Whether each element of the target occurs in the pool.
    ///
    /// # Errors
    ///
    /// As [`Catalogue::get`].
    pub fn coverable(&self, target: &str) -> Result<bool> {
        let target = self.get(target)?;
        let pool = self.sharing(target).filter(|(_, s)| s.contains(&false));
        let mut found = [false; 3];
        for (_, shares) in pool {
            for (f, s) in found.iter_mut().zip(shares) {
                *f |= s;
            }
        }
        Ok(found == [true; 3])
    }

    /// Counts for all targets.
    pub fn stats(&self) -> CatalogueStats {
        let mut degrees: [BTreeMap<String, usize>; 3] = Default::default();
        for subset in &self.subsets {
            for (degree, element) in degrees.iter_mut().zip(Element::ALL) {
                *degree.entry(subset.triplet.key(element).to_owned()).or_default() += 1;
            }
        }
        let distinct: BTreeSet<&[String; 3]> = self.subsets.iter().map(|s| &s.triplet.keys).collect();
        let stats = |s: &Subset| -> Result<TargetStats> {
            let covers = self.pair_covers(&s.id)?;
            Ok(TargetStats {
                id: s.id.clone(),
                related: self.related(&s.id)?.len(),
                unrelated: self.unrelated(&s.id)?.len(),
                identical: self.identical(&s.id)?.iter().map(|i| i.id.clone()).collect(),
                pair_covers: covers.len(),
                first_cover: covers.first().map(|(a, b)| (a.id.clone(), b.id.clone())),
                coverable: self.coverable(&s.id)?,
            })
        };
        // Identifiers are the catalogue's own, so none is unknown.
        let targets = self.subsets.iter().filter_map(|s| stats(s).ok()).collect();
        CatalogueStats { degrees, distinct_triplets: distinct.len(), targets }
    }

    /// Which elements (columns: all modalities, areas, tasks in the order of [`CatalogueStats::degrees`]) each data set
    /// carries (rows).
    pub fn incidence(&self) -> Vec<Vec<bool>> {
        let degrees = self.stats().degrees;
        let row = |s: &Subset| {
            let columns = degrees.iter().zip(Element::ALL);
            columns.flat_map(|(names, e)| names.keys().map(move |n| n == s.triplet.key(e))).collect()
        };
        self.subsets.iter().map(row).collect()
    }
}
