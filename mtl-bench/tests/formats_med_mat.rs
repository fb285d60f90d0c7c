//! Med-MAT: golden split statistics, plans of equal size, scores of gold and empty answers, malformed files.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
use mtl_bench::Error;
use mtl_bench::formats::med_mat::{Catalogue, Element, Regime, coarse_task, evaluate, read_questions};
use mtl_bench::system::{Constant, SavedResponses};
use mtl_core::Seed;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn slice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/med-mat")
}

fn catalogue() -> Catalogue {
    Catalogue::read(&slice().join("subsets.json"), |t| coarse_task(t).to_owned()).unwrap()
}

fn golden_statistics(catalogue: &Catalogue) {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/med_mat_splits.json")).unwrap();
    let (stats, summary) = (catalogue.stats(), &golden["summary"]);
    let [modalities, areas, tasks] = &stats.degrees;
    let covered = stats.targets.iter().filter(|t| t.pair_covers > 0).count();
    let coverable = stats.targets.iter().filter(|t| t.coverable).count();
    for (key, value) in [
        ("subsets", stats.targets.len()),
        ("modalities", modalities.len()),
        ("areas", areas.len()),
        ("coarse_tasks", tasks.len()),
        ("distinct_triplets", stats.distinct_triplets),
        ("coverable_targets", coverable),
        ("targets_with_pair_cover", covered),
    ] {
        assert_eq!(summary[key].as_u64(), Some(value as u64), "{key}");
    }
    let targets = golden["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 53);
    for (expected, found) in targets.iter().zip(&stats.targets) {
        let triplet = &catalogue.get(&found.id).unwrap().triplet;
        let found = serde_json::json!({
            "id": found.id, "triplet": Element::ALL.map(|e| triplet.element(e)), "related": found.related,
            "unrelated": found.unrelated, "identical_triplet": found.identical, "pair_covers": found.pair_covers,
            "first_cover": found.first_cover, "coverable": found.coverable
        });
        assert_eq!(*expected, found);
    }
}

#[test]
fn statistics_are_those_of_the_golden_file() {
    golden_statistics(&catalogue());
}

#[test]
fn the_real_table_gives_the_golden_statistics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/med-mat/triplets.json");
    if !path.is_file() {
        eprintln!("skipped: no triplets at {}", path.display());
        return;
    }
    golden_statistics(&Catalogue::read(&path, |t| coarse_task(t).to_owned()).unwrap());
}

#[test]
fn regimes_partition_and_cover() {
    let catalogue = catalogue();
    let ids = |subsets: &[&mtl_bench::formats::med_mat::Subset]| {
        subsets.iter().map(|s| s.id.clone()).collect::<BTreeSet<_>>()
    };
    for subset in catalogue.subsets() {
        let id = &subset.id;
        let (related, unrelated) =
            (ids(&catalogue.related(id).unwrap()), ids(&catalogue.unrelated(id).unwrap()));
        assert!(related.is_disjoint(&unrelated) && related.len() + unrelated.len() == 52);
        for element in Element::ALL {
            let broken = catalogue.broken(id, element).unwrap();
            assert!(broken.iter().all(|s| s.triplet.element(element) != subset.triplet.element(element)));
        }
        for (a, b) in catalogue.pair_covers(id).unwrap() {
            for element in Element::ALL {
                let wanted = subset.triplet.element(element);
                assert!(a.triplet.element(element) == wanted || b.triplet.element(element) == wanted);
            }
        }
    }
    assert_eq!(catalogue.incidence().iter().flatten().filter(|c| **c).count(), 3 * 53);
}

