//! The router's weights: one row per expert and layer.
use super::{
    config::{GateMode, MoeConfig},
    llama::{Llama, Pool},
    noise::Gaussian,
    prompts::Encoded,
};
use crate::{
    Error, Result, Uniform,
    engine::source::{Source, non_finite},
};
use serde_json::{Map, Value};

/// Rows by layer, then expert: `[layer][expert][hidden]`.
pub(super) type Gates = Vec<Vec<Vec<f64>>>;

/// Condition number from which on some experts would hardly be chosen.
const DEGENERATE: f64 = 5.0;

/// Rows for experts named `places`; `prompts` are theirs, for modes that look at them.
pub(super) fn gates(
    config: &MoeConfig,
    base: &dyn Source,
    base_config: &Map<String, Value>,
    places: &[String],
    prompts: &[Encoded],
    (layers, hidden): (usize, usize),
) -> Result<Gates> {
    let average = match config.gate_mode {
        GateMode::Random | GateMode::UniformRandom => {
            return Ok(random(config, places, (layers, hidden)));
        }
        GateMode::CheapEmbed => {
            let rows = prompts.iter().map(|p| cheap(base, p, hidden)).collect::<Result<Vec<_>>>()?;
            return Ok(vec![rows; layers]);
        }
        GateMode::Hidden => Pool::Last,
        GateMode::HiddenAvg => Pool::Mean,
    };
    let llama = Llama::new(base, base_config)?;
    // One pass for the prompts of all experts: every weight is read once.
    let all: Vec<&[u32]> =
        prompts.iter().flat_map(|p| p.positive.iter().chain(&p.negative).map(Vec::as_slice)).collect();
    let states = llama.hidden_states(&all, average)?;
    let row = |states: &[Vec<f64>], negative: &[Vec<f64>]| {
        let mut row = mean(states, hidden);
        row.iter_mut().zip(mean(negative, hidden)).for_each(|(x, y)| *x -= y);
        normalize(&mut row);
        row
    };
    let per_layer = states.iter().map(|states| {
        let mut rest = states.as_slice();
        let mut rows = Vec::with_capacity(prompts.len());
        for encoded in prompts {
            let (positive, others) = rest.split_at(encoded.positive.len());
            let (negative, others) = others.split_at(encoded.negative.len());
            rows.push(row(positive, negative));
            rest = others;
        }
        rows
    });
    Ok(per_layer.collect())
}

fn random(config: &MoeConfig, places: &[String], (layers, hidden): (usize, usize)) -> Gates {
    let bound = 1.0 / (hidden as f64).sqrt();
    let row = |layer: usize, place: &str| -> Vec<f64> {
        let seed = config.seed.fork("gate").fork(&format!("layer {layer}")).fork(place);
        if config.gate_mode == GateMode::Random {
            let normal = Gaussian::new(seed);
            (0..hidden).map(|i| normal.at(i)).collect()
        } else {
            let uniform = Uniform::new(seed);
            (0..hidden).map(|i| (2.0 * uniform.at(i) - 1.0) * bound).collect()
        }
    };
    (0..layers).map(|layer| places.iter().map(|place| row(layer, place)).collect()).collect()
}

/// Normalised sum of the embeddings of the tokens, minus the same of the negative prompts.
fn cheap(base: &dyn Source, prompts: &Encoded, hidden: usize) -> Result<Vec<f64>> {
    const NAME: &str = "model.embed_tokens.weight";
    let missing = || Error::Mismatch { differences: format!("`{}` has no `{NAME}`", base.label()) };
    let at = base.find(NAME).ok_or_else(missing)?;
    let sum = |prompts: &[Vec<u32>]| -> Result<Vec<f64>> {
        let (mut sum, mut row) = (vec![0.0; hidden], vec![0.0; hidden]);
        for &token in prompts.iter().flatten() {
            let start = token as usize * hidden;
            if !base.read(at, start..start + hidden, &mut row)? {
                return Err(non_finite(base, at)?);
            }
            sum.iter_mut().zip(&row).for_each(|(sum, x)| *sum += x);
        }
        normalize(&mut sum);
        Ok(sum)
    };
    let mut row = sum(&prompts.positive)?;
    if !prompts.negative.is_empty() {
        row.iter_mut().zip(sum(&prompts.negative)?).for_each(|(x, y)| *x -= y);
        normalize(&mut row);
    }
    Ok(row)
}

/// The mean of vectors; zeros of no vectors.
fn mean(vectors: &[Vec<f64>], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    sum.iter_mut().for_each(|x| *x /= vectors.len().max(1) as f64);
    sum
}

/// To length 1; what is next to zero stays so.
fn normalize(vector: &mut [f64]) {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-8);
    vector.iter_mut().for_each(|x| *x /= norm);
}

