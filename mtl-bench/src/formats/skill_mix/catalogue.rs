//! Skills and topics.
use super::check::{self, Text};
use crate::{Error, Result};

/// A skill that a program can check.
#[derive(Debug, Clone, Copy)]
pub struct Skill {
    /// Name, in lower case.
    pub name: &'static str,
    /// Category by which skills are held out.
    pub category: &'static str,
    /// What a text must have.
    pub definition: &'static str,
    /// A sentence of the grammar, with `{classes}` of words, that shows the skill.
    pub(super) frame: &'static str,
    pub(super) present: fn(&Text) -> bool,
}

impl Skill {
    /// Whether the text shows the skill.
    pub fn present(&self, text: &Text) -> bool {
        (self.present)(text)
    }
}

const fn skill(
    name: &'static str,
    category: &'static str,
    definition: &'static str,
    frame: &'static str,
    present: fn(&Text) -> bool,
) -> Skill {
    Skill { name, category, definition, frame, present }
}

/// The built-in skills, in five categories.
#[rustfmt::skip]
pub const SKILLS: [Skill; 27] = [
    skill("alliteration", "sound", "three words in a row with the same initial", "{alliteration} near the {noun} and the {noun}.", check::alliteration),
    skill("rhyme", "sound", "two clauses whose last words differ and share their last three letters", "the {noun} and the {noun} long for the {rhyme}.", check::rhyme),
    skill("repetition", "sound", "the same word three times in a row", "{often} the {noun} {verb} by the {noun}.", check::repetition),
    skill("onomatopoeia", "sound", "a word that imitates a noise", "{noise} goes the {noun} and the {noun} {verb}.", check::onomatopoeia),
    skill("simile", "figure", "a comparison with `like a` or `as … as`", "the {noun} {verb} like a {adjective} {noun}.", check::simile),
    skill("anaphora", "figure", "two clauses with the same first two words", "{start} the {noun} {verb}; {=start} the {noun} {verb}.", check::anaphora),
    skill("epistrophe", "figure", "two clauses with the same last word", "the {noun} is {adjective}; the {noun} is {=adjective}.", check::epistrophe),
    skill("chiasmus", "figure", "two words in one clause, and in reverse order in the next", "the {noun} finds the {noun}; the {=noun2} finds the {=noun1}.", check::chiasmus),
    skill("question", "grammar", "a sentence that ends with a question mark", "does the {noun} know the {adjective} {noun}?", check::question),
    skill("exclamation", "grammar", "a sentence that ends with an exclamation mark", "what a {adjective} {noun} and what a {noun}!", check::exclamation),
    skill("imperative", "grammar", "a sentence that begins with a command", "{command} the {noun} to the {adjective} {noun}.", check::imperative),
    skill("past tense", "grammar", "a verb in the past", "the {noun} {past} beside the {noun}.", check::past_tense),
    skill("superlative", "grammar", "an adjective in its highest degree", "the {superlative} {noun} {verb} beside the {noun}.", check::superlative),
    skill("parenthesis", "grammar", "words in round brackets", "the {noun} (and the {noun}) {verb}.", check::parenthesis),
    skill("negation", "grammar", "a denial with `not`, `never` or `no`", "the {noun} never meets the {adjective} {noun}.", check::negation),
    skill("cause", "logic", "a reason after `because`", "the {noun} {verb} because the {noun} is {adjective}.", check::cause),
    skill("condition", "logic", "`if` and, after a comma, what follows", "if the {noun} {verb}, the {noun} is {adjective}.", check::condition),
    skill("contrast", "logic", "two statements joined by `but`", "the {noun} is {adjective} but the {noun} {verb}.", check::contrast),
    skill("concession", "logic", "`although` and, after a comma, the main clause", "although the {noun} {verb}, the {noun} is {adjective}.", check::concession),
    skill("comparative", "logic", "a comparison of degree with `than`", "the {noun} is {comparative} than the {noun}.", check::comparative),
    skill("number word", "content", "a number in letters", "the {noun} {verb} beside {number} friends of the {noun}.", check::number_word),
    skill("colour word", "content", "the name of a colour", "the {colour} {noun} {verb} beside the {noun}.", check::colour_word),
    skill("time expression", "content", "when something happens", "{time} the {noun} {verb} and the {noun} is {adjective}.", check::time_expression),
    skill("spatial preposition", "content", "where something is", "the {noun} {verb} {place} the {noun}.", check::spatial_preposition),
    skill("hedge", "content", "a word of doubt", "{hedge} the {noun} {verb} and the {noun} is {adjective}.", check::hedge),
    skill("list of three", "content", "three things, the first two with a comma, the last with `and`", "the {noun}, the {noun} and the {noun} are {adjective}.", check::list_of_three),
    skill("quotation", "content", "words in double quotation marks", "the {noun} says \"{saying}\" to the {noun}.", check::quotation),
];

