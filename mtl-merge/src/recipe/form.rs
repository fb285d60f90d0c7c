//! Which checkpoints are merged with each other, whatever the form of the recipe.
use super::{Module, Recipe, Slice, Source};
use crate::{Base, Error, MethodSpec, Params, Result, recipe::ModelEntry};

/// Checkpoints that are merged with each other.
pub(super) struct Group<'r> {
    /// `models` or `slices[0].sources`.
    pub(super) path: String,
    pub(super) entries: Vec<Entry<'r>>,
    base: Option<&'r str>,
    /// Whether a base that is not listed takes part all the same.
    complete: bool,
    /// Parameters that hold for all of them, the most specific first.
    levels: Vec<&'r Params>,
}

/// One checkpoint of a group.
pub(super) struct Entry<'r> {
    pub(super) path: String,
    pub(super) model: &'r str,
    pub(super) parameters: &'r Params,
}

/// Groups of the recipe, in order.
pub(super) fn groups(recipe: &Recipe) -> Vec<Group<'_>> {
    let mut list = Vec::new();
    collect(recipe, "", &recipe.models, &recipe.slices, &[&recipe.parameters], &mut list);
    for (name, module) in &recipe.modules {
        let Module { models, slices, parameters } = module;
        let levels = [parameters, &recipe.parameters];
        collect(recipe, &format!("modules.{name}."), models, slices, &levels, &mut list);
    }
    list
}

fn collect<'r>(
    recipe: &'r Recipe,
    prefix: &str,
    models: &'r [ModelEntry],
    slices: &'r [Slice],
    levels: &[&'r Params],
    list: &mut Vec<Group<'r>>,
) {
    if !models.is_empty() {
        let path = format!("{prefix}models");
        let entry = |(i, entry): (usize, &'r ModelEntry)| Entry {
            path: format!("{path}[{i}]"),
            model: &entry.model,
            parameters: &entry.parameters,
        };
        let entries = models.iter().enumerate().map(entry).collect();
        let base = recipe.base.as_deref();
        list.push(Group { path, entries, base, complete: true, levels: levels.to_vec() });
    }
    for (i, slice) in slices.iter().enumerate() {
        let path = format!("{prefix}slices[{i}].sources");
        let entry = |(j, source): (usize, &'r Source)| Entry {
            path: format!("{path}[{j}]"),
            model: &source.model,
            parameters: &source.parameters,
        };
        let entries = slice.sources.iter().enumerate().map(entry).collect();
        let base = slice.base_model.as_deref().or(recipe.base.as_deref());
        let levels = [&[&slice.parameters], levels].concat();
        list.push(Group { path, entries, base, complete: false, levels });
    }
}

impl Group<'_> {
    /// Checks the models against each other, the base and the method.
    pub(super) fn check(&self, spec: &MethodSpec) -> Result<()> {
        self.check_duplicates()?;
        let takes_base = spec.base != Base::Unused;
        let listed = self.base.is_some_and(|base| self.entries.iter().any(|e| e.model == base));
        let has_base = takes_base && self.base.is_some() && (listed || self.complete);
        if spec.base == Base::Required && !has_base {
            if self.base.is_none() {
                return Err(Error::MissingBase { method: spec.info.name.to_owned() });
            }
            let message = format!("method `{}` needs the base model among the sources", spec.info.name);
            return Err(Error::Recipe { path: self.path.clone(), message });
        }
        let is_base = |entry: &&Entry<'_>| takes_base && Some(entry.model) == self.base;
        let mut models: Vec<(&str, &str, Option<&Params>)> = Vec::new();
        for entry in self.entries.iter().filter(|entry| !is_base(entry)) {
            models.push((&entry.path, entry.model, Some(entry.parameters)));
        }
        if let (Some(base), true, false, false) = (self.base, self.complete, listed, takes_base) {
            models.push(("base_model", base, None)); // As the reference tool does: an input like the others.
        }
        self.check_count(spec, models.len(), has_base)?;
        for param in spec.params.iter().filter(|p| p.preset == crate::Preset::Required) {
            if self.levels.iter().any(|level| level.contains_key(param.name)) {
                continue;
            }
            let method = spec.info.name;
            if !param.is_per_model() {
                let message = format!("method `{method}` requires `{}`, but it has no value", param.name);
                return Err(Error::Recipe { path: "parameters".to_owned(), message });
            }
            let lacks = |own: &Option<&Params>| own.is_none_or(|own| !own.contains_key(param.name));
            if let Some((path, model, _)) = models.iter().find(|(_, _, own)| lacks(own)) {
                let message = format!(
                    "method `{method}` requires `{}` of every model, but `{model}` has none",
                    param.name
                );
                return Err(Error::Recipe { path: (*path).to_owned(), message });
            }
        }
        Ok(())
    }

    fn check_duplicates(&self) -> Result<()> {
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(first) = self.entries[..i].iter().find(|e| e.model == entry.model) {
                return Err(Error::DuplicateModel {
                    model: entry.model.to_owned(),
                    first: first.path.clone(),
                    second: entry.path.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_count(&self, spec: &MethodSpec, found: usize, has_base: bool) -> Result<()> {
        if found >= spec.min_models && spec.max_models.is_none_or(|max| found <= max) {
            return Ok(());
        }
        let plural = |n: usize| if n == 1 { "1 model".to_owned() } else { format!("{n} models") };
        let besides = if has_base { " besides the base" } else { "" };
        let expected = match spec.max_models {
            Some(max) if max == spec.min_models => format!("exactly {}{besides}", plural(max)),
            Some(max) => format!("{} to {}{besides}", spec.min_models, plural(max)),
            None => format!("at least {}{besides}", plural(spec.min_models)),
        };
        let (method, path) = (spec.info.name.to_owned(), self.path.clone());
        Err(Error::ModelCount { path, method, expected, found })
    }
}
