//! Hidden states of a Llama-like model (Touvron et al., *LLaMA*, arXiv 2302.13971; Mistral, Qwen2 and Qwen3 alike),
//! computed from the mapped checkpoint, layer by layer.
//!
//! Matrix products are in `f32`; norms, attention weights and rotations in `f64`. Memory holds the activations of the
//! prompts and a few rows of one weight, never a layer.
use crate::{
    Error, Result,
    engine::source::{Source, non_finite},
    tensor::with_scratch,
};
use multiversion::multiversion;
use rayon::prelude::*;
use serde_json::{Map, Value};
use std::{f64::consts::PI, ops::Range};

/// Elements of a weight that a thread multiplies at a time.
const ROWS: usize = 1 << 16;
/// What the forward pass can run.
const MODEL_TYPES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// The sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f64,
    /// Angle per position, for each pair of a head's elements.
    frequencies: Vec<f64>,
    /// Tokens that attention looks back on, the present one included.
    window: Option<usize>,
}

/// A model to be run.
pub(super) struct Llama<'s> {
    source: &'s dyn Source,
    shape: Shape,
}

/// What becomes of the states of a prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Last,
    Mean,
}

impl<'s> Llama<'s> {
    /// Reads what the forward pass needs off `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] for models that this forward pass cannot run, with the gate modes that need none.
    pub(super) fn new(source: &'s dyn Source, config: &Map<String, Value>) -> Result<Self> {
        let shape = Shape::read(config).map_err(|message| Error::Recipe {
            path: "gate_mode".into(),
            message: format!(
                "hidden states of this base model cannot be computed: {message}; `cheap_embed`, `random` and \
                 `uniform_random` do without"
            ),
        })?;
        Ok(Self { source, shape })
    }

    /// Pooled states of every prompt at the entrance of every layer: `[layer][prompt][hidden]`.
    pub(super) fn hidden_states(&self, prompts: &[&[u32]], pool: Pool) -> Result<Vec<Vec<Vec<f64>>>> {
        let spans: Vec<Range<usize>> = prompts
            .iter()
            .scan(0, |end, prompt| {
                let start = *end;
                *end += prompt.len();
                Some(start..*end)
            })
            .collect();
        let mut states = self.embed(prompts)?;
        let mut pooled = Vec::with_capacity(self.shape.layers);
        for layer in 0..self.shape.layers {
            pooled.push(spans.iter().map(|span| self.pool(&states, span, pool)).collect());
            // Nothing looks at what leaves the last layer.
            if layer + 1 < self.shape.layers {
                self.layer(layer, &spans, &mut states)?;
            }
        }
        Ok(pooled)
    }

    fn pool(&self, states: &[f32], span: &Range<usize>, pool: Pool) -> Vec<f64> {
        let hidden = self.shape.hidden;
        let tokens = if pool == Pool::Last { span.end - 1..span.end } else { span.clone() };
        let mut sum = vec![0.0; hidden];
        for token in tokens.clone() {
            for (sum, x) in sum.iter_mut().zip(&states[token * hidden..][..hidden]) {
                *sum += f64::from(*x);
            }
        }
        sum.iter_mut().for_each(|x| *x /= tokens.len() as f64);
        sum
    }

    fn embed(&self, prompts: &[&[u32]]) -> Result<Vec<f32>> {
        let hidden = self.shape.hidden;
        let at = self.find("model.embed_tokens.weight")?;
        let mut states = Vec::new();
        let mut row = vec![0.0; hidden];
        for &token in prompts.iter().copied().flatten() {
            let start = token as usize * hidden;
            read(self.source, at, start..start + hidden, &mut row)?;
            states.extend(row.iter().map(|&x| x as f32));
        }
        Ok(states)
    }

    /// One layer: attention and perceptron, each behind its norm and added to the stream.
    fn layer(&self, layer: usize, spans: &[Range<usize>], states: &mut [f32]) -> Result<()> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let Shape { hidden, heads, kv_heads, head_dim, .. } = self.shape;
        let input = self.norm(&name("input_layernorm"), states, hidden)?;
        let mut q = self.project(&name("self_attn.q_proj"), &input, hidden)?;
        let mut k = self.project(&name("self_attn.k_proj"), &input, hidden)?;
        let v = self.project(&name("self_attn.v_proj"), &input, hidden)?;
        for (values, part) in [(&mut q, "self_attn.q_norm"), (&mut k, "self_attn.k_norm")] {
            if self.source.find(&format!("{}.weight", name(part))).is_some() {
                *values = self.norm(&name(part), values, head_dim)?; // Qwen3: per head.
            }
        }
        for span in spans {
            for (values, heads) in [(&mut q, heads), (&mut k, kv_heads)] {
                let width = heads * head_dim;
                self.rotate(&mut values[span.start * width..span.end * width], width);
            }
        }
        let mixed: Vec<Vec<f32>> = spans.par_iter().map(|span| self.attend(&q, &k, &v, span)).collect();
        let mixed = mixed.concat();
        add(states, &self.project(&name("self_attn.o_proj"), &mixed, heads * head_dim)?);

