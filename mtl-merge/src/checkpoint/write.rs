//! Puts everything but the tensors into the folder of a merged checkpoint.
use super::{
    Extras, Stacked, TokenizerFiles,
    card::card,
    config::{CONFIG, Changes},
};
use crate::{
    Recipe, Result,
    engine::{
        layout::Role,
        plan::{Plan, Planned, is_head, is_table},
    },
};
use mtl_core::files::write_atomic;
use std::path::Path;

/// Name of the recipe in the folder; tools look for it under this one.
const RECIPE: &str = "mergekit_config.yml";

/// Writes configuration, tokenizer, recipe and card into `dir`, which will be called `title`.
///
/// # Errors
///
/// [`crate::Error::Core`] for files that cannot be read or written.
pub(crate) fn write(
    plan: &Plan<'_>,
    recipe: &Recipe,
    extras: &Extras,
    title: &str,
    dir: &Path,
) -> Result<()> {
    // The base comes first, then the models in the recipe's order.
    let donor = plan.opened.iter().position(|o| o.config.is_some());
    if let Some(donor) = donor
        && let Some(config) = &plan.opened[donor].config
    {
        let changes = changes(plan, recipe, extras, donor);
        let entries = config.changed(&changes, &|text| plan.warnings.add(text));
        let mut text = serde_json::to_string_pretty(&entries).unwrap_or_default();
        text.push('\n');
        write_atomic(&dir.join(CONFIG), |out| out.write_all(text.as_bytes()))?;
    }
    let donor = donor.or_else(|| plan.opened.iter().position(|o| o.dir.is_some()));
    extras.write(donor.and_then(|donor| plan.opened[donor].dir.as_deref()), dir)?;
    let text = match &extras.recipe {
        Some(text) => text.clone(),
        // JSON is YAML.
        None => serde_json::to_string_pretty(recipe).unwrap_or_default() + "\n",
    };
    write_atomic(&dir.join(RECIPE), |out| out.write_all(text.as_bytes()))?;
    if extras.card {
        let models: Vec<&str> = plan.opened.iter().map(|o| o.name.as_str()).collect();
        let card = card(title, recipe, plan.method.spec(), &models, &text);
        write_atomic(&dir.join("README.md"), |out| out.write_all(card.as_bytes()))?;
    }
    Ok(())
}

/// What differs from the configuration of the checkpoint number `donor`.
fn changes<'p>(plan: &'p Plan<'_>, recipe: &Recipe, extras: &Extras, donor: usize) -> Changes<'p> {
    let source = &plan.opened[donor].source;
    // Embedding tables of other lengths than the checkpoint's.
    let cut = plan.tensors.iter().filter(|t| is_table(&t.name)).find_map(|table| {
        let before = source.tensors()[source.find(&table.name)?].shape.first()?;
        table.shape.first().filter(|rows| *rows != before).copied()
    });
    let given = match &extras.tokenizer {
        TokenizerFiles::Given { vocab_size, .. } => *vocab_size,
        _ => None,
    };
    let own_head =
        |t: &&Planned| is_head(&t.name) && Plan::inputs(t).iter().any(|input| !plan.opened[input.model].tied);
    let untied = plan.opened[donor].tied && plan.tensors.iter().any(|t| own_head(&t));
    Changes {
        stacks: stacks(plan, donor),
        dtype: recipe.out_dtype.or(recipe.dtype),
        vocab_size: given.or(cut),
        untied,
    }
}

/// The runs of layers of the output, with the layers they come from.
fn stacks<'p>(plan: &'p Plan<'_>, donor: usize) -> Vec<Stacked<'p>> {
    let layout = &plan.opened[donor].layout;
    let mut stacks = Vec::new();
    for (prefix, &after) in &plan.layers {
        let Some(stack) = layout.stacks.iter().find(|s| s.prefix == *prefix) else { continue };
        let mut sources = vec![None; after];
        for planned in plan.tensors.iter().filter(|t| t.name.starts_with(prefix.as_str())) {
            let number = planned.name[prefix.len()..].split('.').next().and_then(|n| n.parse::<usize>().ok());
            let Some(slot) = number.and_then(|n| sources.get_mut(n)) else { continue };
            if slot.is_none() {
                *slot = layer_source(plan, planned);
            }
        }
        stacks.push(Stacked { prefix: prefix.clone(), before: stack.layers, sources });
    }
    stacks
}

/// The layer that a tensor comes from in the first of its inputs.
fn layer_source<'p>(plan: &'p Plan<'_>, planned: &Planned) -> Option<super::LayerSource<'p>> {
    let input = *Plan::inputs(planned).first()?;
    let opened = &plan.opened[input.model];
    match opened.layout.role(&opened.source.tensors()[input.tensor].name) {
        Role::Layer { index, .. } => Some((opened.config.as_ref()?, index)),
        _ => None,
    }
}
