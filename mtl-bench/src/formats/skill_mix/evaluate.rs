//! Prompts, grades and scores.
use super::{Catalogue, Combo, Grammar, Text};
use crate::metrics::{SkillGrade, SkillMix, skill_mix};
use crate::system::{Message, Request, Role, System};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use std::fmt;

/// Gives points to texts.
pub trait Grader: fmt::Debug {
    /// The points of a text for a combination; `grading` counts gradings of the same text, from 0.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a combination that is not of the grader's catalogue.
    fn grade(&self, combo: &Combo, text: &str, grading: u64) -> Result<SkillGrade>;
}

/// Grades by rule.
///
/// A skill counts when its check passes and the text does not name it; the topic with two different words of it; sense when
/// the grammar accepts every sentence; length with at most as many sentences as skills. A blank text has no points.
#[derive(Debug, Clone)]
pub struct Rubric {
    catalogue: Catalogue,
    grammar: Grammar,
}

impl Rubric {
    /// The rubric of a catalogue.
    ///
    /// # Errors
    ///
    /// As [`Grammar::new`].
    pub fn new(catalogue: &Catalogue) -> Result<Self> {
        Ok(Self { catalogue: catalogue.clone(), grammar: Grammar::new(catalogue)? })
    }
}

impl Grader for Rubric {
    fn grade(&self, combo: &Combo, text: &str, _grading: u64) -> Result<SkillGrade> {
        combo.check(&self.catalogue)?;
        let parsed = Text::new(text);
        let shown = |&s: &usize| {
            let skill = self.catalogue.skills.get(s);
            skill.is_some_and(|skill| skill.present(&parsed) && !parsed.names(skill.name))
        };
        let about =
            self.catalogue.topics.get(combo.topic).map_or(0, |topic| {
                topic.words.iter().filter(|&&word| parsed.words().any(|w| w == word)).count()
            });
        Ok(SkillGrade {
            skills: combo.skills.iter().map(shown).collect(),
            topic: about >= 2,
            coherent: self.grammar.accepts(text),
            length: (1..=combo.skills.len()).contains(&parsed.sentences()),
        })
    }
}

/// Another grader whose points are flipped at random, each with probability `rate`.
#[derive(Debug, Clone)]
pub struct Noisy<G> {
    grader: G,
    rate: f64,
    seed: Seed,
}

impl<G: Grader> Noisy<G> {
    /// Adds noise; the draw depends on the seed, the combination, the text and the number of the grading.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a rate outside \[0, 1\].
    pub fn new(grader: G, rate: f64, seed: Seed) -> Result<Self> {
        if !(0.0..=1.0).contains(&rate) {
            return Err(Error::argument("rate", "in [0, 1]", rate));
        }
        Ok(Self { grader, rate, seed })
    }
}

impl<G: Grader> Grader for Noisy<G> {
    fn grade(&self, combo: &Combo, text: &str, grading: u64) -> Result<SkillGrade> {
        let mut grade = self.grader.grade(combo, text, grading)?;
        let mut rng = self.seed.fork(&format!("{combo:?}{text}")).stream("skill-mix-noise", grading);
        let SkillGrade { skills, topic, coherent, length } = &mut grade;
        for point in skills.iter_mut().chain([topic, coherent, length]) {
            *point ^= rng.random::<f64>() < self.rate;
        }
        Ok(grade)
    }
}

/// How to evaluate; the defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Texts per combination, of which the best counts; at least 1.
    pub generations: usize,
    /// Gradings per text; each point goes by their majority. Odd.
    pub gradings: u64,
    /// Ask in the same conversation for a better, shorter text, and grade that.
    pub revise: bool,
    /// Most tokens of an answer.
    pub max_new_tokens: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { generations: 3, gradings: 3, revise: true, max_new_tokens: None }
    }
}

/// The best text for one combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The combination.
    pub combo: Combo,
    /// The text.
    pub text: String,
    /// Its points.
    pub grade: SkillGrade,
}

/// The texts and their scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the combinations.
    pub items: Vec<Item>,
    /// Means over the items.
    pub scores: SkillMix,
}

