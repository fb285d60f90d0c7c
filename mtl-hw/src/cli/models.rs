//! Models by name with options: `vit-small:384,classes=10`.
use crate::graph::{BertSpec, DecoderSpec, ModelGraph, MoeSpec, Part, ResNetSpec, VitHead, VitSpec};
use crate::{HwError, Result, text};
use std::collections::BTreeMap;

/// Names of all models.
const NAMES: [&str; 19] = [
    "vit-tiny",
    "vit-small",
    "vit-base",
    "vit-small-12h",
    "deit-tiny",
    "deit-small",
    "deit-base",
    "deit-tiny-distilled",
    "deit-small-distilled",
    "deit-base-distilled",
    "m3vit-tiny",
    "m3vit-small",
    "resnet-18",
    "resnet-34",
    "resnet-50",
    "resnet-101",
    "resnet-152",
    "bert-base",
    "bert-large",
];
const DECODER: &str = "mixtral-8x7b";

/// Options behind the colon.
#[derive(Debug, Default)]
struct Options<'a> {
    /// A number or `height x width`, without a key.
    size: Option<[u32; 2]>,
    square: bool,
    keys: BTreeMap<&'a str, u32>,
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let mut options = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let number = |field: &str, value: &str| {
                let bad = || {
                    HwError::config(format!("model option {field}"), "a whole number", format!("`{value}`"))
                };
                value.parse::<u32>().map_err(|_| bad())
            };
            if let Some((key, value)) = part.split_once('=') {
                if options.keys.insert(key, number(key, value)?).is_some() {
                    return Err(HwError::config(format!("model option {key}"), "given once", "repeated"));
                }
                continue;
            }
            if options.size.is_some() {
                return Err(HwError::config("model option", "one size, and key=N", format!("`{part}`")));
            }
            let (height, width) = part.split_once('x').unwrap_or((part, part));
            options.square = !part.contains('x');
            options.size = Some([number("size", height)?, number("size", width)?]);
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &mut u32) {
        if let Some(given) = self.keys.remove(key) {
            *value = given;
        }
    }

    fn tokens(&mut self, default: u32) -> Result<u32> {
        match self.size.take() {
            None => Ok(default),
            Some([n, _]) if self.square => Ok(n),
            Some([a, b]) => Err(HwError::config("model option tokens", "one number", format!("{a}x{b}"))),
        }
    }

    /// Refuses what nothing took.
    fn finish(&self, model: &str) -> Result<()> {
        match self.keys.keys().next() {
            Some(key) => {
                Err(HwError::config("model option", format!("one that {model} has"), format!("`{key}`")))
            }
            None => Ok(()),
        }
    }
}

/// Builds a model by name.
pub(crate) fn by_name(text: &str) -> Result<ModelGraph> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    let name = name.to_lowercase();
    let mut options = Options::parse(options)?;
    let mut graph = match name.as_str() {
        "bert-base" | "bert-large" => {
            let tokens = options.tokens(128)?;
            let spec = if name == "bert-base" { BertSpec::base(tokens) } else { BertSpec::large(tokens) };
            options.finish(&name)?;
            spec.graph()?
        }
        DECODER => {
            let mut spec = DecoderSpec::mixtral();
            spec.tokens = options.tokens(spec.tokens)?;
            options.set("past", &mut spec.past);
            options.finish(&name)?;
            spec.graph()?
        }
        _ if name.starts_with("resnet") => resnet(&name, &mut options)?,
        _ => vit(&name, &mut options)?,
    };
    // The size belongs to the name: it is what tells two rows of a comparison apart.
    if text.contains(':') {
        graph.name = format!("{}:{}", graph.name, text.split_once(':').map_or("", |(_, o)| o));
    }
    Ok(graph)
}

fn resnet(name: &str, options: &mut Options<'_>) -> Result<ModelGraph> {
    let mut spec = match name.trim_start_matches("resnet").trim_start_matches('-') {
        "18" => ResNetSpec::resnet18(),
        "34" => ResNetSpec::resnet34(),
        "50" => ResNetSpec::resnet50(),
        "101" => ResNetSpec::resnet101(),
        "152" => ResNetSpec::resnet152(),
        _ => return Err(unknown(name)),
    };
    if let Some(size) = options.size.take() {
        spec.image = size;
    }
    if let Some(classes) = options.keys.remove("classes") {
        spec.heads_out = vec![VitHead::shared(classes)];
    }
    options.finish(name)?;
    spec.graph()
}

