//! Gradients of linear layers that are never formed: their inner products from what goes in and what comes back.
//!
//! For `y = x Wᵀ + b` with rows `X` `[rows, in]` and task k's output gradients `D_k` `[rows, out]`, the gradient of `W` is
//! `D_kᵀ X`, so `⟨∂W L_i, ∂W L_j⟩ = ⟨(X Xᵀ) D_i, D_j⟩`, and the bias adds 1 to every entry of `X Xᵀ`. The weighted sum of the
//! gradients then takes a single product, `(Σ w_k D_k)ᵀ X`. Where forming the gradients is cheaper, they are formed.
use super::{
    Gram, TaskGrads,
    products::{products, weighted_sum},
};
use crate::{
    Error, ParamSource, Result, StateDict, no_grad,
    source::{self, Param},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};
use tch::Tensor;

/// One use of a linear layer in a forward pass.
#[derive(Debug)]
pub(crate) struct Call {
    /// Layer; its parameters are `{name}.weight` and, perhaps, `{name}.bias`.
    name: String,
    /// What went in, `[rows, in]`, outside the graph.
    x: Tensor,
    /// What came out, in the graph.
    pub(crate) y: Tensor,
    /// Version of what came out: operations in place would take its place in the graph.
    version: i64,
}

impl Call {
    /// Moves the gradient of this call's output, if there is one, into those of the parameters: for a layer that the model
    /// also used in another way, whose two parts make one gradient.
    pub(crate) fn form(&self, has_bias: bool, output: &mut Tensor, grads: &mut StateDict) {
        if !output.defined() {
            return;
        }
        let outputs = output.size().last().copied().unwrap_or(1);
        no_grad(|| {
            let delta = std::mem::replace(output, Tensor::new()).reshape([-1, outputs]);
            let mut add = |suffix: &str, part: Tensor| {
                let name = format!("{}.{suffix}", self.name);
                let sum = grads.get(&name).map_or_else(|| part.shallow_clone(), |there| there + &part);
                grads.insert(name, sum);
            };
            add("weight", delta.tr().matmul(&self.x));
            if has_bias {
                add("bias", bias_gradient(&delta));
            }
        });
    }

    /// Names of the layer's parameters.
    pub(crate) fn params(&self) -> [String; 2] {
        [format!("{}.weight", self.name), format!("{}.bias", self.name)]
    }
}

/// Parameters whose shared linear layers are cut out of the graph and written down instead, where that is cheaper.
pub(crate) struct Recorder<'a> {
    params: &'a StateDict,
    is_shared: &'a dyn Fn(&str) -> bool,
    tasks: i64,
    calls: RefCell<Vec<Call>>,
    /// Parameters that the model asked for by name.
    direct: RefCell<BTreeSet<String>>,
}

impl std::fmt::Debug for Recorder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("calls", &self.calls.borrow().len()).finish_non_exhaustive()
    }
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(params: &'a StateDict, is_shared: &'a dyn Fn(&str) -> bool, tasks: usize) -> Self {
        let (calls, direct) = (RefCell::default(), RefCell::default());
        Self { params, is_shared, tasks: tasks as i64, calls, direct }
    }

    /// The calls, and the trainable parameters whose gradients have to come from the graph.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the model changed the output of a linear layer in place.
    pub(crate) fn finish(self) -> Result<(Vec<Call>, Vec<String>)> {
        let (calls, direct) = (self.calls.into_inner(), self.direct.into_inner());
        for call in &calls {
            if call.y.f_internal_version()? != call.version {
                let must = "left as it is, or `gram` set to `gradients`";
                return Err(Error::config(format!("output of {}", call.name), must, "changed in place"));
            }
        }
        let recorded: BTreeSet<String> = calls
            .iter()
            .flat_map(|call| [format!("{}.weight", call.name), format!("{}.bias", call.name)])
            .collect();
        let mut names = self.params.trainable_names();
        names.retain(|name| direct.contains(name) || !recorded.contains(name));
        Ok((calls, names))
    }

    /// Whether the layer's parameters are all shared, trained and where they should be, and few enough rows go in: output
    /// gradients of many rows, such as tokens, take more memory than weight gradients, and more time.
    fn records(&self, weight: &Tensor, bias: Option<&Tensor>, name: &str, x: &Tensor) -> bool {
        let Ok((outputs, inputs)) = weight.size2() else { return false };
        let rows = x.numel() as i64 / inputs.max(1);
        let fits =
            |suffix: &str, t: &Tensor| t.requires_grad() && (self.is_shared)(&format!("{name}.{suffix}"));
        fits("weight", weight)
            && bias.is_none_or(|bias| fits("bias", bias))
            && Route::of(rows, inputs, outputs, self.tasks) == Route::Deltas
    }
}