/// What a system is asked first.
pub fn prompt(catalogue: &Catalogue, combo: &Combo) -> String {
    let k = combo.skills.len();
    let topic = catalogue.topics.get(combo.topic).map_or("", |t| t.name);
    let plural = if k == 1 { "sentence" } else { "sentences" };
    let mut prompt = format!("Write at most {k} {plural} about {topic} that show each of these skills:\n");
    for skill in combo.skills.iter().filter_map(|&s| catalogue.skills.get(s)) {
        prompt.push_str(&format!("- {}: {}\n", skill.name, skill.definition));
    }
    prompt.push_str("Do not name the skills. Answer with the text alone.");
    prompt
}

const REVISE: &str =
    "Improve your text: check every skill, make it shorter if it can be. Answer with the text alone.";

/// Asks a system for texts, grades them and averages over the best of each combination.
///
/// The identifier of a question is the combination's, then `/` and the number of the text from 1, then `/revised` in the
/// second round.
///
/// # Errors
///
/// [`Error::Argument`] for options out of range or a combination that is not of the catalogue; [`Error::Metric`] when there are
/// no combinations, or they differ in the number of skills; what the system says.
pub fn evaluate(
    catalogue: &Catalogue,
    combos: &[Combo],
    system: &mut dyn System,
    grader: &dyn Grader,
    options: &Options,
) -> Result<Report> {
    if options.generations == 0 {
        return Err(Error::argument("generations", "at least 1", 0));
    }
    if options.gradings.is_multiple_of(2) {
        return Err(Error::argument("gradings", "odd, for a majority", options.gradings));
    }
    let mut requests = Vec::new();
    for combo in combos {
        combo.check(catalogue)?;
        for generation in 1..=options.generations {
            let id = format!("{}/{generation}", combo.id(catalogue));
            let request = Request::new(id, prompt(catalogue, combo));
            requests.push(Request { max_new_tokens: options.max_new_tokens, ..request });
        }
    }
    let mut texts = ask(system, &requests)?;
    if options.revise {
        for (request, text) in requests.iter_mut().zip(texts) {
            request.id.push_str("/revised");
            request.messages.push(Message { role: Role::Assistant, content: text });
            request.messages.push(Message { role: Role::User, content: REVISE.to_owned() });
        }
        texts = ask(system, &requests)?;
    }
    let mut items = Vec::with_capacity(combos.len());
    for (combo, texts) in combos.iter().zip(texts.chunks(options.generations)) {
        let mut best: Option<Item> = None;
        for text in texts {
            let grade = majority(combo, text, grader, options.gradings)?;
            if best.as_ref().is_none_or(|b| grade.points() > b.grade.points()) {
                best = Some(Item { combo: combo.clone(), text: text.clone(), grade });
            }
        }
        items.extend(best);
    }
    let grades: Vec<SkillGrade> = items.iter().map(|i| i.grade.clone()).collect();
    Ok(Report { scores: skill_mix(&grades)?, items })
}

fn ask(system: &mut dyn System, requests: &[Request]) -> Result<Vec<String>> {
    let texts = system.respond(requests)?;
    if texts.len() != requests.len() {
        let message = format!("gave {} answers to {} questions", texts.len(), requests.len());
        return Err(Error::System { system: system.name().to_owned(), message });
    }
    Ok(texts)
}

fn majority(combo: &Combo, text: &str, grader: &dyn Grader, gradings: u64) -> Result<SkillGrade> {
    let grades = (0..gradings).map(|g| grader.grade(combo, text, g)).collect::<Result<Vec<_>>>()?;
    let most =
        |point: &dyn Fn(&SkillGrade) -> bool| 2 * grades.iter().filter(|g| point(g)).count() > grades.len();
    Ok(SkillGrade {
        skills: (0..combo.skills.len()).map(|s| most(&|g| g.skills.get(s) == Some(&true))).collect(),
        topic: most(&|g| g.topic),
        coherent: most(&|g| g.coherent),
        length: most(&|g| g.length),
    })
}
