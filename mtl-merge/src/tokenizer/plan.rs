//! Which embedding rows of which models make up the merged model's vocabulary.
use super::{
    config::{TokenEmbedding, TokenizerConfig, VocabularySource},
    document,
    vocabulary::{AddedToken, MAX_TOKENS, Vocabulary},
};
use crate::{Error, Result};
use mtl_core::registry::nearest;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

/// A model's name in the recipe and its vocabulary.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelVocabulary {
    /// Model as the recipe writes it.
    pub label: String,
    /// Its tokens; `None` when it has no tokenizer, which means those of the base model.
    pub vocabulary: Option<Vocabulary>,
    /// Rows in use by its configuration (`vocab_size`): tokens with greater numbers count as absent.
    pub rows: Option<usize>,
}

impl ModelVocabulary {
    /// A model with the vocabulary given.
    pub fn new(label: impl Into<String>, vocabulary: Option<Vocabulary>, rows: Option<usize>) -> Self {
        Self { label: label.into(), vocabulary, rows }
    }

    /// Reads tokenizer and `vocab_size` of a model directory.
    ///
    /// # Errors
    ///
    /// [`Error::Core`] for a damaged or unreadable file, or a SentencePiece model without `tokenizer.json`.
    pub fn read(label: impl Into<String>, dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let config: Value = document::read_json(&path)?.unwrap_or_default();
        let size = config.get("vocab_size").or_else(|| config.get("text_config")?.get("vocab_size"));
        let rows = match size.filter(|size| !size.is_null()) {
            None => None,
            Some(size) => match size.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) if (1..=MAX_TOKENS).contains(&n) => Some(n),
                _ => {
                    let message = format!("`vocab_size` must be from 1 to {MAX_TOKENS}, but is {size}");
                    return Err(mtl_core::Error::format(path, message).into());
                }
            },
        };
        Ok(Self::new(label, Vocabulary::read(dir)?, rows))
    }
}

/// The merged model's vocabulary and how every model's embedding is re-indexed to it.
#[derive(Debug, Clone)]
pub struct VocabPlan {
    pub(super) vocabulary: Vocabulary,
    /// Rows at which the source vocabulary was cut, if tokens went.
    pub(super) stripped: Option<usize>,
    pub(super) changed: bool,
    pub(super) rows: usize,
    pub(super) ids: Vec<u32>,
    /// For every model the row of each token of `ids`.
    pub(super) own: Vec<Vec<Option<u32>>>,
    pub(super) labels: Vec<String>,
    /// For the tokens with a source: model and row (`None` is zero), and whether it is forced.
    pub(super) settings: HashMap<u32, (Option<(usize, u32)>, bool)>,
}

/// Plans the vocabulary of a merge.
///
/// `models` are all the models of the recipe, the base model (`base`) among them; `named` is the model of
/// [`VocabularySource::Model`] when it is none of them.
///
/// The order of the tokens is that of the source's numbers; a union appends the other models' tokens in the order of
/// `models` and of their numbers there, plain ones before added ones, then those of `config.tokens`.
///
/// # Departures
///
/// mergekit appends a union's plain tokens in the random order of a hash table; a plan is always the same. Where
/// mergekit stops with a failed look-up (tokens beyond `vocab_size` in the source, gaps in the numbers, a token of
/// `config.tokens` that is new to a `base` vocabulary, or without a source), such tokens are absent, such rows are
/// padding, and such a token is added.
///
/// # Errors
///
/// [`Error::Recipe`] for unknown models or tokens, [`Error::Core`] when tokens cannot be added.
pub fn plan_vocabulary(
    config: &TokenizerConfig,
    base: Option<usize>,
    models: &[ModelVocabulary],
    named: Option<&ModelVocabulary>,
) -> Result<VocabPlan> {
    config.validate()?;
    let lead = models.get(base.unwrap_or(0));
    let lead_vocabulary = lead.and_then(|lead| lead.vocabulary.as_ref()).ok_or_else(|| {
        let whose = lead.map_or("the recipe".to_owned(), |lead| format!("`{}`", lead.label));
        wrong("tokenizer", format!("{whose} has no tokenizer; expected `tokenizer.json` beside its weights"))
    })?;
    // Every model with its vocabulary and the rows that are in use.
    let resolved: Vec<_> = models.iter().map(|model| in_use(model, lead_vocabulary)).collect();
    let source = match &config.source {
        VocabularySource::Union | VocabularySource::Base => &models[base.unwrap_or(0)],
        VocabularySource::Model(label) => match named.filter(|model| model.label == *label) {
            Some(model) => model,
            None => &models[find(models, label, "tokenizer.source")?],
        },
    };
    let (vocabulary, rows) = in_use(source, lead_vocabulary);
    let mut vocabulary = vocabulary.clone();
    let stripped = vocabulary.strip(rows).then_some(rows);
    if vocabulary.is_empty() {
        return Err(wrong(
            "tokenizer.source",
            format!("`{}` has no token below its `vocab_size`", source.label),
        ));
    }
    let before: Vec<AddedToken> = vocabulary.added().cloned().collect();
    if config.source == VocabularySource::Union {
        let first = base.unwrap_or(0);
        let others = (0..resolved.len()).filter(|&model| model != first);
        unite(&mut vocabulary, std::iter::once(first).chain(others).map(|model| resolved[model]))?;
    }
    for (text, _) in &config.tokens {
        if vocabulary.id(text).is_none() {
            vocabulary.add(AddedToken::new(text, false))?;
        }
    }
    let changed = stripped.is_some() || !vocabulary.added().eq(before.iter());

    let mut settings = HashMap::new();
    for (text, token) in &config.tokens {
        let Some(id) = vocabulary.id(text) else { continue };
        if let Some(source) = &token.source {
            let path = format!("tokenizer.tokens.{text}.source");
            settings.insert(id, (resolve(source, text, &path, models, &resolved)?, token.force));
        }
    }
    let tokens = vocabulary.tokens();
    let ids: Vec<u32> = tokens.iter().map(|&(_, id)| id).collect();
    let row_of =
        |vocabulary: &Vocabulary, rows, token| vocabulary.id(token).filter(|&id| (id as usize) < rows);
    let own = resolved
        .iter()
        .map(|&(vocabulary, rows)| tokens.iter().map(|&(token, _)| row_of(vocabulary, rows, token)).collect())
        .collect();
    let named = ids.last().map_or(0, |&last| last as usize + 1);
    let rows = named.checked_next_multiple_of(config.pad_to_multiple_of.unwrap_or(1));
    let rows = rows.filter(|&rows| rows <= MAX_TOKENS).ok_or_else(|| {
        let path = "tokenizer.pad_to_multiple_of";
        wrong(path, format!("makes the embedding longer than {MAX_TOKENS} rows"))
    })?;
    let labels = models.iter().map(|model| model.label.clone()).collect();
    Ok(VocabPlan { vocabulary, stripped, changed, rows, ids, own, labels, settings })
}