impl ParamSource for Recorder<'_> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        let found = self.params.find(name)?;
        if found.is_some() {
            self.direct.borrow_mut().insert(name.to_owned());
        }
        Ok(found)
    }

    fn names(&self) -> Vec<String> {
        ParamSource::names(self.params)
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) =
            (self.params.get(&format!("{name}.weight")), self.params.get(&format!("{name}.bias")));
        let Some(weight) = weight.filter(|weight| self.records(weight, bias, name, x)) else {
            self.direct.borrow_mut().extend(["weight", "bias"].map(|suffix| format!("{name}.{suffix}")));
            return self.params.linear(name, x);
        };
        let bias = bias.map(Tensor::detach);
        let y = source::linear(name, x, &weight.detach(), bias.as_ref())?;
        // Where nothing before the layer is trained, its output is where the graph starts.
        let y = if y.requires_grad() { y } else { y.set_requires_grad(true) };
        let inputs = x.size().last().copied().unwrap_or(1);
        let rows = x.detach().reshape([-1, inputs]);
        let version = y.f_internal_version()?;
        self.calls.borrow_mut().push(Call { name: name.to_owned(), x: rows, y: y.shallow_clone(), version });
        Ok(y)
    }
}

/// All uses of one layer, put one below the other.
#[derive(Debug)]
struct Layer {
    name: String,
    has_bias: bool,
    /// What went in, `[rows, in]`.
    x: Tensor,
    /// What came back for each task, `[rows, out]`; absent where the task does not use the layer.
    deltas: Vec<Option<Tensor>>,
}

/// How the inner products of a layer's gradients are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// From inputs and output gradients.
    Deltas,
    /// From gradients, formed one layer at a time.
    Formed,
}

impl Route {
    /// The one with fewer multiplications; forming also writes and reads the gradients, which counts eightfold.
    fn of(rows: i64, inputs: i64, outputs: i64, tasks: i64) -> Self {
        let [rows, inputs, outputs, tasks] = [rows, inputs, outputs, tasks].map(|n| n as f64);
        let pairs = tasks * (tasks + 1.0) / 2.0;
        let deltas = rows * rows * (inputs + tasks * outputs) + pairs * rows * outputs;
        let formed = tasks * rows * inputs * outputs + (8.0 * tasks + pairs) * inputs * outputs;
        if deltas <= formed { Self::Deltas } else { Self::Formed }
    }
}

impl Layer {
    /// Rows, inputs and outputs.
    fn dims(&self) -> Option<(i64, i64, i64)> {
        let (rows, inputs) = self.x.size2().ok()?;
        let outputs = self.deltas.iter().flatten().next()?.size().last().copied()?;
        Some((rows, inputs, outputs))
    }

    /// By all uses together: each may have been worth writing down and all of them not.
    fn route(&self) -> Route {
        let Some((rows, inputs, outputs)) = self.dims() else { return Route::Deltas };
        Route::of(rows, inputs, outputs, self.deltas.iter().flatten().count() as i64)
    }

    /// Adds the inner products of this layer's gradients.
    fn add_products(&self, rows: &mut [Vec<f64>]) -> Result<()> {
        let (tasks, deltas): (Vec<usize>, Vec<&Tensor>) =
            self.deltas.iter().enumerate().filter_map(|(task, delta)| Some((task, delta.as_ref()?))).unzip();
        let own: Vec<Tensor> = deltas.iter().map(|delta| delta.contiguous()).collect();
        let found = no_grad(|| match self.route() {
            Route::Deltas => {
                let mut kernel = self.x.matmul(&self.x.tr()); // [rows, rows]
                if self.has_bias {
                    let _ = kernel.g_add_scalar_(1.0);
                }
                let mixed: Vec<Tensor> = own.iter().map(|delta| kernel.matmul(delta)).collect();
                products(&mixed, Some(&own))
            }
            Route::Formed => {
                let formed: Vec<Tensor> = own.iter().map(|delta| delta.tr().matmul(&self.x)).collect();
                let mut sums = products(&formed, None)?;
                if self.has_bias {
                    let biases: Vec<Tensor> = own.iter().map(bias_gradient).collect();
                    let extra = products(&biases, None)?;
                    sums.iter_mut().flatten().zip(extra.into_iter().flatten()).for_each(|(sum, e)| *sum += e);
                }
                Ok(sums)
            }
        })?;
        for (a, &i) in tasks.iter().enumerate() {
            for (b, &j) in tasks.iter().enumerate() {
                // Symmetric to the last bit whatever the rounding of the two products was.
                let of = |a: usize, b: usize| found.get(a).and_then(|row| row.get(b)).copied().unwrap_or(0.0);
                if let Some(sum) = rows.get_mut(i).and_then(|row| row.get_mut(j)) {
                    *sum += f64::midpoint(of(a, b), of(b, a));
                }
            }
        }
        Ok(())
    }