        let input = self.norm(&name("post_attention_layernorm"), states, hidden)?;
        let mut gate = self.project(&name("mlp.gate_proj"), &input, hidden)?;
        let up = self.project(&name("mlp.up_proj"), &input, hidden)?;
        for (gate, up) in gate.iter_mut().zip(&up) {
            let x = f64::from(*gate);
            *gate = (x / (1.0 + (-x).exp()) * f64::from(*up)) as f32; // SiLU(gate) · up.
        }
        let width = gate.len() / (input.len() / hidden).max(1);
        add(states, &self.project(&name("mlp.down_proj"), &gate, width)?);
        Ok(())
    }

    /// Root-mean-square norm of every run of `width` values.
    fn norm(&self, module: &str, values: &[f32], width: usize) -> Result<Vec<f32>> {
        let at = self.find(&format!("{module}.weight"))?;
        self.expect(at, &[width])?;
        let mut weight = vec![0.0; width];
        read(self.source, at, 0..width, &mut weight)?;
        let mut out = Vec::with_capacity(values.len());
        for row in values.chunks_exact(width) {
            let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let scale = 1.0 / (square / width as f64 + self.shape.eps).sqrt();
            out.extend(row.iter().zip(&weight).map(|(&x, w)| (f64::from(x) * scale * w) as f32));
        }
        Ok(out)
    }

    /// `x Wᵀ + b` for every run of `width` values.
    fn project(&self, module: &str, input: &[f32], width: usize) -> Result<Vec<f32>> {
        let at = self.find(&format!("{module}.weight"))?;
        let rows = self.source.tensors()[at].shape.first().copied().unwrap_or_default();
        self.expect(at, &[rows, width])?;
        let mut bias = vec![0.0; rows];
        if let Some(at) = self.source.find(&format!("{module}.bias")) {
            self.expect(at, &[rows])?;
            read(self.source, at, 0..rows, &mut bias)?;
        }
        let step = (ROWS / width.max(1)).max(1);
        let starts: Vec<usize> = (0..rows).step_by(step).collect();
        // Each block gives [row, token]; the columns of the result are put together from them.
        let blocks: Vec<Result<Vec<f32>>> = starts
            .par_iter()
            .map(|&start| {
                let end = (start + step).min(rows);
                let weights = with_scratch(|wide| {
                    wide.resize((end - start) * width, 0.0);
                    read(self.source, at, start * width..end * width, wide)?;
                    Ok::<_, Error>(wide.iter().map(|&x| x as f32).collect::<Vec<f32>>())
                })?;
                let products = weights.chunks_exact(width).zip(&bias[start..end]).flat_map(|(row, bias)| {
                    input.chunks_exact(width).map(move |x| dot(row, x) + *bias as f32)
                });
                Ok(products.collect())
            })
            .collect();
        let tokens = input.len() / width.max(1);
        let mut out = vec![0.0; tokens * rows];
        for (&start, block) in starts.iter().zip(blocks) {
            for (row, products) in block?.chunks_exact(tokens.max(1)).enumerate() {
                for (token, &x) in products.iter().enumerate() {
                    out[token * rows + start + row] = x;
                }
            }
        }
        Ok(out)
    }

    /// Rotary embedding (Su et al., *RoFormer*, arXiv 2104.09864) of one prompt; pairs are a head's two halves.
    fn rotate(&self, values: &mut [f32], width: usize) {
        let half = self.shape.head_dim / 2;
        for (position, row) in values.chunks_exact_mut(width).enumerate() {
            for head in row.chunks_exact_mut(self.shape.head_dim) {
                let (first, second) = head.split_at_mut(half);
                for ((a, b), frequency) in first.iter_mut().zip(second).zip(&self.shape.frequencies) {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (x, y) = (f64::from(*a), f64::from(*b));
                    (*a, *b) = ((x * cos - y * sin) as f32, (y * cos + x * sin) as f32);
                }
            }
        }
    }

    /// Causal attention within one prompt; groups of heads share keys and values.
    fn attend(&self, q: &[f32], k: &[f32], v: &[f32], span: &Range<usize>) -> Vec<f32> {
        let Shape { heads, kv_heads, head_dim, window, .. } = self.shape;
        let at = |token: usize, head: usize, heads: usize| {
            let start = (token * heads + head) * head_dim;
            start..start + head_dim
        };
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mut out = Vec::with_capacity(span.len() * heads * head_dim);
        for i in span.clone() {
            let first = window.map_or(span.start, |w| span.start.max((i + 1).saturating_sub(w)));
            for head in 0..heads {
                let shared = head / (heads / kv_heads);
                let query = &q[at(i, head, heads)];
                let score = |j| f64::from(dot(query, &k[at(j, shared, kv_heads)])) * scale;
                let mut weights: Vec<f64> = (first..=i).map(score).collect();
                let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
                let sum: f64 = weights.iter().sum();
                let mut mixed = vec![0.0; head_dim];
                for (j, weight) in (first..=i).zip(weights) {
                    for (mixed, &x) in mixed.iter_mut().zip(&v[at(j, shared, kv_heads)]) {
                        *mixed += weight / sum * f64::from(x);
                    }
                }
                out.extend(mixed.iter().map(|&x| x as f32));
            }
        }
        out
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.source.find(name).ok_or_else(|| {
            let differences = format!("`{}` has no `{name}`", self.source.label());
            Error::Mismatch { differences }
        })
    }

    fn expect(&self, at: usize, shape: &[usize]) -> Result<()> {
        let meta = &self.source.tensors()[at];
        if meta.shape == shape {
            return Ok(());
        }
        let (place, name, found) = (self.source.place(at), &meta.name, &meta.shape);
        let differences =
            format!("`{name}` in `{place}` has shape {found:?}, but its config.json says {shape:?}");
        Err(Error::Mismatch { differences })
    }
}

