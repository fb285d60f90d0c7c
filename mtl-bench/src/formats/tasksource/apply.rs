//! The interpreter.
use super::labels::{self, RowFault};
use super::splits::{SPLITS, cap, is_hidden};
use super::table::kind;
use super::{Annotation, Config, Dataset, Row, Table, Template, fix_splits};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

type FieldFunction = Box<dyn Fn(&Row) -> std::result::Result<Value, String>>;
type Hook = Box<dyn Fn(Dataset) -> std::result::Result<Dataset, String>>;

/// Functions that stand for the computed parts of annotations, by `id.part` such as `joci.labels`.
#[derive(Default)]
pub struct Functions {
    fields: BTreeMap<String, FieldFunction>,
    hooks: BTreeMap<String, Hook>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.fields.keys().chain(self.hooks.keys())).finish()
    }
}

impl Functions {
    /// Registers what fills a column, from the source row; for `id.*` it returns an object of columns.
    #[must_use]
    pub fn field(
        mut self,
        id_part: impl Into<String>,
        function: impl Fn(&Row) -> std::result::Result<Value, String> + 'static,
    ) -> Self {
        self.fields.insert(id_part.into(), Box::new(function));
        self
    }

    /// Registers `id.pre_process` or `id.post_process`. A hook also runs for an annotation that names none.
    #[must_use]
    pub fn hook(
        mut self,
        id_part: impl Into<String>,
        function: impl Fn(Dataset) -> std::result::Result<Dataset, String> + 'static,
    ) -> Self {
        self.hooks.insert(id_part.into(), Box::new(function));
        self
    }
}

/// How an annotation is applied.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ApplyOptions<'a> {
    /// Most training rows, drawn with seed 0.
    pub max_train: Option<usize>,
    /// Most rows of each other split, drawn with seed 0.
    pub max_evaluation: Option<usize>,
    /// Most choices: 4.
    pub max_choices: usize,
    /// Name of the configuration that the data are of, needed where a function lists the configurations.
    pub config: Option<&'a str>,
    /// Functions for computed parts.
    pub functions: Option<&'a Functions>,
}

impl Default for ApplyOptions<'_> {
    fn default() -> Self {
        Self { max_train: None, max_evaluation: None, max_choices: 4, config: None, functions: None }
    }
}

/// A task in the columns of its template.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskDataset {
    /// Identifier of the annotation.
    pub id: String,
    /// Kind of task.
    pub template: Template,
    /// Train, validation and test, as far as there are rows for them.
    pub splits: Dataset,
    /// Names of the classes, where labels were texts.
    pub label_names: Option<Vec<String>>,
    /// Rows of each split whose label is null or −1, that is, unknown; never to be trained on or scored as a class.
    pub hidden_labels: BTreeMap<String, usize>,
}

impl Annotation {
    /// Makes the task from the splits of one configuration, in the order of upstream: pre-hook, renaming of splits,
    /// [`fix_splits`], caps, fields, labels, [`fix_splits`] again, post-hook, choices.
    ///
    /// # Errors
    ///
    /// [`Error::Format`], with the data set as its path and split, row and column as its place, for a computed part without
    /// a function, a column or a path that is not there, a value of the wrong kind, a label that training never saw, fewer
    /// than two classes, lists of tokens and labels of different lengths, no training split, or a split without rows.
    pub fn apply(&self, dataset: Dataset, options: &ApplyOptions<'_>) -> Result<TaskDataset> {
        self.refuse_computed(options)?;
        let mut dataset = self.hook("pre_process", dataset, options)?;
        self.rename_splits(&mut dataset)?;
        fix_splits(&mut dataset);
        dataset.retain(|name, _| SPLITS.contains(&name.as_str()));
        for (name, table) in &mut dataset {
            let most = if name == "train" { options.max_train } else { options.max_evaluation };
            if let Some(most) = most {
                cap(table, most, name);
            }
        }
        let mut dataset = self.fill(dataset, options)?;
        let label_names = labels::encode(&mut dataset).map_err(|fault| self.fault(fault))?;
        fix_splits(&mut dataset);
        let dataset = self.hook("post_process", dataset, options)?;
        self.finish(dataset, label_names, options)
    }

