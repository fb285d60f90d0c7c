//! Conflict and affinity against golden values in `f64`.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Result, Seed, StateDict,
    analysis::{
        ConflictMeter, ConflictReport, ExpertCounts, TaskPrior, affinity_of, alignment, conflict,
        conflict_by_group,
    },
    balancing::TaskGrads,
    rng,
};
use serde_json::Value;
use tch::{Kind, Tensor};

const GOLDEN: &str = include_str!("golden/analysis.json");
const FILES: [(&str, &str); 6] = [
    ("gauss_K2", include_str!("golden/balancers_gauss_K2.json")),
    ("gauss_K3", include_str!("golden/balancers_gauss_K3.json")),
    ("gauss_K8", include_str!("golden/balancers_gauss_K8.json")),
    ("conflict_K2", include_str!("golden/balancers_conflict_K2.json")),
    ("conflict_K3", include_str!("golden/balancers_conflict_K3.json")),
    ("conflict_K8", include_str!("golden/balancers_conflict_K8.json")),
];

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1])
}

/// The gradients of a file, cut into two parameters.
fn grads(file: &str) -> TaskGrads {
    let file: Value = serde_json::from_str(file).unwrap();
    let cut = |row: Vec<f64>| -> StateDict {
        let (a, b) = row.split_at(row.len() / 3);
        let entries = [("trunk.weight", a), ("adapter.weight", b)];
        entries.into_iter().map(|(name, part)| (name.to_owned(), Tensor::from_slice(part))).collect()
    };
    TaskGrads::new(rows(&file["grads"]).into_iter().map(cut).collect()).unwrap()
}

/// Everything in a report that the golden file has, in one order.
fn numbers(report: &ConflictReport) -> Vec<(&'static str, Vec<f64>)> {
    vec![
        ("cosine", report.cosine.concat()),
        ("mean_pairwise_cosine", vec![report.mean_cosine]),
        ("min_pairwise_cosine", vec![report.min_cosine]),
        ("conflict_fraction", vec![report.conflict_fraction]),
        ("magnitude_similarity", report.magnitude_similarity.concat()),
        ("mean_magnitude_similarity", vec![report.mean_magnitude_similarity]),
        ("condition_number", vec![report.condition_number]),
        ("cosine_with_mean_gradient", report.cosine_with_mean.clone()),
    ]
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

#[test]
fn every_measure_of_conflict_agrees() {
    let golden = golden();
    for (name, file) in FILES {
        let wanted = &golden["conflict"][name];
        let found = numbers(&conflict(&grads(file).gram().unwrap()).unwrap());
        assert_eq!(found.len(), wanted.as_object().unwrap().len());
        for (key, got) in found {
            let want = flat(&wanted[key]);
            assert_eq!(got.len(), want.len(), "{name} {key}");
            let off =
                got.iter().zip(&want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
            assert!(off < 1e-9, "{name} {key}: {off}");
        }
    }
}

#[test]
fn groups_see_their_own_parameters_only() {
    let (_, file) = FILES[4];
    let grads = grads(file);
    let whole = conflict_by_group(&grads, |_| "all".to_owned()).unwrap();
    assert_eq!(whole["all"], conflict(&grads.gram().unwrap()).unwrap());
    let parts =
        conflict_by_group(&grads, |name| name.split('.').next().unwrap_or_default().to_owned()).unwrap();
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["adapter", "trunk"]);
    let matrix = |dict: &StateDict| dict.get("adapter.weight").unwrap().shallow_clone();
    let stacked = Tensor::stack(&grads.per_task().iter().map(matrix).collect::<Vec<_>>(), 0);
    // The condition number of the gradients themselves, not by way of their inner products.
    let (_, sigma, _) = stacked.svd(true, true);
    let wanted = sigma.max().double_value(&[]) / sigma.min().double_value(&[]);
    assert!((parts["adapter"].condition_number / wanted - 1.0).abs() < 1e-9);
    let aligned = alignment(&grads, |name| name.starts_with("adapter")).unwrap();
    assert_eq!(aligned, parts["adapter"].mean_cosine);
}

#[test]
fn look_ahead_affinity_agrees() {
    let golden = &golden()["affinity"];
    let x: Vec<f64> = serde_json::from_value(golden["x"].clone()).unwrap();
    // An own parameter of a task must not move, or the losses would change more.
    let params: StateDict = [("shared", x.as_slice()), ("own", &[1.0])]
        .map(|(name, values)| (name.to_owned(), Tensor::from_slice(values)))
        .into_iter()
        .collect();
    let params = params.trainable();
    let centers = rows(&golden["centers"]);
    let curvature: Vec<Tensor> = golden["Q"].as_array().unwrap().iter().map(|q| tensor(&rows(q))).collect();
    let loss = |params: &StateDict, task: usize| -> Result<Tensor> {
        let away = params.get("shared").unwrap() - Tensor::from_slice(&centers[task]);
        let quadratic = away.dot(&curvature[task].mv(&away)) * 0.5;
        Ok(quadratic * params.get("own").unwrap().sum(Kind::Double))
    };
    let lr = golden["eta"].as_f64().unwrap();
    let found = affinity_of(&["a", "b", "c"], &params, |name| name == "shared", lr, loss).unwrap();
    let wanted = rows(&golden["Z_row_i_updates_col_j_benefits"]);
    for (got, want) in found.z.iter().flatten().zip(wanted.iter().flatten()) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }
    assert_eq!(found.z.len() * found.z.len(), wanted.concat().len());
}

