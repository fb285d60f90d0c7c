//! Chat templates: how a conversation becomes one text.
use super::document;
use crate::{Error, Result};
use mtl_core::registry::nearest;
use serde_json::Value;
use std::path::Path;

/// The built-in templates by name: Jinja, with `messages`, `add_generation_prompt`, `bos_token` and `eos_token`.
///
/// They give the same text whether the reader trims white space around blocks or not.
pub const CHAT_TEMPLATES: [(&str, &str); 5] = [
    ("alpaca", include_str!("templates/alpaca.jinja").trim_ascii_end()),
    ("chatml", include_str!("templates/chatml.jinja").trim_ascii_end()),
    ("exaone", include_str!("templates/exaone.jinja").trim_ascii_end()),
    ("llama3", include_str!("templates/llama3.jinja").trim_ascii_end()),
    ("mistral", include_str!("templates/mistral.jinja").trim_ascii_end()),
];

/// Characters that a literal template must have at least.
const MIN_LITERAL: usize = 20;

/// The default chat template of a model directory, `None` if it has none.
///
/// Looks into `chat_template.jinja`, `tokenizer_config.json` and `chat_template.json`, in this order.
///
/// # Errors
///
/// [`Error::Core`] when one of the files is damaged or unreadable.
pub fn chat_template_of(dir: &Path) -> Result<Option<String>> {
    let mut found = document::read_text(&dir.join("chat_template.jinja"))?;
    for name in ["tokenizer_config.json", "chat_template.json"] {
        if found.is_none() {
            let config: Value = document::read_json(&dir.join(name))?.unwrap_or_default();
            found = config.get("chat_template").and_then(default_of).map(str::to_owned);
        }
    }
    Ok(found.filter(|text| !text.trim().is_empty()))
}

/// A template, or the one called `default` of several.
fn default_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(several) => several.get("default")?.as_str(),
        Value::Array(several) => {
            several.iter().find(|entry| entry["name"] == "default")?.get("template")?.as_str()
        }
        _ => None,
    }
}