fn vit(name: &str, options: &mut Options<'_>) -> Result<ModelGraph> {
    let encoder = |spec: VitSpec, image: [u32; 2], top_k: Option<u32>| VitSpec {
        name: name.to_owned(),
        image,
        heads_out: Vec::new(),
        moe: top_k.map(|top_k| MoeSpec { top_k, gates: 2, ..MoeSpec::default() }),
        ..spec
    };
    let twelve = || VitSpec { heads: 12, ..VitSpec::small() };
    let mut spec = match name {
        "vit-tiny" | "deit-tiny" => VitSpec::tiny(),
        "vit-small" | "deit-small" => VitSpec::small(),
        "vit-base" | "deit-base" => VitSpec::base(),
        "deit-tiny-distilled" => VitSpec::deit_tiny_distilled(),
        "deit-small-distilled" => VitSpec::deit_small_distilled(),
        "deit-base-distilled" => VitSpec::deit_base_distilled(),
        "vit-small-12h" => encoder(twelve(), [512, 512], None),
        "m3vit-small" => encoder(twelve(), [512, 512], Some(4)),
        "m3vit-tiny" => encoder(VitSpec::tiny(), [128, 256], Some(2)),
        _ => return Err(unknown(name)),
    };
    spec.name = name.to_owned();
    if let Some(size) = options.size.take() {
        spec.image = size;
    }
    for (key, value) in [
        ("patch", &mut spec.patch),
        ("dim", &mut spec.dim),
        ("depth", &mut spec.depth),
        ("heads", &mut spec.heads),
        ("mlp", &mut spec.mlp_hidden),
    ] {
        options.set(key, value);
    }
    if let Some(classes) = options.keys.remove("classes") {
        spec.heads_out = vec![VitHead::shared(classes)];
    }
    if options.keys.contains_key("experts") || spec.moe.is_some() {
        let mut moe = spec.moe.take().unwrap_or_default();
        options.set("experts", &mut moe.experts);
        options.set("top_k", &mut moe.top_k);
        options.set("hidden", &mut moe.hidden);
        options.set("gates", &mut moe.gates);
        spec.moe = Some(moe);
    }
    options.finish(name)?;
    let mut graph = spec.graph()?;
    if name == "m3vit-tiny" {
        // Edge-MoE computes the last norm on the host.
        graph.nodes.retain(|n| n.part != Part::Head);
    }
    Ok(graph)
}

fn unknown(name: &str) -> HwError {
    let known: Vec<&str> = NAMES.into_iter().chain([DECODER]).collect();
    text::unknown("model", name, &known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn every_name_is_a_model() {
        for name in NAMES.into_iter().chain([DECODER]) {
            by_name(name).unwrap().validate().unwrap();
        }
        assert_eq!(by_name("resnet18").unwrap(), by_name("ResNet-18").unwrap());
    }

    #[test]
    fn models_of_papers_are_those_of_the_presets() {
        let same = |ours: ModelGraph, theirs: ModelGraph| assert_eq!(ours.nodes, theirs.nodes);
        same(by_name("m3vit-small:480x640").unwrap(), presets::m3vit_small(480, 640).unwrap());
        same(by_name("vit-small-12h").unwrap(), presets::vit_small_dense(512, 512).unwrap());
        same(by_name("m3vit-tiny").unwrap(), presets::m3vit_tiny_cityscapes().unwrap());
    }

    #[test]
    fn options_are_taken_or_refused() {
        let graph = by_name("vit-tiny:32,patch=4,experts=8,top_k=1,classes=10").unwrap();
        assert_eq!(graph.moe_layers().next().unwrap().1.experts, 8);
        assert_eq!(graph.name, "vit-tiny:32,patch=4,experts=8,top_k=1,classes=10");
        let error = |text: &str| by_name(text).unwrap_err().to_string();
        insta::assert_snapshot!(error("vit-smal"), @"unknown model `vit-smal`; did you mean `vit-small`?");
        insta::assert_snapshot!(error("vit-small:top_k=1"), @"`model option` must be one that vit-small has, but is `top_k`");
        insta::assert_snapshot!(error("vit-small:x"), @"`model option size` must be a whole number, but is ``");
        insta::assert_snapshot!(error("bert-base:32x32"), @"`model option tokens` must be one number, but is 32x32");
    }
}