    /// Makes a task of one table, without rules for splits.
    ///
    /// # Errors
    ///
    /// As [`Annotation::apply`].
    pub fn apply_table(&self, table: Table, options: &ApplyOptions<'_>) -> Result<TaskDataset> {
        self.refuse_computed(options)?;
        let dataset = self.hook("pre_process", BTreeMap::from([("train".to_owned(), table)]), options)?;
        let mut dataset = self.fill(dataset, options)?;
        let label_names = labels::encode(&mut dataset).map_err(|fault| self.fault(fault))?;
        let dataset = self.hook("post_process", dataset, options)?;
        self.finish(dataset, label_names, options)
    }

    fn error(&self, record: Option<String>, message: impl Into<String>) -> Error {
        let name = if self.dataset.is_empty() { &self.id } else { &self.dataset };
        Error::Format { path: PathBuf::from(name), record, message: message.into() }
    }

    fn fault(&self, (split, row, column, message): RowFault) -> Error {
        self.error(Some(format!("{split}[{row}].{column}")), message)
    }

    fn refuse_computed(&self, options: &ApplyOptions<'_>) -> Result<()> {
        let registered = |part: &str| {
            let key = format!("{}.{part}", self.id);
            let has = |f: &Functions| f.fields.contains_key(&key) || f.hooks.contains_key(&key);
            options.functions.is_some_and(has)
        };
        for part in self.computed_parts() {
            if part == "config" && options.config.is_none() {
                let message =
                    "the configurations are listed by a function upstream; name the one of the data";
                return Err(self.error(Some(format!("{}.config", self.id)), message));
            }
            if part != "config" && !registered(&part) {
                let message = "is a function upstream; register one of this name";
                return Err(self.error(Some(format!("{}.{part}", self.id)), message));
            }
        }
        match (&self.config, options.config) {
            (Config::One(known), Some(given)) if known != given => {
                Err(self.error(None, format!("is annotated for the configuration `{known}`, not `{given}`")))
            }
            (Config::Several(known), Some(given)) if !known.iter().any(|k| k == given) => {
                Err(self.error(None, format!("is annotated for the configurations {known:?}, not `{given}`")))
            }
            _ => Ok(()),
        }
    }

    fn hook(&self, part: &str, dataset: Dataset, options: &ApplyOptions<'_>) -> Result<Dataset> {
        let key = format!("{}.{part}", self.id);
        match options.functions.and_then(|f| f.hooks.get(&key)) {
            Some(hook) => hook(dataset).map_err(|m| self.error(Some(key), m)),
            None => Ok(dataset),
        }
    }

    fn rename_splits(&self, dataset: &mut Dataset) -> Result<()> {
        let Some(names) = &self.splits else { return Ok(()) };
        for (name, source) in SPLITS.iter().zip(names) {
            match source {
                Some(source) if source != name => {
                    let table = dataset.remove(source);
                    let table = table.ok_or_else(|| self.error(None, format!("has no split `{source}`")))?;
                    dataset.insert((*name).to_owned(), table);
                }
                Some(_) => {}
                None => drop(dataset.remove(*name)),
            }
        }
        Ok(())
    }

    fn fill(&self, dataset: Dataset, options: &ApplyOptions<'_>) -> Result<Dataset> {
        let mut filled = Dataset::new();
        for (split, table) in dataset {
            if let Some(fault) = self.check(&table).into_iter().next().filter(|_| !table.rows.is_empty()) {
                return Err(self.error(Some(split), fault));
            }
            let row = |(i, row): (usize, &Row)| self.fill_row(&split, i, row, options);
            let rows = table.rows.iter().enumerate().map(row).collect::<Result<_>>()?;
            filled.insert(split, Table { rows });
        }
        Ok(filled)
    }

