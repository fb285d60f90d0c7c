//! Recipes with a tokenizer section: one vocabulary for the output, and every table's rows in its order.
use super::inputs::Opened;
use crate::{
    Error, ModelRef, Recipe, Result,
    checkpoint::{Extras, TokenizerFiles},
    tokenizer::{
        ModelVocabulary, OutputFile, TokenizerConfig, VocabPlan, VocabularySource, copied_files,
        plan_vocabulary, resolve_chat_template,
    },
};
use mtl_core::files::open_regular;
use std::{collections::BTreeMap, io::Read, path::Path};

/// The tokenizer settings of the recipe, of either key.
///
/// # Errors
///
/// [`Error::Recipe`] for settings that cannot be read.
pub(crate) fn settings(recipe: &Recipe) -> Result<Option<TokenizerConfig>> {
    if let Some(source) = &recipe.tokenizer_source {
        return Ok(Some(TokenizerConfig::new(VocabularySource::from_legacy(source))));
    }
    let Some(value) = &recipe.tokenizer else { return Ok(None) };
    let config: TokenizerConfig = serde_path_to_error::deserialize(value.clone()).map_err(|e| {
        let inner = e.path().to_string();
        let path = if inner == "." { "tokenizer".to_owned() } else { format!("tokenizer.{inner}") };
        Error::Recipe { path, message: e.into_inner().to_string() }
    })?;
    config.validate()?;
    Ok(Some(config))
}

/// The vocabulary of the output, if the recipe has a tokenizer section.
///
/// # Errors
///
/// As [`settings`] and [`plan_vocabulary`].
pub(crate) fn plan(recipe: &Recipe, opened: &[Opened<'_>]) -> Result<Option<VocabPlan>> {
    let Some(config) = settings(recipe)? else { return Ok(None) };
    let read = |model: &Opened<'_>| match &model.dir {
        Some(dir) => ModelVocabulary::read(&model.name, dir),
        None => Ok(ModelVocabulary::new(&model.name, None, None)),
    };
    let models: Vec<ModelVocabulary> = opened.iter().map(read).collect::<Result<_>>()?;
    let base = recipe.base.as_ref().and_then(|base| opened.iter().position(|model| model.name == *base));
    let named = match &config.source {
        VocabularySource::Model(name) if opened.iter().all(|model| model.name != *name) => {
            let dir = ModelRef::parse(name)?.locate(Path::new(""))?;
            Some(ModelVocabulary::read(name, &dir)?)
        }
        _ => None,
    };
    plan_vocabulary(&config, base, &models, named.as_ref()).map(Some)
}

/// What goes beside the tensors: the tokenizer's files where the recipe has a say in them.
///
/// # Errors
///
/// [`Error::Recipe`] for an unknown chat template, [`Error::Core`] for files that are damaged.
pub(crate) fn extras(
    extras: &Extras,
    recipe: &Recipe,
    opened: &[Opened<'_>],
    vocabulary: Option<&VocabPlan>,
) -> Result<Extras> {
    let dirs: Vec<&Path> = opened.iter().filter_map(|model| model.dir.as_deref()).collect();
    let template = match &recipe.chat_template {
        Some(setting) => resolve_chat_template(setting, &dirs)?,
        None => None,
    };
    let files = match (vocabulary, dirs.first()) {
        (Some(vocabulary), _) => vocabulary.files(template.as_deref())?,
        (None, Some(donor)) if template.is_some() => copied_files(donor, template.as_deref())?,
        _ => return Ok(extras.clone()),
    };
    let mut given = BTreeMap::new();
    for file in files {
        let name = file.name().to_owned();
        let bytes = match file {
            OutputFile::Write { bytes, .. } => bytes,
            OutputFile::Copy { from, .. } => {
                let mut bytes = Vec::new();
                let read = open_regular(&from)?.read_to_end(&mut bytes);
                read.map_err(|source| mtl_core::Error::io("read", &from, source))?;
                bytes
            }
        };
        given.insert(name, bytes);
    }
    let vocab_size = vocabulary.map(VocabPlan::rows);
    Ok(Extras { tokenizer: TokenizerFiles::Given { files: given, vocab_size }, ..extras.clone() })
}
