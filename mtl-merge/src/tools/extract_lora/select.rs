//! Which modules a checkpoint has, read off its tensors, and what becomes of each in an adapter.
use super::ExtractLora;
use crate::{
    Error, Result,
    engine::{
        layout::{Layout, Role},
        source::Source,
    },
};
use regex_lite::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// What a module's weight is, as far as it matters for adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Linear,
    /// Rows are looked up: PEFT's factors are transposed.
    Embedding,
    /// The linear map to the vocabulary.
    Head,
    /// Norms, convolutions, lone parameters.
    Other,
}

/// A module to be put into the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) module: String,
    pub(super) form: Form,
    /// Whether it is an embedding or the output head.
    pub(super) vocabulary: bool,
    /// Positions of the weight in the fine-tuned model and in the base.
    pub(super) weight: Option<(usize, usize)>,
    /// Positions of the bias.
    pub(super) bias: Option<(usize, usize)>,
}

/// How a module is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Two factors; those of embeddings are named and laid out differently.
    Factors { embedding: bool },
    /// As it is in the fine-tuned model.
    Whole,
}

/// The outcome of the selection.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) chosen: Vec<Chosen>,
    /// Modules left out by the patterns, or because they cannot be decomposed.
    pub(super) skipped: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Compiled patterns: a module passes when one of the first kind, if there is any, and none of the second is found.
struct Patterns {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
}

impl Patterns {
    fn new(options: &ExtractLora) -> Result<Self> {
        let compile = |field: &str, patterns: &[String]| -> Result<Vec<Regex>> {
            let compiled = patterns.iter().map(|pattern| {
                Regex::new(pattern).map_err(|e| {
                    mtl_core::Error::config(field, format!("a regular expression ({e})"), pattern).into()
                })
            });
            compiled.collect()
        };
        Ok(Self {
            include: compile("include", &options.include)?,
            exclude: compile("exclude", &options.exclude)?,
        })
    }