/// The vocabulary of a model and the numbers below which its tokens count.
fn in_use<'a>(model: &'a ModelVocabulary, lead: &'a Vocabulary) -> (&'a Vocabulary, usize) {
    let vocabulary = model.vocabulary.as_ref().unwrap_or(lead);
    (vocabulary, model.rows.unwrap_or(vocabulary.len()))
}

/// Adds the tokens that the vocabulary lacks, plain ones first; the first model's settings of an added token hold.
fn unite<'a>(vocabulary: &mut Vocabulary, all: impl Iterator<Item = (&'a Vocabulary, usize)>) -> Result<()> {
    let (mut plain, mut added) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for (other, rows) in all {
        let live = |id: u32| (id as usize) < rows;
        for (token, id) in other.tokens() {
            if live(id) && other.added_with(id).is_none() && vocabulary.id(token).is_none() {
                plain.push(token);
            }
        }
        added.extend(other.added().filter(|t| live(t.id) && seen.insert(t.content.as_str())));
    }
    for token in plain {
        if !seen.contains(token) && vocabulary.id(token).is_none() {
            vocabulary.add(AddedToken::new(token, false))?;
        }
    }
    for token in added {
        vocabulary.add(token.clone())?;
    }
    Ok(())
}

/// Model and row that a token's source means; `None` is zero.
fn resolve(
    source: &TokenEmbedding,
    text: &str,
    path: &str,
    models: &[ModelVocabulary],
    resolved: &[(&Vocabulary, usize)],
) -> Result<Option<(usize, u32)>> {
    let (label, token) = match source {
        TokenEmbedding::Zero => return Ok(None),
        TokenEmbedding::ModelTokenId { model: label, token_id } => {
            let model = find(models, label, path)?;
            if models[model].rows.is_some_and(|rows| *token_id as usize >= rows) {
                let message = format!("`token_id` {token_id} is beyond the rows of `{label}`");
                return Err(wrong(path, message));
            }
            return Ok(Some((model, *token_id)));
        }
        TokenEmbedding::Model(label) => (label, text),
        TokenEmbedding::ModelToken { model: label, token } => (label, token.as_str()),
    };
    let model = find(models, label, path)?;
    let (vocabulary, rows) = resolved[model];
    let row = vocabulary.id(token).filter(|&id| (id as usize) < rows);
    let row = row.ok_or_else(|| wrong(path, format!("`{label}` has no token `{token}`")))?;
    Ok(Some((model, row)))
}

fn find(models: &[ModelVocabulary], label: &str, path: &str) -> Result<usize> {
    models.iter().position(|model| model.label == label).ok_or_else(|| {
        let near = nearest(label, models.iter().map(|model| model.label.as_str()));
        let hint = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        wrong(path, format!("`{label}` is no model of this recipe{hint}"))
    })
}

pub(super) fn wrong(path: &str, message: String) -> Error {
    Error::Recipe { path: path.to_owned(), message }
}

