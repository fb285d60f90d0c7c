//! Where a recipe was read from: file, lines, and keys that it does not know.
use super::node::{Node, Value};
use crate::Error;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Lines of a recipe's text, kept beside the recipe; equal to every other, since it does not change what is merged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<PathBuf>,
    lines: BTreeMap<String, usize>,
    unknown: Vec<Unknown>,
}

/// A key that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown {
    /// With the key: `models[1].comment`.
    pub(super) path: String,
    pub(super) key: String,
    /// A key that does, and is spelled nearly the same.
    pub(super) similar: Option<String>,
}

impl PartialEq for Origin {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Origin {
    pub(super) fn new(file: Option<&Path>, root: &Node, unknown: Vec<Unknown>) -> Self {
        let mut lines = BTreeMap::new();
        collect(root, String::new(), &mut lines);
        lines.insert("recipe".to_owned(), root.line); // For what concerns the whole.
        Self(Arc::new(Inner { file: file.map(Path::to_owned), lines, unknown }))
    }

    pub(super) fn unknown(&self) -> &[Unknown] {
        &self.0.unknown
    }

    /// Line of the entry at `path`, or of the nearest entry around it.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(&line) = self.0.lines.get(path) {
                return Some(line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Line of the first parameter of that name, for errors that know a tensor's parameters and not where they stand.
    fn parameter(&self, name: &str) -> Option<usize> {
        let own = |path: &str| {
            path.rsplit_once(".").is_some_and(|(around, key)| {
                key == name && (around == "parameters" || around.ends_with(".parameters"))
            })
        };
        self.0.lines.iter().filter(|(path, _)| own(path)).map(|(_, &line)| line).min()
    }

    /// Puts file and line before an error that has a place in the recipe.
    pub(super) fn explain(&self, error: Error) -> Error {
        if matches!(error, Error::At { .. }) {
            return error;
        }
        match error.path().and_then(|path| self.line(&path).or_else(|| self.parameter(&path))) {
            Some(line) => Error::At { file: self.0.file.clone(), line, error: Box::new(error) },
            None => error,
        }
    }

    /// `config.yml:7: `, if the line is known.
    pub(super) fn prefix(&self, path: &str) -> String {
        self.line(path).map(|line| place(self.0.file.as_deref(), line)).unwrap_or_default()
    }
}

/// `config.yml:7: ` or `line 7: `.
pub(crate) fn place(file: Option<&Path>, line: usize) -> String {
    match file {
        Some(file) => format!("{}:{line}: ", file.display()),
        None => format!("line {line}: "),
    }
}

fn collect(node: &Node, path: String, lines: &mut BTreeMap<String, usize>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, entry) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                collect(entry, format!("{path}{dot}{key}"), lines);
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{i}]"), lines);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        lines.insert(path, node.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_entry_or_of_what_is_around_it() {
        let root = super::super::node::yaml("a: 1\nb:\n  - c: 2\n    d:\n      e: 3\n").unwrap().remove(0);
        let origin = Origin::new(Some("x.yml".as_ref()), &root, Vec::new());
        let lines = ["a", "b", "b[0]", "b[0].c", "b[0].d.e", "b[0].d.f[2]", "b[7].c", "zz"];
        let found: Vec<_> = lines.iter().map(|path| origin.line(path)).collect();
        let expected = [1, 2, 3, 3, 5, 4, 2].map(Some);
        assert_eq!(found[..7], expected);
        assert_eq!(found[7], None);
        let error = Error::Recipe { path: "b[0].d".into(), message: "odd".into() };
        assert_eq!(origin.explain(origin.explain(error)).to_string(), "x.yml:4: b[0].d: odd");
    }
}