/// A remark about layers whose router can hardly tell the experts apart: condition number above 5.
pub(super) fn degenerate(gates: &Gates) -> Option<String> {
    let bad: Vec<usize> = (0..gates.len()).filter(|&layer| condition(&gates[layer]) > DEGENERATE).collect();
    let layers = match bad.as_slice() {
        [] => return None,
        all if all.len() == gates.len() => "all layers".to_owned(),
        [one] => format!("layer {one}"),
        some => {
            let names: Vec<String> = some.iter().map(usize::to_string).collect();
            format!("layers {}", names.join(", "))
        }
    };
    Some(format!(
        "the router of {layers} has a condition number above {DEGENERATE}: its rows are too similar, and some experts will \
         hardly be used; choose prompts that differ more"
    ))
}

/// Largest by smallest singular value of the matrix with these rows.
fn condition(rows: &[Vec<f64>]) -> f64 {
    let gram: Vec<Vec<f64>> = rows
        .iter()
        .map(|a| rows.iter().map(|b| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect())
        .collect();
    let eigenvalues = eigenvalues(gram);
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    let smallest = eigenvalues.iter().copied().fold(f64::INFINITY, f64::min).max(0.0);
    (largest / smallest).sqrt()
}

/// Eigenvalues of a small symmetric matrix, by Jacobi's rotations.
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..50 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        let all: f64 = a.iter().flatten().map(|x| x * x).sum();
        if off <= 1e-30 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, TensorMap, engine::source::MapSource, tools::moe::Expert};
    use mtl_core::Seed;

    #[test]
    fn the_condition_number_is_that_of_the_singular_values() {
        let rows = |a: [f64; 3], b: [f64; 3]| condition(&[a.to_vec(), b.to_vec()]);
        assert!((rows([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((rows([3.0, 0.0, 0.0], [0.0, 0.0, -4.0]) - 4.0 / 3.0).abs() < 1e-12);
        // Unit rows with cosine c have singular values √(1 ± c).
        assert!((rows([1.0, 0.0, 0.0], [0.6, 0.8, 0.0]) - 2.0).abs() < 1e-12);
        assert!(rows([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) > 1e6);
    }

    #[test]
    fn similar_routers_are_reported_by_layer() {
        let good = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let bad = vec![vec![1.0, 0.0], vec![1.0, 0.01]];
        assert_eq!(degenerate(&vec![good.clone(), good.clone()]), None);
        let text = degenerate(&vec![good, bad.clone(), bad.clone()]).unwrap();
        assert!(text.starts_with("the router of layers 1, 2 has"), "{text}");
        assert!(degenerate(&vec![bad]).unwrap().contains("all layers"));
    }

    #[test]
    fn cheap_gates_are_normalised_sums_of_embeddings() {
        let table = HostTensor::new(vec![3, 2], vec![3.0, 0.0, 0.0, 4.0, 0.0, 2.0]).unwrap();
        let map = TensorMap::from([("model.embed_tokens.weight".to_owned(), table)]);
        let source = MapSource::new("m", &map);
        let positive = Encoded { positive: vec![vec![0], vec![1]], negative: vec![] };
        let row = cheap(&source, &positive, 2).unwrap();
        assert!((row[0] - 0.6).abs() < 1e-12 && (row[1] - 0.8).abs() < 1e-12);
        let both = Encoded { positive: vec![vec![0, 1]], negative: vec![vec![2, 2]] };
        let row = cheap(&source, &both, 2).unwrap(); // (0.6, 0.8) - (0, 1), normalised.
        let norm = 0.4_f64.sqrt();
        assert!((row[0] - 0.6 / norm).abs() < 1e-12 && (row[1] + 0.2 / norm).abs() < 1e-12);
    }

    #[test]
    fn random_gates_have_their_distribution_and_depend_on_the_seed() {
        let places: Vec<String> = ["experts[0]", "experts[1]"].map(str::to_owned).into();
        let draw = |mode, seed| {
            let mut config = MoeConfig::new("b", vec![Expert::new("a"), Expert::new("b")]);
            (config.gate_mode, config.seed) = (mode, Seed(seed));
            random(&config, &places, (3, 4000)).concat().concat()
        };
        let normal = draw(GateMode::Random, 1);
        let n = normal.len() as f64;
        let (mean, square) = (normal.iter().sum::<f64>() / n, normal.iter().map(|x| x * x).sum::<f64>() / n);
        assert!(
            mean.abs() < 4.0 / n.sqrt() && (square - 1.0).abs() < 4.0 * (2.0 / n).sqrt(),
            "{mean} {square}"
        );
        let bound = 1.0 / 4000_f64.sqrt();
        let uniform = draw(GateMode::UniformRandom, 1);
        let square = uniform.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(uniform.iter().all(|x| x.abs() <= bound));
        assert!((square / (bound * bound / 3.0) - 1.0).abs() < 0.05);
        assert!(normal == draw(GateMode::Random, 1) && normal != draw(GateMode::Random, 2));
    }
}