/// A topic, and the words that show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: &'static str,
    /// Its words; a text is on topic with two different ones.
    pub words: [&'static str; 8],
}

const fn topic(name: &'static str, words: [&'static str; 8]) -> Topic {
    Topic { name, words }
}

/// The built-in topics.
#[rustfmt::skip]
pub const TOPICS: [Topic; 20] = [
    topic("gardening", ["garden", "rose", "spade", "hedgerow", "tulip", "gardener", "soil", "compost"]),
    topic("sailing", ["sail", "harbour", "captain", "anchor", "mast", "deck", "sailor", "rudder"]),
    topic("cooking", ["kitchen", "cook", "soup", "oven", "spoon", "pepper", "onion", "recipe"]),
    topic("music", ["violin", "singer", "drum", "melody", "choir", "piano", "flute", "concert"]),
    topic("astronomy", ["star", "telescope", "comet", "planet", "moon", "galaxy", "orbit", "astronomer"]),
    topic("hiking", ["trail", "boot", "summit", "backpack", "valley", "hiker", "tent", "compass"]),
    topic("farming", ["farmer", "tractor", "barn", "cow", "wheat", "plough", "meadow", "hen"]),
    topic("medicine", ["doctor", "nurse", "patient", "clinic", "bandage", "fever", "pill", "surgeon"]),
    topic("football", ["goal", "striker", "referee", "stadium", "whistle", "coach", "keeper", "pitch"]),
    topic("painting", ["canvas", "brush", "painter", "easel", "portrait", "palette", "sketch", "gallery"]),
    topic("railways", ["engine", "platform", "conductor", "station", "tunnel", "signal", "wagon", "ticket"]),
    topic("school", ["teacher", "pupil", "classroom", "pencil", "chalk", "desk", "lesson", "notebook"]),
    topic("weather", ["cloud", "storm", "umbrella", "thunder", "breeze", "fog", "snowflake", "sunshine"]),
    topic("chess", ["knight", "bishop", "pawn", "rook", "king", "queen", "chessboard", "gambit"]),
    topic("libraries", ["library", "book", "shelf", "librarian", "novel", "reader", "page", "catalogue"]),
    topic("robots", ["robot", "sensor", "motor", "gear", "circuit", "engineer", "battery", "wire"]),
    topic("bakery", ["baker", "bread", "flour", "dough", "pastry", "yeast", "crust", "loaf"]),
    topic("ocean life", ["whale", "dolphin", "coral", "shark", "octopus", "reef", "turtle", "seaweed"]),
    topic("law", ["judge", "lawyer", "court", "witness", "jury", "verdict", "trial", "clerk"]),
    topic("theatre", ["actor", "stage", "curtain", "costume", "audience", "script", "director", "spotlight"]),
];

/// Skills and topics to combine.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Skills.
    pub skills: Vec<Skill>,
    /// Topics.
    pub topics: Vec<Topic>,
    /// Pairs of skills, by index, that one text cannot show.
    pub incompatible: Vec<(usize, usize)>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { skills: SKILLS.to_vec(), topics: TOPICS.to_vec(), incompatible: Vec::new() }
    }
}

impl Catalogue {
    /// Names of the categories, in order of first use.
    pub fn categories(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        for skill in &self.skills {
            if !found.contains(&skill.category) {
                found.push(skill.category);
            }
        }
        found
    }

    /// Indices of the skills to train on, and of those in held-out categories.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for a category that no skill has; [`Error::Argument`] when no skill is left to train on.
    pub fn split_by_category(&self, held_out: &[&str]) -> Result<(Vec<usize>, Vec<usize>)> {
        let categories = self.categories();
        if let Some(unknown) = held_out.iter().find(|h| !categories.contains(h)) {
            return Err(Error::Core(mtl_core::Error::unknown("category", unknown, categories)));
        }
        let held = |i: &usize| self.skills.get(*i).is_some_and(|s| held_out.contains(&s.category));
        let (held, train): (Vec<usize>, Vec<usize>) = (0..self.skills.len()).partition(held);
        if train.is_empty() {
            return Err(Error::argument("held_out", "fewer than all categories", format!("{held_out:?}")));
        }
        Ok((train, held))
    }
}