impl VocabPlan {
    /// The merged model's vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Rows of the merged embedding, padding included: the output's `vocab_size`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of the tokens in ascending order; rows with other numbers are padding.
    pub fn token_rows(&self) -> &[u32] {
        &self.ids
    }

    /// Whether any token or setting differs from the vocabulary it began as.
    pub fn changed(&self) -> bool {
        self.changed
    }

    pub(super) fn text(&self, id: u32) -> String {
        let tokens = self.vocabulary.tokens();
        tokens.into_iter().find(|&(_, i)| i == id).map(|(text, _)| text.to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::RowSource;
    use std::path::PathBuf;

    fn golden(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
    }

    fn models() -> Vec<ModelVocabulary> {
        ["a", "b"]
            .map(|name| ModelVocabulary::read(name, &golden(&format!("inputs/vocab/{name}"))).unwrap())
            .into()
    }

    #[test]
    fn tokens_beyond_vocab_size_are_absent() {
        let mut models = models();
        models[0].rows = Some(40);
        models[1].rows = Some(44);
        let plan = plan_vocabulary(&TokenizerConfig::default(), None, &models, None).unwrap();
        let ids = |text| plan.vocabulary().id(text);
        assert_eq!((ids("x11"), ids("w36"), ids("w39")), (None, Some(39), Some(40)));
        let mapping = plan.mapping(&[(0, 40), (1, 44)], None).unwrap();
        assert_eq!(mapping[0][40], RowSource::Model { model: 1, row: 3 });
        models[1].vocabulary = None;
        let plan = plan_vocabulary(&TokenizerConfig::default(), None, &models, None).unwrap();
        assert_eq!(plan.mapping(&[(1, 44)], None).unwrap()[0][39], RowSource::Own(39));
    }

    #[test]
    fn a_named_vocabulary_need_not_take_part() {
        let all = models();
        let config = TokenizerConfig::new(VocabularySource::Model("b".into()));
        let plan = plan_vocabulary(&config, Some(0), &all[..1], Some(&all[1])).unwrap();
        assert_eq!((plan.rows(), plan.changed()), (45, false));
        let mapping = plan.mapping(&[(0, 43)], Some(0)).unwrap();
        assert_eq!((&mapping[0][3], &mapping[0][33]), (&RowSource::Own(42), &RowSource::Zero));
    }

    #[test]
    fn what_does_not_fit_the_models_is_refused() {
        let plan = |config: &TokenizerConfig, models: &[ModelVocabulary]| {
            plan_vocabulary(config, Some(0), models, None).map(|plan| plan.rows()).map_err(|e| e.to_string())
        };
        let all = models();
        let named = TokenizerConfig::new(VocabularySource::Model("inputs".into()));
        assert_eq!(plan(&named, &all).unwrap_err(), "tokenizer.source: `inputs` is no model of this recipe");
        let token = |source| TokenizerConfig::default().token("w0", Some(source), false);
        let lacks = plan(&token(TokenEmbedding::Model("b".into())), &all).unwrap_err();
        assert_eq!(lacks, "tokenizer.tokens.w0.source: `b` has no token `w0`");
        let beyond = TokenEmbedding::ModelTokenId { model: "b".into(), token_id: 45 };
        assert!(plan(&token(beyond), &all).unwrap_err().contains("`token_id` 45 is beyond the rows of `b`"));
        let bare = ModelVocabulary::new("bare", None, None);
        assert!(plan(&TokenizerConfig::default(), &[bare]).unwrap_err().contains("`bare` has no tokenizer"));
        assert!(plan(&TokenizerConfig::default(), &[]).unwrap_err().contains("the recipe has no tokenizer"));
        let huge = TokenizerConfig::default().pad_to_multiple_of(usize::MAX);
        assert!(plan(&huge, &all).unwrap_err().contains("longer than 8388608 rows"));
        let plan = plan_vocabulary(&TokenizerConfig::default(), None, &all, None).unwrap();
        let short = plan.mapping(&[(0, 43), (1, 40)], None).unwrap_err().to_string();
        assert!(short.contains("in `b`, but the embedding there has 40 rows"), "{short}");
    }

    #[test]
    fn a_union_appends_new_tokens_in_their_own_order() {
        let plan = plan_vocabulary(&TokenizerConfig::default(), None, &models(), None).unwrap();
        let tokens = plan.vocabulary().tokens();
        let new: Vec<_> = tokens[43..].iter().map(|&(text, _)| text).collect();
        assert_eq!(new, ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11"]);
        assert_eq!((plan.rows(), plan.changed()), (55, true));
        let mapping = plan.mapping(&[(0, 43), (1, 45)], None).unwrap();
        assert_eq!(
            (&mapping[0][43], &mapping[1][43]),
            (&RowSource::Model { model: 1, row: 33 }, &RowSource::Own(33))
        );
        let alone = plan.mapping(&[(0, 43)], None).unwrap();
        assert_eq!((&alone[0][42], &alone[0][43]), (&RowSource::Own(42), &RowSource::Zero));
    }
}
