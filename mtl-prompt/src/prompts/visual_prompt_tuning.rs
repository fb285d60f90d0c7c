//! Visual prompt tuning: Jia et al., *Visual Prompt Tuning*, ECCV 2022, arXiv 2203.12119.
use super::{Frame, PromptModule};
use mtl_core::{
    Error, Result, Seed, StateDict,
    nn::Init,
    registry::{self, Entry, MethodInfo},
};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: Entry<dyn PromptModule> = Entry {
    info: MethodInfo {
        name: "visual-prompt-tuning",
        paper: "Visual Prompt Tuning",
        source: "arXiv 2203.12119",
    },
    build: |config| Ok(Box::new(registry::parse::<VisualPromptTuningConfig>(config)?)),
};

/// Hyper-parameters of visual prompt tuning.
///
/// The paper sweeps 1 to 200 tokens for each data set; the default is the 5 that its released code starts from.
///
/// ```
/// use mtl_core::Seed;
/// use mtl_prompt::prompts::{Frame, PromptModule, VisualPromptTuningConfig};
///
/// let frame = Frame { layers: 12, dim: 32, patch_values: 16 };
/// let prompts = VisualPromptTuningConfig::default().tokens(8).init(&frame, Seed(0))?;
/// assert_eq!(prompts.get("vit.prompt.0").unwrap().size(), [8, 32]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VisualPromptTuningConfig {
    /// Prompt tokens per layer. At least 1.
    pub tokens: i64,
    /// Gives every layer prompts of its own (VPT-deep) instead of the first one alone (VPT-shallow).
    pub deep: bool,
}

impl Default for VisualPromptTuningConfig {
    fn default() -> Self {
        Self { tokens: 5, deep: false }
    }
}

impl VisualPromptTuningConfig {
    /// Sets [`VisualPromptTuningConfig::tokens`].
    #[must_use]
    pub fn tokens(mut self, tokens: i64) -> Self {
        self.tokens = tokens;
        self
    }

    /// Sets [`VisualPromptTuningConfig::deep`].
    #[must_use]
    pub fn deep(mut self, deep: bool) -> Self {
        self.deep = deep;
        self
    }
}

impl PromptModule for VisualPromptTuningConfig {
    fn init(&self, frame: &Frame, seed: Seed) -> Result<StateDict> {
        if self.tokens < 1 {
            return Err(Error::config("tokens", "at least 1", self.tokens));
        }
        // Xavier's bound as the paper's appendix A has it: the fan is that of the patch projection.
        let bound = (6.0 / (frame.patch_values + frame.dim) as f64).sqrt();
        let layers = if self.deep { frame.layers } else { frame.layers.min(1) };
        let layer = |i: usize| {
            let name = format!("vit.prompt.{i}");
            let tokens = Init::Uniform { bound }.tensor(seed, &name, &[self.tokens, frame.dim])?;
            Ok((name, tokens))
        };
        (0..layers).map(layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::check;

    const FRAME: Frame = Frame { layers: 3, dim: 8, patch_values: 16 };

    #[test]
    fn shallow_prompts_are_those_of_the_first_deep_layer() {
        let shallow = VisualPromptTuningConfig::default().init(&FRAME, Seed(1)).unwrap();
        let deep = VisualPromptTuningConfig::default().deep(true).init(&FRAME, Seed(1)).unwrap();
        assert_eq!(shallow.names().collect::<Vec<_>>(), ["vit.prompt.0"]);
        assert_eq!(deep.names().collect::<Vec<_>>(), ["vit.prompt.0", "vit.prompt.1", "vit.prompt.2"]);
        assert!(shallow.get("vit.prompt.0").unwrap().equal(deep.get("vit.prompt.0").unwrap()));
        assert!(!deep.get("vit.prompt.1").unwrap().equal(deep.get("vit.prompt.0").unwrap()));
    }

    #[test]
    fn prompts_start_inside_the_bound_and_not_at_zero() {
        let prompts = VisualPromptTuningConfig::default().tokens(50).init(&FRAME, Seed(2)).unwrap();
        let largest = prompts.flatten().abs().max().double_value(&[]);
        let bound = (6.0f64 / 24.0).sqrt();
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} against {bound}");
        check::finite(&prompts.flatten(), "prompts").unwrap();
    }

    #[test]
    fn a_prompt_without_tokens_is_refused() {
        let err = VisualPromptTuningConfig::default().tokens(0).init(&FRAME, Seed(0)).unwrap_err();
        insta::assert_snapshot!(err, @"`tokens` must be at least 1, but is 0");
        let err = super::super::registry().build("visual-prompt-tunning", serde_json::json!({})).unwrap_err();
        insta::assert_snapshot!(err, @"unknown method `visual-prompt-tunning`; did you mean `visual-prompt-tuning`?");
    }
}
