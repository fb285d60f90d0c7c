//! Text metrics against rouge-score, sacreBLEU, NLTK and pycocoevalcap; `golden/text_metrics.json` was made by them.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::text::*;
use serde_json::Value;

fn load() -> Value {
    let path = format!("{}/tests/golden/text_metrics.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    items(value).iter().map(|v| v.as_str().unwrap()).collect()
}

fn near(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs() + 1e-12,
        "{what}: {found} instead of {expected}"
    );
}

const SENTENCE: BleuOptions =
    BleuOptions { tokeniser: Tokeniser::V13a, smoothing: Smoothing::Exp, effective_order: true };

#[test]
fn every_pair() {
    let golden = load();
    let (mut matched, mut rouge_l) = (0.0, 0.0);
    let all = items(&golden["items"]);
    for item in all {
        let prediction = item["prediction"].as_str().unwrap();
        let references = texts(&item["references"]);
        let exact = exact_match(prediction, &references).unwrap();
        assert_eq!(exact, item["exact_match"].as_bool().unwrap(), "{prediction}");
        matched += f64::from(u8::from(exact));
        for (name, stem) in [("rouge", false), ("rouge_stem", true)] {
            for (reference, expected) in references.iter().zip(items(&item[name])) {
                for (kind, name) in
                    [(RougeKind::N(1), "rouge1"), (RougeKind::N(2), "rouge2"), (RougeKind::L, "rougeL")]
                {
                    let found = rouge(prediction, reference, kind, stem).unwrap();
                    let expected = &expected[name];
                    near(found.precision, &expected[0], prediction);
                    near(found.recall, &expected[1], prediction);
                    near(found.f1, &expected[2], prediction);
                }
            }
        }
        let best = rouge_best(prediction, &references, RougeKind::L, true).unwrap().f1;
        near(best, &item["rougeL_stem_max_f"], prediction);
        rouge_l += best;
        let bleu = sentence_bleu(prediction, &references, SENTENCE).unwrap();
        near(bleu.score, &item["sentence_bleu_exp_13a"], prediction);
        near(chrf(prediction, &references, &ChrfOptions::default()).unwrap(), &item["chrf"], prediction);
        near(chrf(prediction, &references, &ChrfOptions::plus_plus()).unwrap(), &item["chrf_pp"], prediction);
        near(ter(prediction, &references).unwrap().score(), &item["ter"], prediction);
        let meteor = meteor_lite(prediction, &references, MeteorOptions::default()).unwrap();
        near(meteor, &item["meteor_exact_stem"], prediction);
    }
    let sni = &golden["corpus"]["sni"];
    near(100.0 * matched / all.len() as f64, &sni["exact_match"], "exact match");
    near(100.0 * rouge_l / all.len() as f64, &sni["rougeL"], "ROUGE-L");
}

#[test]
fn the_corpus() {
    let golden = load();
    let mut predictions = Vec::new();
    let mut references = Vec::new();
    for item in items(&golden["items"]) {
        let prediction = item["prediction"].as_str().unwrap();
        if !prediction.is_empty() {
            predictions.push(prediction);
            references.push(texts(&item["references"]));
        }
    }
    let golden = &golden["corpus"];
    assert_eq!(predictions.len() as u64, golden["hypotheses_nonempty"].as_u64().unwrap());
    for (name, tokeniser) in
        [("bleu_13a", Tokeniser::V13a), ("bleu_none", Tokeniser::None), ("bleu_char", Tokeniser::Char)]
    {
        let options = BleuOptions { tokeniser, ..BleuOptions::default() };
        let found = corpus_bleu(&predictions, &references, options).unwrap();
        let expected = &golden[name];
        near(found.score, &expected["score"], name);
        near(found.brevity, &expected["bp"], name);
        assert_eq!(found.predicted_length, expected["sys_len"].as_u64().unwrap());
        assert_eq!(found.reference_length, expected["ref_len"].as_u64().unwrap());
        for n in 0..4 {
            near(found.precisions[n], &expected["precisions"][n], name);
            assert_eq!(found.matches[n], expected["counts"][n].as_u64().unwrap());
            assert_eq!(found.totals[n], expected["totals"][n].as_u64().unwrap());
        }
    }
    for (name, smoothing) in
        [("bleu_floor_none", Smoothing::Floor(0.1)), ("bleu_addk1_none", Smoothing::AddK(1.0))]
    {
        let options = BleuOptions { tokeniser: Tokeniser::None, smoothing, effective_order: false };
        near(corpus_bleu(&predictions, &references, options).unwrap().score, &golden[name], name);
    }
    let found = corpus_chrf(&predictions, &references, &ChrfOptions::default()).unwrap();
    near(found, &golden["chrf"], "chrF");
    near(corpus_ter(&predictions, &references).unwrap().score(), &golden["ter"], "TER");
    near(distinct_n(&predictions, 1).unwrap(), &golden["distinct_1"], "distinct-1");
    near(distinct_n(&predictions, 2).unwrap(), &golden["distinct_2"], "distinct-2");
}

#[test]
fn captions() {
    let golden = &load()["captioning"];
    let count = golden["candidates"].as_object().unwrap().len();
    let key = |i: usize| i.to_string();
    let predictions: Vec<&str> = (0..count).map(|i| golden["candidates"][key(i)].as_str().unwrap()).collect();
    let references: Vec<Vec<&str>> = (0..count).map(|i| texts(&golden["references"][key(i)])).collect();

    let expected = &golden["cider_d"];
    let found = cider(&predictions, &references, CiderKind::D).unwrap();
    found.iter().zip(items(&expected["per_item"])).for_each(|(f, e)| near(*f, e, "CIDEr-D"));
    near(found.iter().sum::<f64>() / count as f64, &expected["corpus"], "CIDEr-D");

    let expected = &golden["coco_bleu"];
    let (corpus, each) = coco_bleu(&predictions, &references).unwrap();
    for n in 0..4 {
        near(corpus[n], &expected["corpus"][n], "BLEU");
        for (found, expected) in each.iter().zip(items(&expected["per_item"][n])) {
            near(found[n], expected, "BLEU");
        }
    }
    let expected = &golden["coco_rouge_l_beta1.2"];
    let mut sum = 0.0;
    for ((prediction, references), expected) in
        predictions.iter().zip(&references).zip(items(&expected["per_item"]))
    {
        let found = coco_rouge_l(prediction, references).unwrap();
        near(found, expected, "ROUGE-L");
        sum += found;
    }
    near(sum / count as f64, &expected["corpus"], "ROUGE-L");
}
