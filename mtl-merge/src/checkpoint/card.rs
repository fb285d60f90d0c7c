//! The model card of a merged checkpoint.
use crate::{MethodSpec, Recipe};

/// Text of the card.
///
/// ```text
/// # Merged model
/// …
/// ```
pub(super) fn card(title: &str, recipe: &Recipe, spec: &MethodSpec, models: &[&str], text: &str) -> String {
    let info = spec.info;
    let mut card = String::from("---\nlibrary_name: transformers\ntags:\n- merge\n- mtl-merge\n---\n");
    card += &format!("# {}\n\n", plain(title));
    card +=
        "The weights of this model are a combination of the weights of other models; nothing was trained.\n";
    card += &format!(
        "They were merged by mtl-merge {} with the method `{}`",
        env!("CARGO_PKG_VERSION"),
        info.name
    );
    card += &match (info.paper, info.source) {
        ("none", _) => ".\n".to_owned(),
        (paper, "none") => format!(" ({paper}).\n"),
        (paper, source) => format!(" ({paper}, {source}).\n"),
    };
    if let Some(base) = &recipe.base {
        card += &format!("\n## Base model\n\n- {}\n", code(base));
    }
    card += "\n## Merged models\n\n";
    for model in models.iter().filter(|model| recipe.base.as_deref() != Some(**model)) {
        card += &format!("- {}\n", code(model));
    }
    card += "\n## Recipe\n\nRunning `mtl-merge` with this recipe on the same models gives the same bytes again.\n\n";
    let fence = fence(text);
    card += &format!("{fence}yaml\n{}\n{fence}\n", text.trim_end());
    card
}

/// A text without line breaks.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A text as code, whatever backticks it has.
fn code(text: &str) -> String {
    let (text, fence) = (plain(text), "`".repeat(longest(text, '`') + 1));
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A fence that no line of the text closes.
fn fence(text: &str) -> String {
    "`".repeat(longest(text, '`').max(2) + 1)
}

/// Length of the longest run of `mark`.
fn longest(text: &str, mark: char) -> usize {
    text.split(|c| c != mark).map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_recipes_cannot_break_out_of_their_code() {
        assert_eq!(code("a/b"), "`a/b`");
        assert_eq!(code("a`b\nc"), "``a`bc``");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(fence("x: ```"), "````");
    }

    #[test]
    fn the_card_names_method_models_and_recipe() {
        static SPEC: MethodSpec = MethodSpec::new("linear", "Model soups", "arXiv 2203.05482");
        let recipe = Recipe::new("linear").base("base").model("a", 1.0);
        insta::assert_snapshot!(card("merged", &recipe, &SPEC, &["base", "a"], "merge_method: linear\n"), @r#"
        ---
        library_name: transformers
        tags:
        - merge
        - mtl-merge
        ---
        # merged

        The weights of this model are a combination of the weights of other models; nothing was trained.
        They were merged by mtl-merge 0.1.0 with the method `linear` (Model soups, arXiv 2203.05482).

        ## Base model

        - `base`

        ## Merged models

        - `a`

        ## Recipe

        Running `mtl-merge` with this recipe on the same models gives the same bytes again.

        ```yaml
        merge_method: linear
        ```
        "#);
    }
}
