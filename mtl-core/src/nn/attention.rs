//! Multi-head attention: Vaswani et al., *Attention Is All You Need*, NeurIPS 2017, arXiv 1706.03762; key and value
//! prefixes: Li & Liang, *Prefix-Tuning*, ACL 2021, arXiv 2101.00190.
use super::{Init, check_probability, linear};
use crate::{Context, Error, ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// What changes an attention besides queries, keys and values; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attend<'a> {
    /// Keys and values put before the others, `[n, dim]` for all examples or `[batch, n, dim]`, as they come out of
    /// the projections.
    pub prefix: Option<(&'a Tensor, &'a Tensor)>,
    /// True where a query may look at a key, broadcastable to `[batch, heads, queries, keys]`; the prefix, which every
    /// query sees, is not part of it.
    pub mask: Option<&'a Tensor>,
    /// Whether a query sees only the keys up to its own position (and the whole prefix). Not together with a mask.
    pub causal: bool,
    /// Probability of dropping an attention weight; 0 in evaluation.
    pub dropout: f64,
}

/// softmax(Q Kᵀ / √(dim / heads)) V in each head; `query` is `[batch, queries, dim]`, `key` and `value` are
/// `[batch, keys, dim]`, the result is `[batch, queries, dim]`.
///
/// # Errors
///
/// [`Error::Shape`] naming the argument when shapes do not fit, [`Error::Config`] when `heads` does not divide `dim`
/// or a mask comes together with `causal`.
pub fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: i64,
    options: Attend<'_>,
) -> Result<Tensor> {
    let (batch, queries, dim) = check::dims3(query, "query", "[batch, queries, dim]")?;
    let (_, keys, _) = check::dims3(key, "key", "[batch, keys, dim]")?;
    for (name, tensor) in [("key", key), ("value", value)] {
        if tensor.size() != [batch, keys, dim] {
            return Err(Error::shape(name, format!("[{batch}, {keys}, {dim}]"), tensor.size()));
        }
    }
    if heads < 1 || dim % heads != 0 {
        return Err(Error::config("heads", format!("a divisor of {dim}"), heads));
    }
    if options.causal && options.mask.is_some() {
        return Err(Error::config("mask", "absent in causal attention", "present"));
    }
    let split = |t: &Tensor| t.view([batch, -1, heads, dim / heads]).transpose(1, 2); // [batch, heads, tokens, dim / heads]
    let (key, value, prefix) = match options.prefix {
        None => (split(key), split(value), 0),
        Some((prefix_key, prefix_value)) => {
            let prefix_key = expand_prefix(prefix_key, "prefix key", batch, dim)?;
            let prefix_value = expand_prefix(prefix_value, "prefix value", batch, dim)?;
            let n = prefix_key.size()[1];
            if prefix_value.size() != prefix_key.size() {
                let expected = format!("{:?}", prefix_key.size());
                return Err(Error::shape("prefix value", expected, prefix_value.size()));
            }
            let key = Tensor::cat(&[&prefix_key, key], 1);
            let value = Tensor::cat(&[&prefix_value, value], 1);
            (split(&key), split(&value), n)
        }
    };
    let mask = full_mask(&options, prefix, queries, keys, query);
    let causal = options.causal && prefix == 0;
    let out = Tensor::scaled_dot_product_attention(
        &split(query),
        &key,
        &value,
        mask.as_ref(),
        options.dropout,
        causal,
        None,
        false,
    );
    Ok(out.transpose(1, 2).reshape([batch, queries, dim]))
}

/// A prefix `[n, dim]` or `[batch, n, dim]` as `[batch, n, dim]`.
fn expand_prefix(prefix: &Tensor, name: &str, batch: i64, dim: i64) -> Result<Tensor> {
    match prefix.size()[..] {
        [n, d] if d == dim => Ok(prefix.unsqueeze(0).expand([batch, n, dim], false)),
        [b, _, d] if d == dim && b == batch => Ok(prefix.shallow_clone()),
        ref found => {
            let expected = format!("[n, {dim}] or [{batch}, n, {dim}]");
            Err(Error::shape(name, expected, found.to_vec()))
        }
    }
}

