//! Methods by name: one static row per method, extended by value, never by global state.
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a table, a report or `--list` shows of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodInfo {
    /// Name in configs and result tables: lower-case, hyphenated.
    pub name: &'static str,
    /// Title of the paper.
    pub paper: &'static str,
    /// arXiv identifier, DOI or venue.
    pub source: &'static str,
}

/// A row of a registry: how to build `T` from a config.
#[derive(Debug)]
pub struct Entry<T: ?Sized> {
    /// Facts about the method.
    pub info: MethodInfo,
    /// Builds the method from its config, which must contain no unknown field.
    pub build: fn(Value) -> Result<Box<T>>,
}

/// Methods of one family. Crates of users add rows with [`Registry::with`].
///
/// ```
/// use mtl_core::registry::{Entry, MethodInfo, Registry};
///
/// static ROWS: [Entry<str>; 1] = [Entry {
///     info: MethodInfo { name: "greet", paper: "On Greeting", source: "none" },
///     build: |_config| Ok("hello".into()),
/// }];
/// let registry = Registry::new(&ROWS);
/// assert_eq!(&*registry.build("greet", serde_json::json!({}))?, "hello");
/// let error = registry.build("great", serde_json::json!({})).unwrap_err();
/// assert_eq!(error.to_string(), "unknown method `great`; did you mean `greet`?");
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Registry<T: ?Sized + 'static> {
    rows: Vec<&'static Entry<T>>,
}

impl<T: ?Sized> Registry<T> {
    /// A registry over a static table.
    pub fn new(rows: &'static [Entry<T>]) -> Self {
        Self { rows: rows.iter().collect() }
    }

    /// Adds a method; a later row of the same name wins.
    #[must_use]
    pub fn with(mut self, row: &'static Entry<T>) -> Self {
        self.rows.retain(|r| r.info.name != row.info.name);
        self.rows.push(row);
        self
    }

    /// Facts about every method, in registration order.
    pub fn infos(&self) -> impl Iterator<Item = MethodInfo> + '_ {
        self.rows.iter().map(|row| row.info)
    }

    /// Builds the method called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] with the nearest name, [`Error::Parse`] with the path of a field.
    pub fn build(&self, name: &str, config: Value) -> Result<Box<T>> {
        match self.rows.iter().find(|r| r.info.name == name) {
            Some(row) => (row.build)(config),
            None => Err(Error::unknown("method", name, self.rows.iter().map(|r| r.info.name))),
        }
    }
}

/// Deserialises a config; errors carry the path of the field.
///
/// # Errors
///
/// [`Error::Parse`] for an unknown field or a value of the wrong type.
pub fn parse<C: DeserializeOwned>(config: Value) -> Result<C> {
    serde_path_to_error::deserialize(config)
        .map_err(|e| Error::Parse { path: e.path().to_string(), message: e.inner().to_string() })
}

/// The name among `known` that `name` was probably meant to be: at most three edits, and under half its length, away.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = known.into_iter().map(|k| (edit_distance(name, k), k)).min()?;
    (distance <= 3 && 2 * distance <= name.chars().count().max(2)).then_some(best)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_suggests_close_names_only() {
        let known = ["pcgrad", "equal-weights"];
        assert_eq!(nearest("pcgrd", known), Some("pcgrad"));
        assert_eq!(nearest("equal-weight", known), Some("equal-weights"));
        assert_eq!(nearest("mgda", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
