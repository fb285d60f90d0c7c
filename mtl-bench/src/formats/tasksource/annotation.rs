//! Annotations and files of them.
use super::field::computed;
use super::{Field, Table};
use crate::formats::document::{Document, Json, Node};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// What kind of task the columns make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// `sentence1`, optional `sentence2`; `labels` is a class, a number or a list of labels.
    Classification,
    /// `inputs`, and `choices_list` or `choice0`, `choice1`, …; `labels` is the index of the right one.
    MultipleChoice,
    /// `tokens`, and as many `labels`.
    TokenClassification,
    /// `prompt` and `output`.
    Seq2Seq,
}

impl Template {
    const NAMES: [(&str, Self); 4] = [
        ("classification", Self::Classification),
        ("multiple_choice", Self::MultipleChoice),
        ("token_classification", Self::TokenClassification),
        ("seq2seq", Self::Seq2Seq),
    ];

    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Classification => &["sentence1", "labels"],
            Self::MultipleChoice => &["inputs", "labels"],
            Self::TokenClassification => &["tokens", "labels"],
            Self::Seq2Seq => &["prompt", "output"],
        }
    }
}

/// Configuration of the source data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// There is only one.
    None,
    /// One.
    One(String),
    /// One task for each.
    Several(Vec<String>),
    /// Listed by a function upstream.
    Computed,
}

/// How a data set becomes a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Annotation {
    /// `dataset___config__task`, where configuration and task may be absent.
    pub id: String,
    /// Kind of task.
    pub template: Template,
    /// Source data set.
    pub dataset: String,
    /// Its configuration.
    pub config: Config,
    /// Name of the task within the data set.
    pub task: Option<String>,
    /// What fills the columns of the task, by column.
    pub fields: BTreeMap<String, Field>,
    /// Source names of train, validation and test; `None` inside drops a split.
    pub splits: Option<[Option<String>; 3]>,
    /// Whether a function upstream changes the source first.
    pub pre_process: bool,
    /// Whether a function upstream changes the result.
    pub post_process: bool,
    /// Whether a function upstream fills further columns.
    pub more_fields: bool,
}

impl Annotation {
    pub(super) fn parse(node: &Node<'_>) -> Result<Self> {
        let kind = node.need("kind")?;
        let text = kind.text()?;
        let template = Template::NAMES.iter().find(|(name, _)| *name == text).map(|(_, t)| *t);
        let known = Template::NAMES.iter().map(|(n, _)| *n);
        let template =
            template.ok_or_else(|| kind.error(mtl_core::Error::unknown("kind", text, known).to_string()))?;
        let dataset = node.text_of("dataset")?.unwrap_or_default();
        let (mut fields, mut more_fields) = (BTreeMap::new(), false);
        let given = node.need("fields")?;
        for (column, field) in given.fields()? {
            let parsed = match column {
                "null" => {
                    computed(&field)?;
                    more_fields = true;
                    continue;
                }
                "choices" => Field::parse_choices(&field)?,
                _ => vec![(column.to_owned(), Field::parse(&field)?)],
            };
            for (column, parsed) in parsed {
                if fields.insert(column.clone(), parsed).is_some() {
                    return Err(field.error(format!("`{column}` is filled twice")));
                }
            }
        }
        let missing = |c: &&&str| !fields.contains_key(**c);
        if let (Some(column), false) = (template.columns().iter().find(missing), more_fields) {
            return Err(given.error(format!("has no `{column}`")));
        }
        let has_choices = ["choice0", "choices_list", "choices"].iter().any(|c| fields.contains_key(*c));
        if template == Template::MultipleChoice && !has_choices && !more_fields {
            return Err(given.error("has neither `choices` nor `choices_list`"));
        }
        let hook = |key: &str| match node.get(key)? {
            Some(hook) => computed(&hook).map(|()| true),
            None => Ok(false),
        };
        Ok(Self {
            id: node.text_of("id")?.unwrap_or_else(|| dataset.clone()),
            template,
            dataset,
            config: node.get("config")?.map_or(Ok(Config::None), |n| config(&n))?,
            task: node.text_of("task")?,
            fields,
            splits: node.get("splits")?.map(|n| splits(&n)).transpose()?,
            pre_process: hook("pre_process")?,
            post_process: hook("post_process")?,
            more_fields,
        })
    }

