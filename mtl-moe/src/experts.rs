//! Experts and the dispatch of tokens to them.
use crate::router::Routing;
use mtl_core::{
    Cost, Error, ParamSource, Result, Seed, StateDict, check,
    nn::{Activation, Init},
};
use tch::{Kind, Tensor};

/// How tokens get to their experts. All ways give the same output up to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// Sorts the tokens by expert and runs each expert once, on its own tokens.
    #[default]
    Grouped,
    /// Runs every expert on every token and weights the results: the definition, for checking and tiny sizes.
    Dense,
}

/// Feed-forward experts `f_e(x) = W2_e · act(W1_e · x + b1_e) + b2_e`, all of one size.
///
/// Parameters are stacked over the experts: `{prefix}.w1` `[experts, dim, hidden]`, `{prefix}.b1` `[experts, hidden]`,
/// `{prefix}.w2` `[experts, hidden, dim]`, `{prefix}.b2` `[experts, dim]`.
///
/// ```
/// use mtl_core::{Context, Seed, StateDict};
/// use mtl_moe::{Dispatch, ExpertBank, router::TopK};
/// use tch::{Device, Kind, Tensor};
///
/// let bank = ExpertBank { dim: 4, hidden: 8, experts: 3, ..ExpertBank::default() };
/// let mut params = StateDict::new();
/// bank.init("moe", Seed(0), &mut params)?;
/// let x = Tensor::ones([5, 4], (Kind::Float, Device::Cpu));
/// let logits = Tensor::arange(15, (Kind::Float, Device::Cpu)).view([5, 3]);
/// let routing = TopK { k: 2, noise_std: 0.0 }.choose(&logits, "noise", &Context::eval())?;
/// let y = bank.forward(&params, "moe", &x, &routing, Dispatch::Grouped)?;
/// assert_eq!(y.size(), [5, 4]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ExpertBank {
    /// Width of the tokens.
    pub dim: i64,
    /// Width between the two maps of an expert.
    pub hidden: i64,
    /// Number of experts.
    pub experts: i64,
    /// Activation between the two maps.
    pub activation: Activation,
    /// How the weights are drawn; biases are zero.
    pub weight: Init,
}

impl Default for ExpertBank {
    /// The sizes of M³ViT's ViT-small: 16 experts as wide as a token.
    fn default() -> Self {
        let weight = Init::TruncatedNormal { std: 0.02 };
        Self { dim: 384, hidden: 384, experts: 16, activation: Activation::Gelu, weight }
    }
}

impl ExpertBank {
    /// Writes fresh parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when a size is below 1.
    pub fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let Self { dim, hidden, experts, .. } = *self;
        let zero = Init::Constant(0.0);
        for (name, init, dims) in [
            ("w1", self.weight, vec![experts, dim, hidden]),
            ("b1", zero, vec![experts, hidden]),
            ("w2", self.weight, vec![experts, hidden, dim]),
            ("b2", zero, vec![experts, dim]),
        ] {
            let name = format!("{prefix}.{name}");
            into.insert(&name, init.tensor(seed, &name, &dims)?);
        }
        Ok(())
    }

    /// `Σ_k gate_k · f_{index_k}(x)` for `x` `[tokens, dim]`.
    ///
    /// # Errors
    ///
    /// When a parameter is missing or a shape does not fit.
    pub fn forward(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        x: &Tensor,
        routing: &Routing,
        dispatch: Dispatch,
    ) -> Result<Tensor> {
        check::dims2(x, "tokens", "[tokens, dim]")?;
        check::last_dim(x, "tokens", self.dim)?;
        let stack = |name: &str, dims: &[i64]| {
            let name = format!("{prefix}.{name}");
            let param = params.param(&name)?;
            if param.size() == dims {
                Ok(param)
            } else {
                Err(Error::shape(name, format!("{dims:?}"), param.size()))
            }
        };
        let Self { dim, hidden, experts, .. } = *self;
        let (w1, b1) = (stack("w1", &[experts, dim, hidden])?, stack("b1", &[experts, hidden])?);
        let (w2, b2) = (stack("w2", &[experts, hidden, dim])?, stack("b2", &[experts, dim])?);
        // Slices by `unbind`: indexing the stack would allocate a full-size zero gradient for every expert.
        let [w1, b1, w2, b2] = [&w1, &b1, &w2, &b2].map(|stacked| stacked.unbind(0));
        let expert =
            |e: usize, x: &Tensor| b2[e].addmm(&self.activation.apply(&b1[e].addmm(x, &w1[e])), &w2[e]);
        Ok(match dispatch {
            Dispatch::Grouped => grouped(x, routing, experts, expert),
            Dispatch::Dense => dense(x, routing, experts, expert),
        })
    }

    /// Cost of one token that goes to `k` experts; the parameters are those of these experts.
    pub fn cost(&self, k: i64) -> Cost {
        let (k, dim, hidden) = (k as u64, self.dim as u64, self.hidden as u64);
        Cost { macs: k * 2 * dim * hidden, params: k * (2 * dim * hidden + dim + hidden) }
    }
}

/// Each expert once, on a contiguous run of the tokens that chose it; sums in a fixed order.
fn grouped(x: &Tensor, routing: &Routing, experts: i64, expert: impl Fn(usize, &Tensor) -> Tensor) -> Tensor {
    let k = routing.index.size().last().copied().unwrap_or(1);
    let flat = routing.index.flatten(0, -1); // [tokens · k]
    if flat.numel() == 0 {
        return x.zeros_like();
    }
    let (_, order) = flat.sort_stable(true, 0, false); // by expert, then by token
    let counts = Vec::<i64>::try_from(flat.bincount(None::<&Tensor>, experts)).unwrap_or_default();
    let rows = x.index_select(0, &order.divide_scalar_mode(k, "floor"));
    let mut outputs = Vec::with_capacity(counts.len());
    for (e, run) in rows.split_with_sizes(&counts, 0).iter().enumerate() {
        if counts[e] > 0 {
            outputs.push(expert(e, run));
        }
    }
    let gate = routing.gate.flatten(0, -1).index_select(0, &order).unsqueeze(1).to_kind(x.kind());
    let weighted = Tensor::cat(&outputs, 0) * gate; // [tokens · k, dim], by expert
    let positions = Tensor::arange(flat.size()[0], (Kind::Int64, x.device()));
    let back = positions.index_copy(0, &order, &positions); // where each (token, choice) ended up
    let mut dims = x.size();
    dims.insert(1, k);
    weighted.index_select(0, &back).view(dims.as_slice()).sum_dim_intlist([1i64].as_slice(), false, x.kind())
}

fn dense(x: &Tensor, routing: &Routing, experts: i64, expert: impl Fn(usize, &Tensor) -> Tensor) -> Tensor {
    let tokens = x.size()[0];
    let gates = Tensor::zeros([tokens, experts], (routing.gate.kind(), x.device()));
    let gates = gates.scatter_add(1, &routing.index, &routing.gate).to_kind(x.kind()); // [tokens, experts]
    let weighted = |e: i64| expert(e as usize, x) * gates.narrow(1, e, 1);
    (0..experts).map(weighted).reduce(|a, b| a + b).unwrap_or_else(|| x.zeros_like())
}