/// The mask over prefix and keys together, where one is needed.
fn full_mask(options: &Attend<'_>, prefix: i64, queries: i64, keys: i64, like: &Tensor) -> Option<Tensor> {
    let kind = (tch::Kind::Bool, like.device());
    if options.causal && prefix > 0 {
        return Some(Tensor::ones([queries, prefix + keys], kind).tril(prefix));
    }
    let mask = options.mask?;
    if prefix == 0 {
        return Some(mask.shallow_clone());
    }
    let mut seen = mask.size();
    if let Some(last) = seen.last_mut() {
        *last = prefix;
    }
    let mut wide = mask.size();
    if let Some(last) = wide.last_mut() {
        *last = keys;
    }
    Some(Tensor::cat(&[Tensor::ones(&seen, kind), mask.expand(&wide, false)], -1))
}

/// Attention with its four linear maps, and a prefix where the source has one.
///
/// The names of its parameters are put together once, when it is built.
///
/// ```
/// use mtl_core::{Context, Seed, StateDict, nn::{Init, MultiHeadAttention}};
/// use tch::{Device, Kind, Tensor};
///
/// let attention = MultiHeadAttention::new("attn", 8, 2)?;
/// let mut params = StateDict::new();
/// attention.init(Init::default(), Seed(0), &mut params)?;
/// assert_eq!(params.names().next(), Some("attn.k_proj.bias"));
/// let x = Tensor::ones([1, 5, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(attention.forward(&params, &x, None, None, &Context::eval())?.size(), [1, 5, 8]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    dim: i64,
    heads: i64,
    bias: bool,
    causal: bool,
    dropout: f64,
    projections: [String; 4],
    prefix: (String, String),
}