    fn fill_row(&self, split: &str, i: usize, row: &Row, options: &ApplyOptions<'_>) -> Result<Row> {
        let function = |part: &str| {
            let key = format!("{}.{part}", self.id);
            options.functions.and_then(|f| f.fields.get(&key))
        };
        let mut filled = Row::new();
        for (column, field) in &self.fields {
            let value = match function(column) {
                Some(function) if field.is_computed() => function(row),
                _ => field.value(row),
            };
            let value = value.map_err(|m| self.error(Some(format!("{split}[{i}].{column}")), m))?;
            filled.insert(column.clone(), value);
        }
        if let (true, Some(function)) = (self.more_fields, function("*")) {
            let error = |m: String| self.error(Some(format!("{split}[{i}].*")), m);
            match function(row).map_err(error)? {
                Value::Object(more) => filled.extend(more),
                other => {
                    return Err(error(format!(
                        "must be an object of columns, but is of kind {}",
                        kind(&other)
                    )));
                }
            }
        }
        if let Some(Value::Array(choices)) = filled.remove("choices") {
            filled.extend(choices.into_iter().enumerate().map(|(k, c)| (format!("choice{k}"), c)));
        }
        Ok(filled)
    }

    fn finish(
        &self,
        mut dataset: Dataset,
        label_names: Option<Vec<String>>,
        options: &ApplyOptions<'_>,
    ) -> Result<TaskDataset> {
        match self.template {
            Template::MultipleChoice => {
                if options.max_choices < 2 {
                    return Err(Error::argument("max_choices", "at least 2", options.max_choices));
                }
                labels::choices(&mut dataset, options.max_choices).map_err(|fault| self.fault(fault))?;
            }
            Template::TokenClassification => self.same_lengths(&dataset)?,
            _ => {}
        }
        if !dataset.contains_key("train") {
            return Err(self.error(None, "has no training split"));
        }
        if let Some((split, _)) = dataset.iter().find(|(_, table)| table.rows.is_empty()) {
            return Err(self.error(Some(split.clone()), "has no rows"));
        }
        let hidden =
            |table: &Table| table.rows.iter().filter(|r| r.get("labels").is_some_and(is_hidden)).count();
        let hidden_labels = dataset.iter().map(|(name, table)| (name.clone(), hidden(table))).collect();
        if self.template == Template::Classification {
            self.two_classes(&dataset)?;
        }
        Ok(TaskDataset {
            id: self.id.clone(),
            template: self.template,
            splits: dataset,
            label_names,
            hidden_labels,
        })
    }

    /// Integer labels of training must differ; numbers and lists are no classes.
    fn two_classes(&self, dataset: &Dataset) -> Result<()> {
        let training = dataset.get("train").map(|t| t.rows.as_slice()).unwrap_or_default();
        let mut labels = training.iter().filter_map(|r| r.get("labels")).filter(|l| !is_hidden(l));
        let Some(first) = labels.next() else {
            return Err(self.error(Some("train".into()), "all labels are null or −1: unknown"));
        };
        if first.is_i64() && labels.all(|l| l == first) {
            let message = format!("all labels are {first}; a class label needs two");
            return Err(self.error(Some("train".into()), message));
        }
        Ok(())
    }

    fn same_lengths(&self, dataset: &Dataset) -> Result<()> {
        for (split, table) in dataset {
            for (i, row) in table.rows.iter().enumerate() {
                let length = |column: &'static str| match row.get(column) {
                    Some(Value::Array(items)) => Ok(items.len()),
                    _ => Err(self.fault((split.clone(), i, column, "must be a list".into()))),
                };
                let (tokens, labels) = (length("tokens")?, length("labels")?);
                if tokens != labels {
                    let message = format!("has {labels} labels for {tokens} tokens");
                    return Err(self.fault((split.clone(), i, "labels", message)));
                }
            }
        }
        Ok(())
    }
}
