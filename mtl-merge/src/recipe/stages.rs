//! Merges in several stages: documents of one file, of which later ones use the results of others as models.
use super::{ModelRef, Recipe, read};
use crate::{Error, Result};
use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

/// The recipes of one file, each after those whose results it uses.
///
/// ```
/// use mtl_merge::Stages;
///
/// let stages = Stages::from_yaml("
/// merge_method: slerp
/// models: [{model: soup}, {model: org/c}]
/// parameters: {t: 0.5}
/// ---
/// name: soup
/// merge_method: linear
/// models: [{model: org/a}, {model: org/b}]
/// parameters: {weight: 1}
/// ")?;
/// let [soup, last] = stages.list() else { unreachable!() };
/// assert_eq!((soup.recipe.name.as_deref(), &last.recipe.name), (Some("soup"), &None));
/// assert_eq!(last.recipe_in("parts".as_ref()).models[0].model, "parts/soup");
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    list: Vec<Stage>,
}

/// One recipe of several.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// The recipe; its `name` is what other stages call its result. The final output has none.
    pub recipe: Recipe,
    /// Names of the stages whose results it uses.
    pub needs: BTreeSet<String>,
}

impl Stage {
    /// The recipe with the results of other stages as models in `dir`, under their names.
    #[must_use]
    pub fn recipe_in(&self, dir: &Path) -> Recipe {
        let mut recipe = self.recipe.clone();
        for name in names_mut(&mut recipe) {
            if let Ok(mut model) = ModelRef::parse(name)
                && self.needs.contains(&model.path)
            {
                model.path = dir.join(&model.path).to_string_lossy().into_owned();
                *name = model.to_string();
            }
        }
        recipe
    }
}

impl Stages {
    /// Reads one or more recipes, separated by `---`, from YAML.
    ///
    /// # Errors
    ///
    /// As [`Recipe::from_yaml`], and [`Error::Recipe`] for names that are given twice or could not be those of
    /// folders, for more than one recipe without a name, and for recipes that use each other's results.
    pub fn from_yaml(text: &str) -> Result<Self> {
        Self::new(read::recipes(None, read::documents(None, text)?)?)
    }

    /// Reads one or more recipes from a file, as [`Recipe::from_path`] does.
    ///
    /// # Errors
    ///
    /// As [`Stages::from_yaml`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(read::recipes(Some(path), read::file(path)?)?)
    }

    /// Puts recipes into the order of their results.
    ///
    /// # Errors
    ///
    /// As [`Stages::from_yaml`], without those of reading.
    pub fn new(recipes: Vec<Recipe>) -> Result<Self> {
        if let [_] = recipes.as_slice() {
            let list = recipes.into_iter().map(|recipe| Stage { recipe, needs: BTreeSet::new() }).collect();
            return Ok(Self { list }); // A single recipe's name is a title.
        }
        check_names(&recipes)?;
        let names: BTreeSet<String> = recipes.iter().filter_map(|recipe| recipe.name.clone()).collect();
        let stage = |mut recipe: Recipe| {
            let models = names_mut(&mut recipe).into_iter().filter_map(|name| ModelRef::parse(name).ok());
            let needs = models.map(|model| model.path).filter(|path| names.contains(path)).collect();
            Stage { recipe, needs }
        };
        let mut waiting: Vec<Stage> = recipes.into_iter().map(stage).collect();
        let (mut list, mut done): (Vec<Stage>, BTreeSet<String>) = Default::default();
        while !waiting.is_empty() {
            let Some(next) = waiting.iter().position(|stage| stage.needs.is_subset(&done)) else {
                return Err(circle(&waiting));
            };
            let stage = waiting.remove(next);
            done.extend(stage.recipe.name.clone());
            list.push(stage);
        }
        // The final output comes last, even if it could come earlier.
        list.sort_by_key(|stage| stage.recipe.name.is_none());
        Ok(Self { list })
    }

    /// The stages, each after those it needs; one without a name is the last.
    #[must_use]
    pub fn list(&self) -> &[Stage] {
        &self.list
    }
}

