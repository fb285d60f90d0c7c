//! Conversations with a system, and verdicts on its responses.
use super::{Builder, Conversation, Judged, Report, TextContext, Verifier};
use crate::system::{Message, Request, Role, System};
use crate::{Error, Result};

/// How to ask and judge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Most tokens of an answer; published runs use 1 024 to 4 096.
    pub max_new_tokens: Option<u32>,
    /// Builds the verifiers.
    pub builder: Builder,
    /// What the verifiers use.
    pub context: TextContext<'a>,
}

/// Whether the response follows each instruction as it is.
pub fn strict(verifiers: &[Box<dyn Verifier>], response: &str, context: &TextContext<'_>) -> Vec<bool> {
    verifiers.iter().map(|v| v.check(response, context)).collect()
}

/// Whether one of 8 variants of the response follows each instruction: without its first line, its last line, both or
/// neither, each with and without its asterisks.
///
/// ```
/// use mtl_bench::formats::if_eval::{TextContext, build, loose, strict};
///
/// let kwargs = serde_json::json!({"end_phrase": "bye"});
/// let verifiers = [build("startend:end_checker", kwargs.as_object().expect("an object"))?];
/// let (response, context) = ("See you. *Bye*", TextContext::default());
/// assert_eq!(strict(&verifiers, response, &context), [false]);
/// assert_eq!(loose(&verifiers, response, &context), [true]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
pub fn loose(verifiers: &[Box<dyn Verifier>], response: &str, context: &TextContext<'_>) -> Vec<bool> {
    let variants = variants(response);
    let one = |v: &dyn Verifier| variants.iter().any(|text| v.check(text, context));
    verifiers.iter().map(|v| one(v.as_ref())).collect()
}

/// The variants that are not blank.
fn variants(response: &str) -> Vec<String> {
    let after_first = response.split_once('\n').map_or("", |(_, rest)| rest);
    let before_last = response.rsplit_once('\n').map_or("", |(rest, _)| rest);
    let inner = after_first.rsplit_once('\n').map_or("", |(rest, _)| rest);
    let cut = [response, after_first.trim(), before_last.trim(), inner.trim()];
    let plain = cut.iter().map(|text| text.replace('*', ""));
    let all = cut.iter().map(|&text| text.to_owned()).chain(plain);
    all.filter(|text| !text.trim().is_empty()).collect()
}

/// Lets a system answer every turn and judges the answers; it sees its own earlier ones.
///
/// The question of turn t, from 1, of a conversation with several turns has the identifier `key/t`, that of a single prompt
/// `key`. Before anything is asked, all verifiers are built.
///
/// # Errors
///
/// [`Error::Argument`] when there are no conversations; what [`Builder::build`] and the system say.
pub fn evaluate(
    conversations: &[Conversation],
    system: &mut dyn System,
    options: &Options<'_>,
) -> Result<Report> {
    let verifiers = all_verifiers(conversations, &options.builder)?;
    let mut histories: Vec<Vec<Message>> = vec![Vec::new(); conversations.len()];
    let mut responses: Vec<Vec<String>> = vec![Vec::new(); conversations.len()];
    let longest = conversations.iter().map(|c| c.turns.len()).max().unwrap_or(0);
    for turn in 0..longest {
        let mut requests = Vec::new();
        for (conversation, history) in conversations.iter().zip(&mut histories) {
            let Some(asked) = conversation.turns.get(turn) else { continue };
            history.push(Message { role: Role::User, content: asked.prompt.clone() });
            let id = match conversation.turns.len() {
                1 => conversation.key.clone(),
                _ => format!("{}/{}", conversation.key, turn + 1),
            };
            requests.push(Request {
                id,
                messages: history.clone(),
                max_new_tokens: options.max_new_tokens,
                stop: Vec::new(),
            });
        }
        let answers = system.respond(&requests)?;
        if answers.len() != requests.len() {
            let message = format!("gave {} answers to {} questions", answers.len(), requests.len());
            return Err(Error::System { system: system.name().to_owned(), message });
        }
        let reached = conversations.iter().zip(&mut histories).zip(&mut responses);
        let reached = reached.filter(|((c, _), _)| c.turns.len() > turn);
        for (((_, history), given), answer) in reached.zip(answers) {
            history.push(Message { role: Role::Assistant, content: answer.clone() });
            given.push(answer);
        }
    }
    Ok(verdicts(conversations, &verifiers, responses, &options.context))
}

/// Judges responses given elsewhere: `responses` are `[conversation][turn]`.
///
/// # Errors
///
/// [`Error::Argument`] when there are no conversations, or a response is missing or too many; as [`Builder::build`].
pub fn judge(
    conversations: &[Conversation],
    responses: &[Vec<String>],
    options: &Options<'_>,
) -> Result<Report> {
    let verifiers = all_verifiers(conversations, &options.builder)?;
    let expected: Vec<usize> = conversations.iter().map(|c| c.turns.len()).collect();
    let found: Vec<usize> = responses.iter().map(Vec::len).collect();
    if expected != found {
        let first = expected.iter().zip(&found).position(|(a, b)| a != b);
        let at = first.and_then(|i| conversations.get(i)).map(|c| format!(" (first at `{}`)", c.key));
        let found = format!("{} lists{}", found.len(), at.unwrap_or_default());
        return Err(Error::argument("responses", "one list per conversation with one text per turn", found));
    }
    Ok(verdicts(conversations, &verifiers, responses.to_vec(), &options.context))
}

/// Judges one response.
type Judge = fn(&[Box<dyn Verifier>], &str, &TextContext<'_>) -> Vec<bool>;
/// By turn of a conversation.
type TurnVerifiers = Vec<Vec<Box<dyn Verifier>>>;
type Verifiers = Vec<TurnVerifiers>;

fn all_verifiers(conversations: &[Conversation], builder: &Builder) -> Result<Verifiers> {
    if conversations.is_empty() {
        return Err(Error::argument("conversations", "at least one", 0));
    }
    let one = |c: &Conversation| c.turns.iter().map(|t| t.verifiers(builder)).collect::<Result<Vec<_>>>();
    conversations.iter().map(one).collect()
}

fn verdicts(
    conversations: &[Conversation],
    verifiers: &[TurnVerifiers],
    responses: Vec<Vec<String>>,
    context: &TextContext<'_>,
) -> Report {
    let one = |conversation: &Conversation, verifiers: &TurnVerifiers, responses: Vec<String>| {
        let by_turn =
            |judge: Judge| verifiers.iter().zip(&responses).map(|(v, r)| judge(v, r, context)).collect();
        let kinds = verifiers.iter().map(|turn| turn.iter().map(|v| v.id()).collect()).collect();
        let (strict, loose) = (by_turn(strict), by_turn(loose));
        let (key, language) = (conversation.key.clone(), conversation.language.clone());
        Judged { key, language, kinds, responses, strict, loose }
    };
    let all = conversations.iter().zip(verifiers).zip(responses);
    Report { conversations: all.map(|((c, v), r)| one(c, v, r)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_leave_out_lines_and_asterisks() {
        let found = variants("a\n*b*\nc");
        assert_eq!(found, ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]);
        assert_eq!(variants("one"), ["one", "one"]);
        assert!(variants(" \n").is_empty());
    }
}