/// The template that a recipe's `chat_template` means for a merge of the models in the directories `models`.
///
/// `auto` is the most frequent one among the models, the first of equally frequent ones, `None` if no model has one.
/// Otherwise `setting` is the name of one of [`CHAT_TEMPLATES`], or a template: at least 20 characters with a `{`.
///
/// # Errors
///
/// [`Error::Recipe`] when `setting` is none of these, [`Error::Core`] when a model's file is damaged.
pub fn resolve_chat_template(setting: &str, models: &[&Path]) -> Result<Option<String>> {
    if setting == "auto" {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for dir in models {
            let Some(template) = chat_template_of(dir)? else { continue };
            let template = template.trim();
            match counts.iter_mut().find(|(text, _)| text == template) {
                Some((_, count)) => *count += 1,
                None => counts.push((template.to_owned(), 1)),
            }
        }
        let most = counts.iter().map(|&(_, count)| count).max();
        return Ok(counts.into_iter().find(|&(_, count)| Some(count) == most).map(|(text, _)| text));
    }
    if let Some((_, template)) = CHAT_TEMPLATES.iter().find(|(name, _)| *name == setting) {
        return Ok(Some((*template).to_owned()));
    }
    if setting.contains('{') && setting.chars().count() >= MIN_LITERAL {
        return Ok(Some(setting.to_owned()));
    }
    let names = CHAT_TEMPLATES.map(|(name, _)| name);
    let hint = match nearest(setting, names.into_iter().chain(["auto"])) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!(
            "expected `auto`, {}, or a template of at least {MIN_LITERAL} characters with a `{{`",
            names.map(|name| format!("`{name}`")).join(", ")
        ),
    };
    let message = format!("`{setting}` is no chat template; {hint}");
    Err(Error::Recipe { path: "chat_template".into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, ErrorKind, context, syntax::SyntaxConfig};
    use std::fs;

    /// Renders as the libraries do, or without their trimming of blocks.
    fn render(name: &str, turns: &[(&str, &str)], generate: bool) -> Result<String, minijinja::Error> {
        let template = CHAT_TEMPLATES.iter().find(|(n, _)| *n == name).unwrap().1;
        let messages: Vec<_> =
            turns.iter().map(|&(role, content)| context!(role => role, content => content)).collect();
        let mut texts = Vec::new();
        for trimming in [true, false] {
            let mut jinja = Environment::new();
            let syntax = SyntaxConfig::builder().trim_blocks(trimming).lstrip_blocks(trimming).build();
            jinja.set_syntax(syntax.unwrap());
            jinja.add_function("raise_exception", |text: String| -> Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
            });
            texts.push(jinja.render_str(
                template,
                context!(messages => &messages, add_generation_prompt => generate, bos_token => "<s>", eos_token => "</s>"),
            )?);
        }
        assert_eq!(texts[0], texts[1], "{name}");
        Ok(texts.swap_remove(0))
    }

    const TALK: [(&str, &str); 4] =
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?")];

    #[test]
    fn built_in_templates_render_the_documented_prompts() {
        for (name, expected) in [
            (
                "chatml",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
                 <|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n\
                 <|im_start|>assistant\n",
            ),
            (
                "llama3",
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            ("mistral", "<s> [INST] Be brief.\n\nHi [/INST] Hello!</s> [INST] Why? [/INST]"),
            (
                "exaone",
                "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello![|endofturn|]\n\
                 [|user|]Why?\n[|assistant|]",
            ),
            (
                "alpaca",
                "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello!\n\n### Instruction:\nWhy?\n\n\
                 ### Response:\n",
            ),
        ] {
            assert_eq!(render(name, &TALK, true).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn built_in_templates_do_without_system_message_and_prompt() {
        for (name, expected) in [
            ("chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"),
            (
                "llama3",
                "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>",
            ),
            ("mistral", "<s> [INST] Hi [/INST] Hello!</s>"),
            ("exaone", "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]Hello![|endofturn|]\n"),
            ("alpaca", "### Instruction:\nHi\n\n### Response:\nHello!"),
        ] {
            assert_eq!(render(name, &TALK[1..3], false).unwrap(), expected, "{name}");
        }
        let error = render("mistral", &TALK[2..], false).unwrap_err().to_string();
        assert!(error.contains("must alternate"), "{error}");
        let input = [("user", "Add."), ("user_context", "1 2")];
        let expected = "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n";
        assert_eq!(render("alpaca", &input, true).unwrap(), expected);
    }

    #[test]
    fn auto_takes_the_most_frequent_template_and_the_first_of_equals() {
        let root = tempfile::tempdir().unwrap();
        let model = |name: &str, file: &str, text: &str| {
            let dir = root.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(file), text).unwrap();
            dir
        };
        let a = model("a", "tokenizer_config.json", r#"{"chat_template": "A"}"#);
        let b = model("b", "chat_template.jinja", "B\n");
        let list =
            r#"{"chat_template": [{"name": "x", "template": "X"}, {"name": "default", "template": "B"}]}"#;
        let c = model("c", "tokenizer_config.json", list);
        let none = model("none", "tokenizer_config.json", "{}");
        let auto = |dirs: &[&Path]| resolve_chat_template("auto", dirs).unwrap();
        assert_eq!(auto(&[&a, &b, &none, &c]).as_deref(), Some("B"));
        assert_eq!(auto(&[&a, &b]).as_deref(), Some("A"));
        assert_eq!(auto(&[&b, &a]).as_deref(), Some("B"));
        assert_eq!(auto(&[&none]), None);
        fs::write(none.join("tokenizer_config.json"), "{").unwrap();
        assert!(resolve_chat_template("auto", &[&none]).is_err());
    }

    #[test]
    fn names_and_literals_are_told_from_mistakes() {
        let literal = "{{messages[0]['content']}}";
        assert_eq!(resolve_chat_template(literal, &[]).unwrap().as_deref(), Some(literal));
        assert!(resolve_chat_template("chatml", &[]).unwrap().unwrap().contains("<|im_start|>"));
        let error = |setting| resolve_chat_template(setting, &[]).unwrap_err().to_string();
        assert_eq!(error("chatlm"), "chat_template: `chatlm` is no chat template; did you mean `chatml`?");
        assert!(error("{{ short }}").contains("at least 20 characters with a `{`"));
        assert!(error("long enough but without any expression").contains("expected `auto`, `alpaca`"));
    }
}