impl Shape {
    fn read(config: &Map<String, Value>) -> Result<Self, String> {
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("none");
        if !MODEL_TYPES.contains(&kind) {
            return Err(format!("its `model_type` is {kind}, not one of {}", MODEL_TYPES.join(", ")));
        }
        let count = |key: &str, default: Option<usize>| -> Result<usize, String> {
            let given = config.get(key).filter(|value| !value.is_null());
            let count = given.map_or(default, |value| value.as_u64().map(|x| x as usize));
            count.filter(|&x| x > 0).ok_or_else(|| format!("`{key}` in its config.json must be at least 1"))
        };
        let activation = config.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
        if !matches!(activation, "silu" | "swish") {
            return Err(format!("its activation is {activation}, not silu"));
        }
        let (hidden, heads) = (count("hidden_size", None)?, count("num_attention_heads", None)?);
        let kv_heads = count("num_key_value_heads", Some(heads))?;
        let head_dim = count("head_dim", Some(hidden / heads))?;
        if heads % kv_heads != 0 || head_dim % 2 != 0 {
            return Err(format!("{heads} heads of {head_dim} do not fit {kv_heads} heads of keys"));
        }
        let window_used =
            config.get("use_sliding_window").and_then(Value::as_bool).unwrap_or(kind == "mistral");
        let window = config.get("sliding_window").and_then(Value::as_u64).filter(|_| window_used);
        Ok(Self {
            hidden,
            layers: count("num_hidden_layers", None)?,
            heads,
            kv_heads,
            head_dim,
            eps: config.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6),
            frequencies: frequencies(config, head_dim)?,
            window: window.map(|w| (w as usize).max(1)),
        })
    }
}

/// Angles per position, with the scaling of the configuration.
fn frequencies(config: &Map<String, Value>, head_dim: usize) -> Result<Vec<f64>, String> {
    let empty = Map::new();
    let scaling = ["rope_parameters", "rope_scaling"].iter().find_map(|key| config.get(*key)?.as_object());
    let scaling = scaling.unwrap_or(&empty);
    let theta = [scaling.get("rope_theta"), config.get("rope_theta")];
    let theta = theta.into_iter().flatten().find_map(Value::as_f64).unwrap_or(10_000.0);
    let plain = (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
    let kind = ["rope_type", "type"].iter().find_map(|key| scaling.get(*key)?.as_str()).unwrap_or("default");
    let number = |key: &str| {
        let found = scaling.get(key).and_then(Value::as_f64).filter(|x| *x > 0.0);
        found.ok_or_else(|| format!("the rotary scaling `{kind}` needs a positive `{key}`"))
    };
    match kind {
        // The dynamic kind changes only what is longer than the model's context.
        "default" | "dynamic" => Ok(plain.collect()),
        "linear" => {
            let factor = number("factor")?;
            Ok(plain.map(|f| f / factor).collect())
        }
        "llama3" => {
            let (factor, low) = (number("factor")?, number("low_freq_factor")?);
            let (high, context) = (number("high_freq_factor")?, number("original_max_position_embeddings")?);
            let scaled = |f: f64| {
                let turns = context * f / (2.0 * PI);
                // Slow ones are stretched, fast ones are not, between them is a linear passage.
                let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - fast) * f / factor + fast * f
            };
            Ok(plain.map(scaled).collect())
        }
        other => Err(format!("its rotary scaling is `{other}`, not linear or llama3")),
    }
}

fn read(source: &dyn Source, at: usize, span: Range<usize>, out: &mut [f64]) -> Result<()> {
    if source.read(at, span, out)? { Ok(()) } else { Err(non_finite(source, at)?) }
}

fn add(states: &mut [f32], change: &[f32]) {
    states.iter_mut().zip(change).for_each(|(state, x)| *state += x);
}

/// The inner product, in 16 sums that are added in order.
#[multiversion(targets("x86_64+avx2"))]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
#[path = "llama_tests.rs"]
mod tests;
