//! SKILL-MIX: combinations, checks against the grammar, grading, evaluation.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]
use mtl_bench::Result;
use mtl_bench::formats::skill_mix::*;
use mtl_bench::system::{Constant, Request, System};
use mtl_core::Seed;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Writes by the grammar.
struct Author {
    catalogue: Catalogue,
    combos: BTreeMap<String, Combo>,
}

impl System for Author {
    fn name(&self) -> &str {
        "author"
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        let one = |r: &Request| {
            let id = r.id.split('/').next().unwrap();
            write(&self.catalogue, &self.combos[id], Seed(3).fork(&r.id))
        };
        requests.iter().map(one).collect()
    }
}

fn draw(k: usize, n: usize, exclude: &BTreeSet<Combo>) -> Vec<Combo> {
    let catalogue = Catalogue::default();
    combinations(&catalogue, &Pool::all(&catalogue), k, n, Seed(1), exclude).unwrap()
}

#[test]
fn the_grammar_gets_full_marks_and_shows_each_skill_by_itself() {
    let catalogue = Catalogue::default();
    let rubric = Rubric::new(&catalogue).unwrap();
    let mut failed = Vec::new();
    for skill in 0..catalogue.skills.len() {
        for topic in 0..catalogue.topics.len() {
            for seed in 0..3 {
                let combo = Combo { skills: vec![skill], topic };
                let text = write(&catalogue, &combo, Seed(seed)).unwrap();
                if !rubric.grade(&combo, &text, 0).unwrap().full_marks() {
                    failed.push(format!("{}: {text}", combo.id(&catalogue)));
                }
            }
        }
    }
    for k in 2..=6 {
        for combo in draw(k, 100, &BTreeSet::new()) {
            let text = write(&catalogue, &combo, Seed(9)).unwrap();
            if !rubric.grade(&combo, &text, 0).unwrap().full_marks() {
                failed.push(format!("{}: {text}", combo.id(&catalogue)));
            }
        }
    }
    failed.truncate(20);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn checks_are_not_passed_by_chance() {
    let catalogue = Catalogue::default();
    let rubric = Rubric::new(&catalogue).unwrap();
    // Words and marks of the grammar's own texts, shuffled.
    let combos = draw(3, 400, &BTreeSet::new());
    let mut rng = Seed(5).stream("salad", 0);
    let (mut skills, mut total, mut full, mut topic) = (0, 0, 0, 0);
    // A sentence with one skill: how often does it show each of the others?
    let mut others = vec![0_usize; catalogue.skills.len()];
    for combo in &combos {
        let text = write(&catalogue, combo, Seed(2)).unwrap();
        let mut words: Vec<&str> = text.split(' ').collect();
        for i in 0..words.len() {
            let j = rng.random_range(i..words.len());
            words.swap(i, j);
        }
        let grade = rubric.grade(combo, &words.join(" "), 0).unwrap();
        skills += grade.skills.iter().filter(|&&s| s).count();
        total += grade.skills.len();
        full += usize::from(grade.full_marks());
        topic += usize::from(grade.topic);
        let parsed = Text::new(&text);
        for (i, skill) in catalogue.skills.iter().enumerate() {
            others[i] += usize::from(!combo.skills.contains(&i) && skill.present(&parsed));
        }
    }
    println!("shuffled: full marks {full}/400, skill points {skills}/{total}, topic {topic}/400");
    for (skill, count) in catalogue.skills.iter().zip(&others) {
        println!("{} shown though not asked for: {count}/400", skill.name);
    }
    assert!(full == 0 && topic > 350, "{full} {topic}");
    assert!(others.iter().all(|&c| c < 120), "{others:?}");
    // A text of one common word shows nothing.
    let plain = Text::new("the thing and the other thing here.");
    let shown: Vec<&str> = catalogue.skills.iter().filter(|s| s.present(&plain)).map(|s| s.name).collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn combinations_are_disjoint_and_bounded() {
    let catalogue = Catalogue::default();
    let train: BTreeSet<Combo> = draw(3, 500, &BTreeSet::new()).into_iter().collect();
    assert_eq!(train.len(), 500);
    assert!(draw(3, 500, &train).iter().all(|c| !train.contains(c)));
    assert_eq!(draw(4, 50, &BTreeSet::new()), draw(4, 50, &BTreeSet::new()));

    let (learnt, held) = catalogue.split_by_category(&["logic"]).unwrap();
    assert_eq!((learnt.len() + held.len(), held.len()), (27, 5));
    let pool = Pool { skills: held.clone(), topics: vec![0, 1], novel_to: Vec::new() };
    // C(5, 2) · 2 topics; all of them, each once.
    let all = combinations(&catalogue, &pool, 2, 20, Seed(0), &BTreeSet::new()).unwrap();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 20);
    let some: BTreeSet<Combo> = all[..15].iter().cloned().collect();
    let error = combinations(&catalogue, &pool, 2, 6, Seed(0), &some).unwrap_err().to_string();
    assert_eq!(error, "`n` must be at most 5, the combinations there are, but is 6");
    let novel = Pool { novel_to: learnt.clone(), ..Pool::all(&catalogue) };
    let drawn = combinations(&catalogue, &novel, 2, 100, Seed(0), &BTreeSet::new()).unwrap();
    assert!(drawn.iter().all(|c| c.skills.iter().any(|s| held.contains(s))));
    let apart = Catalogue { incompatible: vec![(held[0], held[1])], ..Catalogue::default() };
    assert!(combinations(&apart, &pool, 2, 19, Seed(0), &BTreeSet::new()).is_err());

    let fails = |k, pool: &Pool| combinations(&catalogue, pool, k, 1, Seed(0), &BTreeSet::new()).is_err();
    assert!(fails(0, &pool) && fails(6, &pool));
    assert!(
        fails(1, &Pool { skills: vec![0, 0], ..pool.clone() })
            && fails(1, &Pool { topics: vec![99], ..pool })
    );
    assert!(
        catalogue.split_by_category(&["logics"]).unwrap_err().to_string().contains("did you mean `logic`")
    );
    assert!(catalogue.split_by_category(&catalogue.categories()).is_err());
    let error = Combo::new(&catalogue, &["hegde"], "music").unwrap_err().to_string();
    assert!(error.contains("did you mean `hedge`"), "{error}");
    assert!(Combo::new(&catalogue, &["hedge", "hedge"], "music").is_err());
}

#[test]
fn systems_are_graded_by_their_best_text() {
    let catalogue = Catalogue::default();
    let combos = draw(3, 60, &BTreeSet::new());
    let rubric = Rubric::new(&catalogue).unwrap();
    let by_id = combos.iter().map(|c| (c.id(&catalogue), c.clone())).collect();
    let mut author = Author { catalogue: catalogue.clone(), combos: by_id };
    let options = Options::default();
    let report = evaluate(&catalogue, &combos, &mut author, &rubric, &options).unwrap();
    assert_eq!((report.scores.full_marks, report.items.len()), (1.0, 60));

    let mut silent = Constant(String::new());
    let report = evaluate(&catalogue, &combos, &mut silent, &rubric, &options).unwrap();
    assert!(report.items.iter().all(|i| i.grade.points() == 0));

    // With one grading of one text, flips of 20 % leave (0.8)⁶ of the full marks.
    let noisy = Noisy::new(rubric.clone(), 0.2, Seed(4)).unwrap();
    let once = Options { generations: 1, gradings: 1, ..options };
    let full = evaluate(&catalogue, &combos, &mut author, &noisy, &once).unwrap().scores.full_marks;
    let thrice =
        evaluate(&catalogue, &combos, &mut author, &noisy, &Options { gradings: 9, ..once }).unwrap();
    println!("full marks with noise: {full}, by majority of 9: {}", thrice.scores.full_marks);
    assert!((0.1..0.45).contains(&full) && thrice.scores.full_marks > 0.75);

    assert!(Noisy::new(rubric.clone(), 1.5, Seed(0)).is_err());
    assert!(
        evaluate(&catalogue, &combos, &mut author, &rubric, &Options { gradings: 2, ..options }).is_err()
    );
    assert!(
        evaluate(&catalogue, &combos, &mut author, &rubric, &Options { generations: 0, ..options }).is_err()
    );
    assert!(evaluate(&catalogue, &[], &mut author, &rubric, &options).is_err());
    let wrong = Combo { skills: vec![2, 1], topic: 0 };
    assert!(rubric.grade(&wrong, "", 0).is_err() && write(&catalogue, &wrong, Seed(0)).is_err());
}

#[test]
fn naming_a_skill_or_leaving_the_topic_costs_its_point() {
    let catalogue = Catalogue::default();
    let rubric = Rubric::new(&catalogue).unwrap();
    let combo = Combo::new(&catalogue, &["hedge", "question"], "music").unwrap();
    let grade = |text: &str| rubric.grade(&combo, text, 0).unwrap();
    // In the order of the catalogue: the question, which is named, then the hedge.
    let named = grade("Perhaps the drum waits and the flute is old. Is it a question of the drum?");
    assert_eq!(
        (named.skills, named.topic, named.coherent, named.length),
        (vec![false, true], true, false, true)
    );
    let long = grade(
        "Perhaps the sail waits and the deck is old. Does the sail know the old deck? The mast turned beside the deck.",
    );
    assert_eq!((long.skills, long.topic, long.coherent, long.length), (vec![true, true], false, true, false));
}