    /// Parts that are functions upstream: `config`, `pre_process`, `post_process`, columns, and `*` for further columns.
    pub fn computed_parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        let whole = [
            (self.config == Config::Computed, "config"),
            (self.pre_process, "pre_process"),
            (self.more_fields, "*"),
            (self.post_process, "post_process"),
        ];
        parts.extend(whole.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.to_owned()));
        parts.extend(self.fields.iter().filter(|(_, f)| f.is_computed()).map(|(column, _)| column.clone()));
        parts
    }

    /// Whether no part is a function.
    pub fn is_declarative(&self) -> bool {
        self.computed_parts().is_empty()
    }

    /// What a table's columns and kinds already show to be wrong, from its first 100 rows; empty when nothing.
    pub fn check(&self, table: &Table) -> Vec<String> {
        let schema = table.schema(100);
        let mut faults = Vec::new();
        for (column, field) in &self.fields {
            let fields: Vec<&Field> = match field {
                Field::Concat { parts, .. } => parts.iter().collect(),
                other => vec![other],
            };
            for field in fields {
                for source in field.columns() {
                    let Some(kinds) = schema.get(source) else {
                        faults.push(format!("`{column}`: there is no column `{source}`"));
                        continue;
                    };
                    if let Some(wanted) = field.kinds_read()
                        && let Some(bad) = kinds.iter().find(|k| !wanted.contains(k))
                    {
                        let wanted = wanted.join(" or ");
                        faults.push(format!(
                            "`{column}`: `{source}` must be of kind {wanted}, but is of kind {bad}"
                        ));
                    }
                    let list = matches!(column.as_str(), "choices_list" | "tokens");
                    if let (true, Field::Column(_), Some(bad)) =
                        (list, field, kinds.iter().find(|k| **k != "list"))
                    {
                        faults.push(format!(
                            "`{column}`: `{source}` must be of kind list, but is of kind {bad}"
                        ));
                    }
                }
            }
        }
        faults
    }
}

fn config(node: &Node<'_>) -> Result<Config> {
    match node.json() {
        Json::List(_) => {
            let several = node.texts()?;
            if several.is_empty() { Err(node.error("is empty")) } else { Ok(Config::Several(several)) }
        }
        Json::Object(_) => computed(node).map(|()| Config::Computed),
        Json::Scalar(_) => Ok(Config::One(node.text()?.to_owned())),
    }
}

fn splits(node: &Node<'_>) -> Result<[Option<String>; 3]> {
    let items = node.items()?;
    let name = |n: &Node<'_>| match n.json() {
        Json::Scalar(serde_json::Value::Null) => Ok(None),
        _ => n.text().map(|t| Some(t.to_owned())),
    };
    match items.as_slice() {
        [train, validation, test] => Ok([name(train)?, name(validation)?, name(test)?]),
        other => {
            Err(node.error(format!("must name train, validation and test, but has {} items", other.len())))
        }
    }
}

/// Annotations of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Annotations {
    /// All of them, in file order.
    pub all: Vec<Annotation>,
}

impl Annotations {
    /// Reads a JSON list of annotations. An identifier may occur twice, as upstream; [`Annotations::get`] then refuses it.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`], naming the place, for an unknown kind, a field of
    /// no known form, a column filled twice, a template's column that is not filled, or an infinite pattern.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(path)?;
        let mut all = Vec::new();
        for node in document.root().items()? {
            let id = node.need("id")?.text()?;
            if id.is_empty() {
                return Err(node.need("id")?.error("is empty"));
            }
            node.need("dataset")?.text()?;
            all.push(Annotation::parse(&node)?);
        }
        Ok(Self { all })
    }

    /// The annotation of an identifier.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error`] for an unknown one, with a near one; [`Error::Ambiguous`] when there are several.
    pub fn get(&self, id: &str) -> Result<&Annotation> {
        let mut found = self.all.iter().filter(|a| a.id == id);
        let known = self.all.iter().map(|a| a.id.as_str());
        let first = found.next().ok_or_else(|| mtl_core::Error::unknown("annotation", id, known))?;
        match found.count() {
            0 => Ok(first),
            more => Err(Error::Ambiguous { what: format!("annotations `{id}`"), count: more + 1 }),
        }
    }

    /// Annotations of one kind.
    pub fn of(&self, template: Template) -> impl Iterator<Item = &Annotation> {
        self.all.iter().filter(move |a| a.template == template)
    }
}

impl Annotation {
    /// Parses one annotation; `id` and `dataset` may be absent. `source` stands for the file in errors.
    ///
    /// # Errors
    ///
    /// As [`Annotations::read`].
    pub fn from_json(text: &str, source: &Path) -> Result<Self> {
        Self::parse(&Document::parse(source, String::new(), text)?.root())
    }
}