    /// The weighted sum of the gradients of weight and bias, with `extra` output gradients added.
    fn combined(&self, weights: &[f64], extra: Option<&Tensor>) -> Vec<(String, Tensor)> {
        let mut terms: Vec<(f64, Tensor)> = self
            .deltas
            .iter()
            .zip(weights)
            .filter_map(|(delta, &weight)| Some((weight, delta.as_ref()?.shallow_clone())))
            .collect();
        terms.extend(extra.map(|extra| (1.0, extra.shallow_clone())));
        let Some(delta) = weighted_sum(&terms, false) else { return Vec::new() };
        no_grad(|| {
            let weight = (format!("{}.weight", self.name), delta.tr().matmul(&self.x));
            let bias = self.has_bias.then(|| (format!("{}.bias", self.name), bias_gradient(&delta)));
            std::iter::once(weight).chain(bias).collect()
        })
    }
}

/// The gradient of the bias, from output gradients `[rows, out]`.
fn bias_gradient(delta: &Tensor) -> Tensor {
    delta.sum_dim_intlist([0i64].as_slice(), false, delta.kind())
}

/// Gradients of shared parameters: those of linear layers as inputs and output gradients, the others as they are.
#[derive(Debug)]
pub(crate) struct LayerGrads {
    layers: Vec<Layer>,
    rest: TaskGrads,
}

impl LayerGrads {
    /// Puts together what each backward pass gave: gradients of the outputs of `calls`, in their order, undefined ones where
    /// a task does not use the call; and the gradients of all other shared parameters.
    pub(crate) fn new(
        params: &StateDict,
        calls: &[Call],
        outputs: &[Vec<Tensor>],
        rest: Vec<StateDict>,
    ) -> Result<Self> {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, call) in calls.iter().enumerate() {
            by_name.entry(&call.name).or_default().push(i);
        }
        let layer = |(name, uses): (&str, Vec<usize>)| Layer {
            name: name.to_owned(),
            has_bias: params.get(&format!("{name}.bias")).is_some(),
            x: stack(uses.iter().filter_map(|&i| Some(calls.get(i)?.x.shallow_clone())).collect()),
            deltas: outputs.iter().map(|grads| below_each_other(&uses, calls, grads)).collect(),
        };
        Ok(Self { layers: by_name.into_iter().map(layer).collect(), rest: TaskGrads::new(rest)? })
    }

    /// Inner products of the gradients of all tasks.
    pub(crate) fn gram(&self) -> Result<Gram> {
        let mut rows = self.rest.gram()?.rows();
        self.layers.iter().try_for_each(|layer| layer.add_products(&mut rows))?;
        Gram::from_rows(&rows)
    }

    /// `Σ w_k g_k`, with one more gradient added: that of auxiliary losses, given as each task's were.
    pub(crate) fn combine(self, weights: &[f64], extra: Option<(&[Call], Vec<Tensor>)>) -> Result<StateDict> {
        let tasks = self.rest.tasks();
        if weights.len() != tasks {
            return Err(Error::shape("weights", format!("[{tasks}]"), vec![weights.len() as i64]));
        }
        let mut total = StateDict::new();
        // Each layer's output gradients go as its weight gradient comes.
        for layer in self.layers {
            let extra = extra.as_ref().and_then(|(calls, grads)| {
                let uses: Vec<usize> =
                    calls.iter().enumerate().filter(|(_, c)| c.name == layer.name).map(|(i, _)| i).collect();
                below_each_other(&uses, calls, grads)
            });
            total.extend(layer.combined(weights, extra.as_ref()));
        }
        total.extend(self.rest.into_combined(weights)?);
        Ok(total)
    }
}

fn stack(mut parts: Vec<Tensor>) -> Tensor {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    Tensor::cat(&parts, 0)
}

/// The output gradients of a layer's uses `[rows, out]`, zero for a use without; `None` when there is none at all.
fn below_each_other(uses: &[usize], calls: &[Call], grads: &[Tensor]) -> Option<Tensor> {
    let defined = |i: usize| grads.get(i).filter(|grad| grad.defined());
    uses.iter().find_map(|&i| defined(i))?;
    let rows = |&i: &usize| {
        let y = &calls.get(i)?.y;
        let outputs = y.size().last().copied()?;
        let grad = defined(i).map_or_else(|| no_grad(|| y.zeros_like()), Tensor::shallow_clone);
        Some(grad.reshape([-1, outputs]))
    };
    Some(stack(uses.iter().filter_map(rows).collect()))
}
