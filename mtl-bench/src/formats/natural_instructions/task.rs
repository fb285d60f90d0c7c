//! Task files of both versions.
use crate::formats::document::{Document, Node};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Which schema a task file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NiVersion {
    /// Natural Instructions, 61 tasks.
    V1,
    /// Super-NaturalInstructions.
    V2,
}

/// A task: an instruction and its instances.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NiTask {
    /// Name: the file's, without its ending.
    pub name: String,
    /// Schema of the file.
    pub version: NiVersion,
    /// Categories, the first of which the task belongs to; none in version 1.
    pub categories: Vec<String>,
    /// Data sets that it was made from.
    pub sources: Vec<String>,
    /// What is to be done; the first one is used in prompts.
    pub definition: Vec<String>,
    /// Languages of the inputs; none in version 1.
    pub input_languages: Vec<String>,
    /// Languages of the outputs; none in version 1.
    pub output_languages: Vec<String>,
    /// Version 1: title.
    pub title: Option<String>,
    /// Version 1: short instruction.
    pub prompt: Option<String>,
    /// Version 1: things to avoid.
    pub avoid: Option<String>,
    /// Version 1: emphasis and caution.
    pub caution: Option<String>,
    /// Examples with right outputs.
    pub positive: Vec<NiExample>,
    /// Examples with wrong outputs.
    pub negative: Vec<NiExample>,
    /// Questions, at least one.
    pub instances: Vec<NiInstance>,
    /// Licences of the instances, as the file states them.
    pub instance_licence: Vec<String>,
}

/// An example of the instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NiExample {
    /// Input.
    pub input: String,
    /// Output, right or wrong.
    pub output: String,
    /// Why (version 1: reason).
    pub explanation: Option<String>,
    /// Version 1: how a wrong output can be made right.
    pub suggestion: Option<String>,
}

/// A question with its accepted answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NiInstance {
    /// Identifier; `task-index` in version 1.
    pub id: String,
    /// Input.
    pub input: String,
    /// Accepted outputs, at least one; may be blank.
    pub outputs: Vec<String>,
}

impl NiTask {
    /// Reads a task file of either version; one with `Examples` is of version 1.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`], naming the place, for a missing key, a wrong type,
    /// no instances, an instance without identifier (version 2) or references, and an identifier that occurs twice.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(path)?;
        let root = document.root();
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        match root.get("Examples")? {
            Some(examples) => Self::v1(name, &root, &examples),
            None => Self::v2(name, &root),
        }
    }

    fn v2(name: String, root: &Node<'_>) -> Result<Self> {
        let categories = root.need("Categories")?;
        let task = Self {
            version: NiVersion::V2,
            categories: categories.text_or_texts()?,
            sources: root.texts_of("Source")?,
            definition: definition(root)?,
            input_languages: root.texts_of("Input_language")?,
            output_languages: root.texts_of("Output_language")?,
            title: None,
            prompt: None,
            avoid: None,
            caution: None,
            positive: examples(&root.need("Positive Examples")?, "explanation")?,
            negative: match root.get("Negative Examples")? {
                Some(node) => examples(&node, "explanation")?,
                None => Vec::new(),
            },
            instances: instances(&root.need("Instances")?, None)?,
            instance_licence: root.texts_of("Instance License")?,
            name,
        };
        if task.categories.is_empty() {
            return Err(categories.error("is empty"));
        }
        Ok(task)
    }

    fn v1(name: String, root: &Node<'_>, given: &Node<'_>) -> Result<Self> {
        let part = |key: &str| root.text_of(key).map(|t| t.filter(|t| t.trim() != "-"));
        let some = |key: &str| match given.get(key)? {
            // `-` stands for no examples.
            Some(node) if node.text().is_ok_and(|t| t.trim() == "-") => Ok(Vec::new()),
            Some(node) => examples(&node, "reason"),
            None => Ok(Vec::new()),
        };
        Ok(Self {
            version: NiVersion::V1,
            categories: root.texts_of("Categories")?,
            sources: root.texts_of("Source")?,
            definition: definition(root)?,
            input_languages: Vec::new(),
            output_languages: Vec::new(),
            title: part("Title")?,
            prompt: part("Prompt")?,
            avoid: part("Things to Avoid")?,
            caution: part("Emphasis & Caution")?,
            positive: some("Positive Examples")?,
            negative: some("Negative Examples")?,
            instances: instances(&root.need("Instances")?, Some(&name))?,
            instance_licence: root.texts_of("Instance License")?,
            name,
        })
    }

    /// The category that the task belongs to; its name if it has none.
    pub fn category(&self) -> &str {
        self.categories.first().unwrap_or(&self.name)
    }

    /// The instances that the published protocol evaluates on, at most `most`: the first ones (version 2, where they are
    /// balanced by label), or those from index 60 at an even stride (version 1; all, if there are no more than 60).
    pub fn evaluation_instances(&self, most: usize) -> Vec<&NiInstance> {
        let held = match self.version {
            NiVersion::V1 if self.instances.len() > 60 => self.instances.get(60..).unwrap_or_default(),
            _ => &self.instances,
        };
        let stride = match self.version {
            NiVersion::V1 => (held.len() / most.max(1)).max(1),
            NiVersion::V2 => 1,
        };
        held.iter().step_by(stride).take(most).collect()
    }

    /// Indices of instances whose input is that of a positive example: a prompt with examples would hold their answer.
    pub fn leaks(&self) -> Vec<usize> {
        let shown: BTreeSet<&str> = self.positive.iter().map(|e| e.input.trim()).collect();
        let leaked = self.instances.iter().enumerate().filter(|(_, i)| shown.contains(i.input.trim()));
        leaked.map(|(i, _)| i).collect()
    }
}

