//! Which tensors belong to which layer, read off their names.
use std::{collections::BTreeMap, ops::Range};

/// Runs of layers in a checkpoint: names of the form `prefix` + number + `.` + suffix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Runs whose prefix does not lie inside another's, longest first.
    pub(crate) stacks: Vec<Stack>,
}

/// One run of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Name before the number, such as `model.layers.`.
    pub(crate) prefix: String,
    /// Numbers are 0 to this, exclusive.
    pub(crate) layers: usize,
}

/// The part a tensor plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role<'n> {
    /// Belongs to no layer and comes before them: embeddings.
    Before,
    /// Belongs to layer `index` of stack number `stack`.
    Layer { stack: usize, index: usize, suffix: &'n str },
    /// Belongs to no layer and comes after them: the last norm, the head.
    After,
}

/// Parts of names that mark tensors as coming before the layers.
const EARLY: [&str; 9] =
    ["embed", "wte", "wpe", "word_embeddings", "position", "patch", "cls_token", "shared.weight", "stem"];

impl Layout {
    pub(crate) fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut found: BTreeMap<&str, (Vec<usize>, usize)> = BTreeMap::new();
        for name in names {
            for (prefix, index, _) in numbers(name) {
                let (indices, tensors) = found.entry(prefix).or_default();
                indices.push(index);
                *tensors += 1;
            }
        }
        let mut stacks: Vec<(Stack, usize)> = Vec::new();
        for (prefix, (mut indices, tensors)) in found {
            indices.sort_unstable();
            indices.dedup();
            let contiguous = indices.iter().enumerate().all(|(i, &index)| i == index);
            // Names are sorted: an outer prefix comes before those inside it.
            let inside = stacks.iter().any(|(outer, _)| prefix.starts_with(&outer.prefix));
            if contiguous && !inside {
                stacks.push((Stack { prefix: prefix.to_owned(), layers: indices.len() }, tensors));
            }
        }
        stacks.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.prefix.cmp(&b.prefix)));
        Self { stacks: stacks.into_iter().map(|(stack, _)| stack).collect() }
    }

    pub(crate) fn role<'n>(&self, name: &'n str) -> Role<'n> {
        for (stack, Stack { prefix, layers }) in self.stacks.iter().enumerate() {
            if let Some((_, index, suffix)) =
                numbers(name).find(|(p, index, _)| p == prefix && index < layers)
            {
                return Role::Layer { stack, index, suffix };
            }
        }
        // The head of a model may be called `embed_out`.
        let early = EARLY.iter().any(|part| name.contains(part)) && !name.contains("embed_out");
        if early { Role::Before } else { Role::After }
    }
}

impl Stack {
    /// Name of the tensor `suffix` in layer `index`.
    pub(crate) fn name(&self, index: usize, suffix: &str) -> String {
        if suffix.is_empty() {
            format!("{}{index}", self.prefix)
        } else {
            format!("{}{index}.{suffix}", self.prefix)
        }
    }

    pub(crate) fn all(&self) -> Range<usize> {
        0..self.layers
    }
}

/// Every number among the components of a name, with what is before and behind it.
fn numbers(name: &str) -> impl Iterator<Item = (&str, usize, &str)> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    starts.filter_map(move |start| {
        let rest = &name[start..];
        let (number, suffix) = rest.split_once('.').unwrap_or((rest, ""));
        let plain = !number.is_empty() && number.len() < 7 && number.bytes().all(|b| b.is_ascii_digit());
        let canonical = plain && (number == "0" || !number.starts_with('0'));
        (canonical && start > 0).then(|| Some((&name[..start], number.parse().ok()?, suffix)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_and_experts_inside_them_are_not() {
        let names: Vec<String> = (0..3)
            .flat_map(|l| (0..8).map(move |e| format!("model.layers.{l}.moe.experts.{e}.w1.weight")))
            .chain(["model.embed_tokens.weight".into(), "model.norm.weight".into(), "lm_head.weight".into()])
            .collect();
        let layout = Layout::of(names.iter().map(String::as_str));
        assert_eq!(layout.stacks, [Stack { prefix: "model.layers.".into(), layers: 3 }]);
        let role = layout.role("model.layers.2.moe.experts.7.w1.weight");
        assert_eq!(role, Role::Layer { stack: 0, index: 2, suffix: "moe.experts.7.w1.weight" });
        assert_eq!(layout.stacks[0].name(2, "moe.experts.7.w1.weight"), names[23]);
        assert_eq!(layout.role("model.embed_tokens.weight"), Role::Before);
        assert_eq!(layout.role("lm_head.weight"), Role::After);
    }

    #[test]
    fn encoder_and_decoder_are_two_stacks() {
        let names = ["encoder.block.0.w", "encoder.block.1.w", "decoder.block.0.w", "shared.weight"];
        let layout = Layout::of(names);
        assert_eq!(layout.stacks.len(), 2);
        assert_eq!(layout.stacks[0].prefix, "encoder.block.");
        assert_eq!(layout.role("shared.weight"), Role::Before);
    }

    #[test]
    fn numbers_with_gaps_or_leading_zeros_are_no_layers() {
        let layout = Layout::of(["net.0.weight", "net.2.weight", "blocks.00.w", "w"]);
        assert_eq!(layout.stacks, []);
    }
}