    fn pass(&self, module: &str) -> bool {
        let any = |patterns: &[Regex]| patterns.iter().any(|p| p.is_match(module));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Decides about every module of the fine-tuned model.
pub(super) fn select(options: &ExtractLora, base: &dyn Source, tuned: &dyn Source) -> Result<Selection> {
    let patterns = Patterns::new(options)?;
    let layout = Layout::of(tuned.tensors().iter().map(|t| t.name.as_str()));
    let mut modules: BTreeMap<&str, (Option<usize>, Option<usize>)> = BTreeMap::new();
    let mut selection = Selection::default();
    for (at, tensor) in tuned.tensors().iter().enumerate() {
        if let Some(module) = tensor.name.strip_suffix(".weight") {
            modules.entry(module).or_default().0 = Some(at);
        } else if let Some(module) = tensor.name.strip_suffix(".bias") {
            modules.entry(module).or_default().1 = Some(at);
        } else if patterns.pass(&tensor.name) {
            selection.loose(base, tuned, at)?;
        }
    }
    let vocabularies: BTreeSet<usize> = modules
        .iter()
        .filter(|(module, (weight, _))| weight.is_some() && is_embedding(module))
        .filter_map(|(_, (weight, _))| tuned.tensors()[(*weight)?].shape.first().copied())
        .collect();
    let mut missing = Vec::new();
    for (module, (weight, bias)) in modules {
        let class =
            class(module, weight.map(|at| tuned.tensors()[at].shape.as_slice()), &layout, &vocabularies);
        let last = module.rsplit('.').next().unwrap_or(module);
        let forced = options.save_modules.iter().any(|name| name == module || name == last);
        if !forced && (!patterns.pass(module) || class == Class::Other && options.skip_undecomposable) {
            selection.skipped.push(module.to_owned());
            continue;
        }
        let mut pair = |at: Option<usize>| -> Option<(usize, usize)> {
            let name = &tuned.tensors()[at?].name;
            let found = base.find(name);
            if found.is_none() {
                missing.push(format!("`{name}` is not in the base"));
            }
            Some((at?, found?))
        };
        let (weight, bias) = (pair(weight), pair(bias));
        let same_shape = |pair: &Option<(usize, usize)>| {
            pair.is_none_or(|(t, b)| tuned.tensors()[t].shape == base.tensors()[b].shape)
        };
        let fits = same_shape(&weight) && same_shape(&bias);
        let vocabulary = matches!(class, Class::Embedding | Class::Head);
        if !fits && vocabulary {
            selection.warnings.push(format!(
                "`{module}` has another size than in the base and is saved whole; enlarge the base's vocabulary before the adapter is loaded"
            ));
        } else if !fits {
            missing.push(format!("`{module}` has another shape than in the base"));
        }
        let whole = forced || !fits || class == Class::Other || vocabulary && !options.embed_lora;
        let form = if whole { Form::Whole } else { Form::Factors { embedding: class == Class::Embedding } };
        selection.chosen.push(Chosen { module: module.to_owned(), form, vocabulary, weight, bias });
    }
    if !missing.is_empty() {
        let more = missing.len().saturating_sub(10);
        missing.truncate(10);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let differences = format!("{}{more} (`exclude` leaves modules out)", missing.join("; "));
        return Err(Error::Mismatch { differences });
    }
    for tensor in base.tensors() {
        if tuned.find(&tensor.name).is_none() && patterns.pass(&tensor.name) {
            let text = format!("`{}` is only in the base; the adapter leaves it as it is", tensor.name);
            selection.warnings.push(text);
        }
    }
    Ok(selection)
}

impl Selection {
    /// A tensor that is neither weight nor bias of a module: no adapter can change it.
    fn loose(&mut self, base: &dyn Source, tuned: &dyn Source, at: usize) -> Result<()> {
        let name = &tuned.tensors()[at].name;
        let same = base.find(name).map(|b| Ok::<_, Error>(base.bytes(b)? == tuned.bytes(at)?));
        if same.transpose()? != Some(true) {
            self.warnings.push(format!(
                "`{name}` differs, but belongs to no module with a weight: an adapter cannot carry it"
            ));
        }
        Ok(())
    }
}

fn is_embedding(module: &str) -> bool {
    let last = module.rsplit('.').next().unwrap_or(module);
    matches!(last, "wte" | "wpe" | "shared")
        || last.contains("embed") && last != "embed_out" && !last.contains("proj")
}

fn class(module: &str, shape: Option<&[usize]>, layout: &Layout, vocabularies: &BTreeSet<usize>) -> Class {
    let Some(&[rows, _]) = shape else { return Class::Other };
    let last = module.rsplit('.').next().unwrap_or(module);
    let in_layer = matches!(layout.role(module), Role::Layer { .. });
    match () {
        () if is_embedding(module) => Class::Embedding,
        () if matches!(last, "lm_head" | "embed_out") => Class::Head,
        () if !in_layer && vocabularies.contains(&rows) => Class::Head,
        () => Class::Linear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, TensorMap, engine::source::MapSource};

    fn model(tensors: &[(&str, &[usize])]) -> TensorMap {
        let tensor =
            |shape: &[usize]| HostTensor::new(shape.to_vec(), vec![1.0; shape.iter().product()]).unwrap();
        tensors.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect()
    }

    const LLAMA: [(&str, &[usize]); 6] = [
        ("model.embed_tokens.weight", &[9, 4]),
        ("model.layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("model.layers.0.self_attn.q_proj.bias", &[4]),
        ("model.layers.0.input_layernorm.weight", &[4]),
        ("model.norm.weight", &[4]),
        ("lm_head.weight", &[9, 4]),
    ];

    fn forms(options: &ExtractLora) -> Vec<(String, Form)> {
        let map = model(&LLAMA);
        let source = MapSource::new("m", &map);
        let selection = select(options, &source, &source).unwrap();
        selection.chosen.into_iter().map(|c| (c.module, c.form)).collect()
    }

    #[test]
    fn linear_modules_are_factored_and_the_rest_is_saved_whole() {
        let factors = Form::Factors { embedding: false };
        let expected = [
            ("lm_head", Form::Whole),
            ("model.embed_tokens", Form::Whole),
            ("model.layers.0.input_layernorm", Form::Whole),
            ("model.layers.0.self_attn.q_proj", factors),
            ("model.norm", Form::Whole),
        ];
        assert_eq!(forms(&ExtractLora::default()), expected.map(|(m, f)| (m.to_owned(), f)));
        let all = forms(&ExtractLora::default().embed_lora(true).skip_undecomposable(true));
        let expected = [
            ("lm_head", factors),
            ("model.embed_tokens", Form::Factors { embedding: true }),
            ("model.layers.0.self_attn.q_proj", factors),
        ];
        assert_eq!(all, expected.map(|(m, f)| (m.to_owned(), f)));
    }

    #[test]
    fn patterns_choose_modules_and_named_ones_are_kept_whole() {
        let some = forms(&ExtractLora::default().include("q_proj$").exclude("layers\\.1"));
        assert_eq!(some.len(), 1);
        let saved = forms(&ExtractLora::default().include("nothing").save_module("q_proj"));
        assert_eq!(saved, [("model.layers.0.self_attn.q_proj".to_owned(), Form::Whole)]);
        let map = model(&LLAMA);
        let source = MapSource::new("m", &map);
        let error = select(&ExtractLora::default().include("("), &source, &source).unwrap_err();
        assert!(error.to_string().contains("`include` must be a regular expression"), "{error}");
    }

    #[test]
    fn models_that_do_not_correspond_are_refused_and_vocabularies_may_grow() {
        let tuned = model(&LLAMA);
        let mut base = tuned.clone();
        base.remove("model.layers.0.self_attn.q_proj.bias");
        base.insert("model.norm.weight".into(), HostTensor::vector(vec![1.0; 5]));
        let (b, t) = (MapSource::new("b", &base), MapSource::new("t", &tuned));
        let error = select(&ExtractLora::default(), &b, &t).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"the checkpoints do not fit together: `model.layers.0.self_attn.q_proj.bias` is not in the base; `model.norm` has another shape than in the base (`exclude` leaves modules out)");

        let mut base = tuned.clone();
        base.insert("lm_head.weight".into(), HostTensor::new(vec![8, 4], vec![0.0; 32]).unwrap());
        let selection =
            select(&ExtractLora::default().embed_lora(true), &MapSource::new("b", &base), &t).unwrap();
        assert_eq!((selection.chosen[0].form, selection.warnings.len()), (Form::Whole, 1));
    }
}