fn definition(root: &Node<'_>) -> Result<Vec<String>> {
    let node = root.need("Definition")?;
    let texts = node.text_or_texts()?;
    if texts.is_empty() {
        return Err(node.error("is empty"));
    }
    Ok(texts)
}

fn examples(node: &Node<'_>, why: &str) -> Result<Vec<NiExample>> {
    let one = |n: Node<'_>| -> Result<NiExample> {
        let output = n.need("output")?;
        Ok(NiExample {
            input: n.need("input")?.text()?.to_owned(),
            output: output.text_or_texts()?.into_iter().next().ok_or_else(|| output.error("is empty"))?,
            explanation: n.text_of(why)?,
            suggestion: n.text_of("suggestion")?,
        })
    };
    node.items()?.into_iter().map(one).collect()
}

/// Instances; without `named` (the task's name, of which identifiers are made) each needs an identifier.
fn instances(node: &Node<'_>, named: Option<&str>) -> Result<Vec<NiInstance>> {
    let (mut instances, mut seen) = (Vec::new(), BTreeSet::new());
    for (i, n) in node.items()?.into_iter().enumerate() {
        let id = match named {
            Some(name) => n.text_of("id")?.unwrap_or_else(|| format!("{name}-{i}")),
            None => n.need("id")?.text()?.to_owned(),
        };
        if !seen.insert(id.clone()) {
            return Err(n.need("id")?.error(format!("`{id}` is there twice")));
        }
        let output = n.need("output")?;
        let outputs = output.text_or_texts()?;
        if outputs.is_empty() {
            return Err(output.error("has no reference"));
        }
        instances.push(NiInstance { id, input: n.need("input")?.text()?.to_owned(), outputs });
    }
    if instances.is_empty() {
        return Err(node.error("is empty"));
    }
    Ok(instances)
}

impl NiTask {
    /// Reads all `.json` files of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a folder without such files, and as [`NiTask::read`].
    pub fn read_folder(folder: &Path) -> Result<Vec<Self>> {
        let io = |e| mtl_core::Error::io("read", folder, e);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            let message = "has no `.json` files".into();
            return Err(Error::Format { path: folder.to_owned(), record: None, message });
        }
        files.iter().map(|f| Self::read(f)).collect()
    }
}