fn check_names(recipes: &[Recipe]) -> Result<()> {
    let complain = |recipe: &Recipe, message: String| {
        let path = if recipe.name.is_some() { "name" } else { "merge_method" };
        Err(recipe.explain(Error::Recipe { path: path.to_owned(), message }))
    };
    let mut known = BTreeSet::new();
    for recipe in recipes {
        match &recipe.name {
            None if !known.insert(None) => {
                return complain(recipe, "more than one recipe has no `name`; only the final one may".into());
            }
            Some(name) if !known.insert(Some(name.as_str())) => {
                return complain(recipe, format!("two recipes are called `{name}`"));
            }
            Some(name) => {
                let mut parts = Path::new(name).components();
                let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
                if !plain || name.contains(['/', '\\', '@', '+']) {
                    let message =
                        format!("`{name}` is no name of a folder; use letters, digits, `-`, `_`, `.`");
                    return complain(recipe, message);
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// The error for stages that wait for each other; `waiting` holds them and those that wait for them.
fn circle(waiting: &[Stage]) -> Error {
    let find = |name: &String| waiting.iter().position(|stage| stage.recipe.name.as_ref() == Some(name));
    let mut at = 0;
    let mut seen: Vec<usize> = Vec::new();
    while !seen.contains(&at) {
        seen.push(at);
        at = waiting[at].needs.iter().find_map(find).unwrap_or(at);
    }
    let start = seen.iter().position(|&i| i == at).unwrap_or_default();
    let names: Vec<&str> = seen[start..]
        .iter()
        .chain([&at])
        .map(|&i| waiting[i].recipe.name.as_deref().unwrap_or_default())
        .collect();
    let message = format!("recipes use each other's results in a circle: `{}`", names.join("` uses `"));
    waiting[at].recipe.explain(Error::Recipe { path: "name".to_owned(), message })
}

/// Every name of a model in the recipe.
fn names_mut(recipe: &mut Recipe) -> Vec<&mut String> {
    let mut names: Vec<&mut String> = Vec::new();
    names.extend(&mut recipe.base);
    names.extend(recipe.models.iter_mut().map(|entry| &mut entry.model));
    let modules = recipe.modules.values_mut();
    let mut slices: Vec<_> = recipe.slices.iter_mut().collect();
    for module in modules {
        names.extend(module.models.iter_mut().map(|entry| &mut entry.model));
        slices.extend(&mut module.slices);
    }
    for slice in slices {
        names.extend(&mut slice.base_model);
        names.extend(slice.sources.iter_mut().map(|source| &mut source.model));
    }
    names.extend(&mut recipe.tokenizer_source);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(documents: &[&str]) -> Result<Vec<String>, String> {
        let stages = Stages::from_yaml(&documents.join("\n---\n")).map_err(|e| e.to_string())?;
        Ok(stages.list().iter().map(|s| s.recipe.name.clone().unwrap_or_default()).collect())
    }

    fn linear(name: &str, models: &[&str]) -> String {
        let name = if name.is_empty() { String::new() } else { format!("name: {name}\n") };
        let models: Vec<String> = models.iter().map(|m| format!("{{model: {m}}}")).collect();
        format!("{name}merge_method: linear\nmodels: [{}]\nparameters: {{weight: 1}}", models.join(", "))
    }

    #[test]
    fn stages_come_after_what_they_use_and_the_final_one_last() {
        let (last, a) = (linear("", &["b", "x/y"]), linear("a", &["x/z"]));
        let (b, c) = (linear("b", &["a@main", "x/y"]), linear("c", &["b+a"]));
        assert_eq!(stages(&[&last, &c, &b, &a]).unwrap(), ["a", "b", "c", ""]);
        assert_eq!(stages(&[&linear("", &["x"]), &a]).unwrap(), ["a", ""]);
        assert_eq!(stages(&[&linear("My soup/2", &["x"])]).unwrap(), ["My soup/2"], "a title");
    }

    #[test]
    fn results_of_stages_are_found_in_their_folder() {
        let text =
            [linear("a", &["x"]), linear("", &["a@r+x", "b"]) + "\ntokenizer_source: a"].join("\n---\n");
        let stages = Stages::from_yaml(&text).unwrap();
        let recipe = stages.list()[1].recipe_in("dir".as_ref());
        let models: Vec<&str> = recipe.models.iter().map(|m| m.model.as_str()).collect();
        assert_eq!(models, ["dir/a@r+x", "b"]);
        assert_eq!(recipe.tokenizer_source.as_deref(), Some("dir/a"));
    }

    #[test]
    fn circles_and_names_that_do_not_tell_apart_are_refused() {
        let error = |documents: &[String]| {
            let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
            stages(&documents).unwrap_err()
        };
        let circle = [linear("", &["a"]), linear("a", &["b"]), linear("b", &["c"]), linear("c", &["b"])];
        insta::assert_snapshot!(error(&circle), @"line 10: name: recipes use each other's results in a circle: `b` uses `c` uses `b`");
        insta::assert_snapshot!(error(&[linear("a", &["a"]), linear("", &["x"])]), @"line 1: name: recipes use each other's results in a circle: `a` uses `a`");
        insta::assert_snapshot!(error(&[linear("a", &["x"]), linear("a", &["y"])]), @"line 8: models[0].model: expected a model: `path`, `path@revision`, `path+adapter`, or {model: {path, revision}, lora: {path, revision}}");
        insta::assert_snapshot!(error(&[linear("", &["x"]), linear("", &["y"])]), @"line 6: models[0].model: expected a model: `path`, `path@revision`, `path+adapter`, or {model: {path, revision}, lora: {path, revision}}");
        insta::assert_snapshot!(error(&[linear("../a", &["x"]), linear("", &["y"])]), @"line 7: models[0].model: expected a model: `path`, `path@revision`, `path+adapter`, or {model: {path, revision}, lora: {path, revision}}");
    }
}