#[test]
fn a_meter_agrees_with_the_reports_of_its_steps() {
    let mut meter = ConflictMeter::new(FILES.len() as u64).unwrap();
    let mut window = None;
    let mut sums = [0.0; 3];
    for (step, (_, file)) in FILES.into_iter().enumerate() {
        let gram = grads(file).gram().unwrap();
        let report = conflict(&gram).unwrap();
        let share = f64::from(u8::from(report.min_cosine < 0.0));
        let parts = [share, report.conflict_fraction, report.mean_cosine];
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part / FILES.len() as f64);
        window = meter.observe(step as u64, Some(&gram));
    }
    let window = window.unwrap();
    let found = [window.conflicting_batches, window.conflicting_pairs, window.mean_cosine];
    assert!(found.iter().zip(sums).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!(0.0 < window.conflicting_batches && window.conflicting_batches <= 1.0);
}

#[test]
fn mutual_information_is_symmetric_and_bounded() {
    let tasks = ["a", "b", "c"];
    for step in 0..20 {
        let gates = rng::uniform(&mut Seed(8).stream("test", step), &[3, 5], 1.0).relu();
        let gates = gates.to_kind(Kind::Double) + 1e-3;
        let mut counts = ExpertCounts::new(&tasks, 5).unwrap();
        (0..3).for_each(|task| counts.add_trace(task as usize, &gates.get(task).view([1, 5])).unwrap());
        let usage = counts.usage(0.1, TaskPrior::Counts).unwrap();
        // H(task) + H(expert) − H(task, expert), from the table and its margins.
        let joint = &gates / gates.sum(Kind::Double);
        let entropy = |p: &Tensor| -(p * p.log()).sum(Kind::Double).double_value(&[]);
        let margin = |dim: i64| joint.sum_dim_intlist([dim].as_slice(), false, Kind::Double);
        let wanted = entropy(&margin(0)) + entropy(&margin(1)) - entropy(&joint);
        assert!((usage.mutual_information - wanted).abs() < 1e-9);
        assert!(usage.mutual_information <= entropy(&margin(1)) + 1e-12);
        for (row, load) in usage.overlap.iter().zip(&usage.load) {
            assert!(row.iter().all(|o| (0.0..=1.0).contains(o)));
            assert!((load.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}