#[test]
fn plans_have_the_size_asked_for() {
    let catalogue = catalogue();
    let images: BTreeMap<String, usize> =
        catalogue.subsets().iter().enumerate().map(|(i, s)| (s.id.clone(), 20 + i)).collect();
    let plan = |regime, n, smaller, seed| catalogue.plan("03", regime, n, &images, smaller, Seed(seed));
    let total = |regime, n| plan(regime, n, false, 0).unwrap().sources.iter().map(|s| s.1).sum::<usize>();
    use Regime::{All, Base, Break, Cover, CoverPlus, Related, Target, Unrelated};
    let breaks = Element::ALL.map(Break);
    for regime in [Cover, Related, Unrelated, All].into_iter().chain(breaks) {
        assert_eq!(total(regime, 37), 37, "{regime:?}");
        let plan = plan(regime, 37, false, 0).unwrap();
        assert!(plan.sources.iter().all(|(id, n)| id != "03" && *n <= images[id]));
    }
    assert_eq!((total(Base, 37), total(Target(10), 37), total(CoverPlus(10), 37)), (0, 10, 47));
    let even: Vec<usize> = plan(All, 100, false, 0).unwrap().sources.iter().map(|s| s.1).collect();
    assert!(even.iter().max().unwrap() - even.iter().min().unwrap() <= 1);
    let covers: BTreeSet<String> =
        (0..30).map(|s| format!("{:?}", plan(Cover, 10, false, s).unwrap().sources)).collect();
    assert!(covers.len() > 3, "the cover is drawn");
    assert_eq!(plan(Related, 30, false, 5).unwrap(), plan(Related, 30, false, 5).unwrap());
    let error = plan(Cover, 1000, false, 0).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
    let small = plan(Cover, 1000, true, 0).unwrap();
    assert_eq!(small.missing + small.sources.iter().map(|s| s.1).sum::<usize>(), 1000);
    assert!(matches!(catalogue.plan("01", Cover, 5, &images, false, Seed(0)), Err(Error::Missing { .. })));
    assert!(catalogue.plan("99", All, 5, &images, false, Seed(0)).is_err());
}

#[test]
fn gold_answers_score_1_and_empty_ones_0() {
    let questions = read_questions(&slice().join("questions.json")).unwrap();
    let gold = |text: fn(usize, &str) -> String| {
        questions
            .iter()
            .fold(SavedResponses::new("gold"), |s, q| s.with(&q.id, text(q.answer, &q.options[q.answer])))
    };
    for text in [
        |i: usize, _: &str| format!("The answer is {}.", ["A", "B", "C", "D"][i]),
        |_: usize, option: &str| format!(" {option}\n"),
    ] {
        let scores = evaluate(&questions, &mut gold(text)).unwrap();
        assert_eq!(scores.accuracy, 1.0);
        assert!((scores.chance - (0.25 + 0.5 + 1.0 / 3.0 + 0.5) / 4.0).abs() < 1e-12);
        assert_eq!(scores.subsets.len(), 2);
    }
    assert_eq!(evaluate(&questions, &mut Constant::default()).unwrap().accuracy, 0.0);
    // D is no option of the questions with fewer, and the first letter counts.
    assert_eq!(evaluate(&questions, &mut Constant("D or B".into())).unwrap().accuracy, 0.0);
    assert!(evaluate(&[], &mut Constant::default()).is_err());
}

#[test]
fn malformed_files_name_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.json");
    let subset = "{\"id\": \"1\", \"modality\": \"CT\", \"area\": \"Lung\", \"task\": \"x\"}";
    for (text, message) in [
        ("{}".to_owned(), "subsets: is missing"),
        ("{\"subsets\": []}".into(), "subsets: is empty"),
        (format!("{{\"subsets\": [{subset}, {subset}]}}"), "subsets[1].id: `1` is there twice"),
        (format!("{{\"subsets\": [{}]}}", subset.replace("CT", " ")), "subsets[0].modality: is empty"),
        (format!("{{\"subsets\": [{}]}}", subset.replace("\"x\"", "1")), "subsets[0].task: must be a text"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Catalogue::read(&path, str::to_owned).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
    let record = |options: &str, answer: &str| serde_json::json!([{"id": "a", "image": "i", "data-no": "1", "Question-choice": options, "Answer-choice": answer}]);
    for (json, message) in [
        (record("Q\nA: x", "A"), "must have 2 to 4 options"),
        (record("Q\nA: x\nB: x", "A"), "has an option twice"),
        (record("Q\nA: x\nB: y", "C"), "[0].Answer-choice: `C` is not the letter"),
        (serde_json::json!([{}]), "[0].Question-choice: is missing"),
    ] {
        std::fs::write(&path, json.to_string()).unwrap();
        let error = read_questions(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}
