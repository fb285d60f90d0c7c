//! Reads recipes from text.
use super::{
    Recipe,
    node::{self, MAX_BYTES, Node, Value},
    origin::{Origin, Unknown},
    sift::sift,
};
use crate::{Error, Result};
use std::{fs::File, io::Read, path::Path};

impl Recipe {
    /// Reads a recipe from YAML or JSON, in the form of mergekit's configurations.
    ///
    /// ```
    /// use mtl_merge::{Methods, Recipe};
    ///
    /// let text = "
    /// merge_method: task_arithmetic
    /// base_model: org/base
    /// models:
    ///   - model: org/digits
    ///     parameters: {weight: [0.2, 0.8]}
    ///   - model: org/letters@v2
    ///     parameters: {weight: 0.5, wieght: 1}
    /// ";
    /// let recipe = Recipe::from_yaml(text)?;
    /// assert_eq!(recipe.models[1].model, "org/letters@v2");
    /// let error = recipe.validate(&Methods::default()).unwrap_err().to_string();
    /// let expected = "line 8: models[1].parameters: method `task_arithmetic` has no parameter `wieght`; ";
    /// assert_eq!(error, format!("{expected}did you mean `weight`?"));
    /// # Ok::<(), mtl_merge::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Syntax`] with line and excerpt for what is not YAML or exceeds the limits of a recipe;
    /// [`Error::UnknownKey`] and [`Error::Recipe`] within [`Error::At`] for what is no recipe.
    pub fn from_yaml(text: &str) -> Result<Self> {
        single(None, documents(None, text)?)
    }

    /// Reads a recipe from TOML, with the keys of the YAML form.
    ///
    /// # Errors
    ///
    /// As [`Recipe::from_yaml`].
    pub fn from_toml(text: &str) -> Result<Self> {
        single(None, toml_document(None, text)?)
    }

    /// Reads a recipe from a file: TOML if its name ends in `.toml`, YAML or JSON otherwise.
    ///
    /// # Errors
    ///
    /// As [`Recipe::from_yaml`], and [`Error::Core`] when the file cannot be read.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        single(Some(path), file(path)?)
    }
}

/// All documents of a file.
pub(super) fn file(path: &Path) -> Result<Vec<Node>> {
    let complain =
        |source| Error::Core(mtl_core::Error::Io { action: "read", path: path.to_owned(), source });
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1; // One more, so that too long a file is seen to be too long.
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(complain)?;
    let text = String::from_utf8(bytes).map_err(|e| Error::Syntax {
        file: Some(path.to_owned()),
        message: format!("no text: byte {} is not UTF-8", e.utf8_error().valid_up_to()),
    })?;
    let toml = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
    if toml { toml_document(Some(path), &text) } else { documents(Some(path), &text) }
}

/// All documents of a YAML text.
pub(super) fn documents(file: Option<&Path>, text: &str) -> Result<Vec<Node>> {
    node::yaml(text).map_err(|message| Error::Syntax { file: file.map(Path::to_owned), message })
}

fn toml_document(file: Option<&Path>, text: &str) -> Result<Vec<Node>> {
    let root =
        node::toml(text).map_err(|message| Error::Syntax { file: file.map(Path::to_owned), message })?;
    Ok(vec![root])
}

fn single(file: Option<&Path>, roots: Vec<Node>) -> Result<Recipe> {
    let found = roots.len();
    let mut roots = roots.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => recipe(file, root),
        _ => {
            let message = match found {
                0 => "there is no recipe in the text".to_owned(),
                _ => format!("there are {found} recipes in the text; they are stages of one merge"),
            };
            Err(Error::Syntax { file: file.map(Path::to_owned), message })
        }
    }
}

/// Makes recipes of all documents.
pub(super) fn recipes(file: Option<&Path>, roots: Vec<Node>) -> Result<Vec<Recipe>> {
    if roots.is_empty() {
        return single(file, roots).map(|recipe| vec![recipe]);
    }
    roots.into_iter().map(|root| recipe(file, root)).collect()
}

/// Makes a recipe of one document.
pub(super) fn recipe(file: Option<&Path>, mut root: Node) -> Result<Recipe> {
    let whole = root.clone();
    let unknown = sift(&mut root);
    let typo = unknown.iter().find(|key| key.similar.is_some()).cloned();
    let origin = Origin::new(file, &whole, unknown);
    if let Some(Unknown { path, key, similar }) = typo {
        return Err(origin.explain(Error::UnknownKey { path, key, similar }));
    }
    if !matches!(root.value, Value::Map(_)) {
        let message = "expected keys such as `merge_method` and `models`, each with a value".to_owned();
        return Err(origin.explain(Error::Recipe { path: "recipe".to_owned(), message }));
    }
    let read = serde_path_to_error::deserialize(root);
    let mut recipe: Recipe = read.map_err(|error| {
        let path = match error.path().to_string() {
            whole if whole == "." => "recipe".to_owned(),
            path => path,
        };
        origin.explain(Error::Recipe { path, message: error.inner().to_string() })
    })?;
    recipe.origin = origin;
    Ok(recipe)
}