impl MultiHeadAttention {
    /// Attention over tokens of width `dim` with maps named `{prefix}.q_proj`, `k_proj`, `v_proj` and `out_proj`, and
    /// an optional `{prefix}.prefix_key` and `{prefix}.prefix_value`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `heads` does not divide `dim`.
    pub fn new(prefix: &str, dim: i64, heads: i64) -> Result<Self> {
        if heads < 1 || dim < 1 || dim % heads != 0 {
            return Err(Error::config(format!("heads of {prefix}"), format!("a divisor of {dim}"), heads));
        }
        let projections = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| format!("{prefix}.{name}"));
        let prefix = (format!("{prefix}.prefix_key"), format!("{prefix}.prefix_value"));
        Ok(Self { dim, heads, bias: true, causal: false, dropout: 0.0, projections, prefix })
    }

    /// Sets the names of the maps: query, key, value, output.
    #[must_use]
    pub fn projections(mut self, names: [String; 4]) -> Self {
        self.projections = names;
        self
    }

    /// Sets whether queries, keys and values have a bias; the output always has.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets whether a query sees only the keys up to its own position.
    #[must_use]
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// Sets the probability of dropping an attention weight in training.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when it is not in 0..1.
    pub fn dropout(mut self, dropout: f64) -> Result<Self> {
        check_probability(dropout, "attention dropout")?;
        self.dropout = dropout;
        Ok(self)
    }

    /// Writes the parameters of the four maps; no prefix.
    ///
    /// # Errors
    ///
    /// See [`Init::fill`].
    pub fn init(&self, weight: Init, seed: Seed, into: &mut StateDict) -> Result<()> {
        let [query, key, value, output] = &self.projections;
        for name in [query, key, value] {
            linear::init(name, self.dim, self.dim, self.bias, weight, seed, into)?;
        }
        linear::init(output, self.dim, self.dim, true, weight, seed, into)
    }

    /// The output for queries `x` `[batch, tokens, dim]` over `memory` `[batch, keys, dim]`, which is `x` itself when
    /// absent. See [`Attend::mask`] for the mask.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a missing parameter, [`Error::Config`] for half a prefix, and what [`attend`] returns.
    pub fn forward(
        &self,
        params: &dyn ParamSource,
        x: &Tensor,
        memory: Option<&Tensor>,
        mask: Option<&Tensor>,
        ctx: &Context,
    ) -> Result<Tensor> {
        let [query, key, value, output] = &self.projections;
        let memory = memory.unwrap_or(x);
        let (query, key) = (params.linear(query, x)?, params.linear(key, memory)?);
        let value = params.linear(value, memory)?;
        let (prefix_key, prefix_value) = (params.find(&self.prefix.0)?, params.find(&self.prefix.1)?);
        if prefix_key.is_some() != prefix_value.is_some() {
            let (there, missing) = if prefix_key.is_some() { (0, 1) } else { (1, 0) };
            let names = [&self.prefix.0, &self.prefix.1];
            return Err(Error::config(
                names[missing].as_str(),
                format!("there with `{}`", names[there]),
                "missing",
            ));
        }
        let options = Attend {
            prefix: prefix_key.as_deref().zip(prefix_value.as_deref()),
            mask,
            causal: self.causal,
            dropout: if ctx.is_training() { self.dropout } else { 0.0 },
        };
        params.linear(output, &attend(&query, &key, &value, self.heads, options)?)
    }

    /// Multiply-accumulates of one example of `tokens` tokens attending to themselves, without a prefix.
    pub fn macs(&self, tokens: i64) -> u64 {
        let (tokens, dim) = (tokens as u64, self.dim as u64);
        4 * tokens * dim * dim + 2 * tokens * tokens * dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use tch::{Device, Kind};

    fn normal(seed: u64, dims: &[i64]) -> Tensor {
        rng::normal(&mut Seed(seed).stream("test", 0), dims, 1.0).set_requires_grad(true)
    }

    /// The definition, head by head; `visible` is `[queries, keys]`.
    fn by_definition(q: &Tensor, k: &Tensor, v: &Tensor, heads: i64, visible: Option<&Tensor>) -> Tensor {
        let width = q.size()[2] / heads;
        let head = |i: i64| {
            let part = |t: &Tensor| t.narrow(2, i * width, width);
            let mut scores = part(q).matmul(&part(k).transpose(1, 2)) / (width as f64).sqrt();
            if let Some(visible) = visible {
                scores = scores.masked_fill(&visible.logical_not(), f64::NEG_INFINITY);
            }
            scores.softmax(-1, Kind::Float).matmul(&part(v))
        };
        Tensor::cat(&(0..heads).map(head).collect::<Vec<_>>(), 2)
    }

    fn assert_same(ours: &Tensor, theirs: &Tensor, inputs: &[&Tensor]) {
        assert!((ours - theirs).abs().max().double_value(&[]) < 1e-5);
        let grads = |y: &Tensor| Tensor::run_backward(&[y.square().sum(Kind::Float)], inputs, false, false);
        for (a, b) in grads(ours).iter().zip(grads(theirs)) {
            assert!((a - b).abs().max().double_value(&[]) < 1e-4 && a.norm().double_value(&[]) > 0.0);
        }
    }

    #[test]
    fn plain_causal_and_masked_attention_are_those_of_the_definition() {
        let (q, k, v) = (normal(1, &[2, 5, 6]), normal(2, &[2, 5, 6]), normal(3, &[2, 5, 6]));
        let lower = Tensor::ones([5, 5], (Kind::Bool, Device::Cpu)).tril(0);
        let run = |options: Attend<'_>| attend(&q, &k, &v, 2, options).unwrap();
        assert_same(&run(Attend::default()), &by_definition(&q, &k, &v, 2, None), &[&q, &k, &v]);
        let wanted = by_definition(&q, &k, &v, 2, Some(&lower));
        assert_same(&run(Attend { causal: true, ..Attend::default() }), &wanted, &[&q, &k, &v]);
        let wanted = by_definition(&q, &k, &v, 2, Some(&lower));
        assert_same(&run(Attend { mask: Some(&lower), ..Attend::default() }), &wanted, &[&q, &k, &v]);
    }

    #[test]
    fn a_prefix_is_the_same_as_keys_and_values_put_in_front() {
        let (q, k, v) = (normal(1, &[2, 5, 6]), normal(2, &[2, 5, 6]), normal(3, &[2, 5, 6]));
        let (pk, pv) = (normal(4, &[3, 6]), normal(5, &[3, 6]));
        let wide = |p: &Tensor, t: &Tensor| Tensor::cat(&[&p.unsqueeze(0).expand([2, 3, 6], false), t], 1);
        let lower = Tensor::ones([5, 5], (Kind::Bool, Device::Cpu)).tril(0);
        let seen = Tensor::cat(&[&Tensor::ones([5, 3], (Kind::Bool, Device::Cpu)), &lower], 1);
        let inputs = [&q, &k, &v, &pk, &pv];
        for (options, visible) in [
            (Attend::default(), None),
            (Attend { causal: true, ..Attend::default() }, Some(&seen)),
            (Attend { mask: Some(&lower), ..Attend::default() }, Some(&seen)),
        ] {
            let wanted = by_definition(&q, &wide(&pk, &k), &wide(&pv, &v), 2, visible);
            let ours = attend(&q, &k, &v, 2, Attend { prefix: Some((&pk, &pv)), ..options }).unwrap();
            assert_same(&ours, &wanted, &inputs);
            let (own_k, own_v) = (pk.unsqueeze(0).repeat([2, 1, 1]), pv.unsqueeze(0).repeat([2, 1, 1]));
            let own = attend(&q, &k, &v, 2, Attend { prefix: Some((&own_k, &own_v)), ..options }).unwrap();
            assert!((own - ours).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn a_padding_mask_of_each_example_hides_its_keys() {
        let (q, k, v) = (normal(1, &[2, 4, 6]), normal(2, &[2, 4, 6]), normal(3, &[2, 4, 6]));
        let mask = Tensor::from_slice(&[true, true, true, true, true, true, false, false]).view([2, 1, 1, 4]);
        let ours = attend(&q, &k, &v, 3, Attend { mask: Some(&mask), ..Attend::default() }).unwrap();
        let short = |t: &Tensor| t.narrow(0, 1, 1).narrow(1, 0, 2);
        let wanted = by_definition(&q.narrow(0, 1, 1), &short(&k), &short(&v), 3, None);
        assert!((ours.narrow(0, 1, 1) - wanted).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (q, k) = (normal(1, &[2, 5, 6]), normal(2, &[2, 4, 6]));
        let refuse = |heads: i64, options: Attend<'_>| attend(&q, &k, &k, heads, options).unwrap_err();
        insta::assert_snapshot!(refuse(4, Attend::default()), @"`heads` must be a divisor of 6, but is 4");
        let p = normal(3, &[3, 5]);
        insta::assert_snapshot!(refuse(2, Attend { prefix: Some((&p, &p)), ..Attend::default() }), @"`prefix key` must have shape [n, 6] or [2, n, 6], but has [3, 5]");
        let err = attend(&q, &k, &q, 2, Attend::default()).unwrap_err();
        insta::assert_snapshot!(err, @"`value` must have shape [2, 4, 6], but has [2, 5, 6]");
    }

    #[test]
    fn half_a_prefix_is_refused() {
        let attention = MultiHeadAttention::new("a", 6, 2).unwrap();
        let mut params = StateDict::new();
        attention.init(Init::default(), Seed(0), &mut params).unwrap();
        params.insert("a.prefix_key", normal(1, &[2, 6]));
        let run = |params: &StateDict| {
            attention.forward(params, &normal(2, &[1, 3, 6]), None, None, &Context::eval()).unwrap_err()
        };
        insta::assert_snapshot!(run(&params), @"`a.prefix_value` must be there with `a.prefix_key`, but is missing");
        let key = params.remove("a.prefix_key").unwrap();
        params.insert("a.prefix_value", key);
        insta::assert_snapshot!(run(&params), @"`a.prefix_key` must be there with `a.prefix_value`, but is missing");
    }
}
