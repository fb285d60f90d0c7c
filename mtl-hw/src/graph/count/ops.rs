//! Operations.
use super::CountContext;
use crate::graph::{ModelGraph, Op, OpKind};
use crate::math::{product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What is counted. Counts of different conventions must not be added: they differ by a factor of two and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Convention {
    /// `torch.utils.flop_counter`: two FLOPs per MAC of convolutions, matrix products and fused attention, nothing else.
    Torch,
    /// fvcore: MACs, plus five per layer-norm element, two per batch-norm element, one per element that a global average
    /// pooling reads, one per element of a nearest and four of a bilinear enlargement. Nodes beside the network's output
    /// are not seen. Fused attention counts as its two products, which fvcore itself would skip.
    Fvcore,
    /// thop: MACs of modules only, so attention products are invisible.
    Thop,
    /// Two FLOPs per MAC, one per bias and residual addition, product, ReLU, GELU, SiLU and tanh, three per softmax
    /// element (exponential, sum, division), five per layer-norm, four per root-mean-square-norm and two per batch-norm
    /// element, three per rotated element, one per element that a pooling window or a mean reads, seven per element of
    /// a bilinear enlargement; a gate adds a softmax and E·K comparisons per token; combining experts costs two per
    /// token, expert choice and channel. Look-ups and copies are free.
    Full,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torch => "torch",
            Self::Fvcore => "fvcore",
            Self::Thop => "thop",
            Self::Full => "full",
        })
    }
}

/// Classes that counters report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OpClass {
    /// Convolutions, the patch embedding among them.
    Conv,
    /// Maps with stored weights, gates and experts included.
    Linear,
    /// Products of two activations.
    Matmul,
    /// Layer norms.
    LayerNorm,
    /// Batch norms.
    BatchNorm,
    /// Pooling.
    Pool,
    /// Softmax, activation functions, additions, top-K, other norms.
    Elementwise,
}

/// Operations with their convention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The convention.
    pub convention: Convention,
    /// Sum over classes.
    pub total: u64,
    /// Multiply-accumulates, whatever the convention.
    pub macs: u64,
    /// Count per class; classes that count zero are absent.
    pub by_class: BTreeMap<OpClass, u64>,
    /// Count per kind of operator; kinds that count zero are absent.
    pub by_kind: BTreeMap<OpKind, u64>,
    /// Count per module, in the order of the graph; modules that count zero are absent.
    pub by_module: Vec<(String, u64)>,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.convention {
            Convention::Torch | Convention::Full => "FLOPs",
            Convention::Fvcore | Convention::Thop => "MACs",
        };
        write!(f, "{} {unit} ({} convention)", self.total, self.convention)
    }
}

impl Count {
    fn zero(convention: Convention) -> Self {
        Self {
            convention,
            total: 0,
            macs: 0,
            by_class: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            by_module: Vec::new(),
        }
    }

    /// The sum of two counts, as of two forward passes.
    ///
    /// ```
    /// use mtl_hw::graph::{Convention, VitSpec};
    /// let graph = VitSpec::tiny().graph()?;
    /// let (torch, fvcore) = (graph.count(Convention::Torch)?, graph.count(Convention::Fvcore)?);
    /// assert_eq!(torch.plus(&torch)?.total, 2 * torch.total);
    /// let error = torch.plus(&fvcore).unwrap_err();
    /// assert_eq!(error.to_string(), "`convention` must be torch, as of the count it is added to, but is fvcore");
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for another convention, [`HwError::Overflow`] beyond 64 bits.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        if self.convention != other.convention {
            let must = format!("{}, as of the count it is added to", self.convention);
            return Err(HwError::config("convention", must, other.convention));
        }
        let mut out = self.clone();
        out.total = sum("operations", [out.total, other.total])?;
        out.macs = sum("macs", [out.macs, other.macs])?;
        for (&class, &n) in &other.by_class {
            add(out.by_class.entry(class).or_insert(0), n)?;
        }
        for (&kind, &n) in &other.by_kind {
            add(out.by_kind.entry(kind).or_insert(0), n)?;
        }
        for (module, n) in &other.by_module {
            out.add_module(module, *n)?;
        }
        Ok(out)
    }

    /// The count of `n` such passes.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] beyond 64 bits.
    pub fn times(&self, n: u64) -> Result<Self> {
        let scaled = |x: u64| product("operations", &[n, x]);
        let mut out = self.clone();
        out.total = scaled(self.total)?;
        out.macs = scaled(self.macs)?;
        out.by_class.values_mut().try_for_each(|x| scaled(*x).map(|y| *x = y))?;
        out.by_kind.values_mut().try_for_each(|x| scaled(*x).map(|y| *x = y))?;
        out.by_module.iter_mut().try_for_each(|(_, x)| scaled(*x).map(|y| *x = y))?;
        Ok(out)
    }

    fn add_module(&mut self, module: &str, n: u64) -> Result<()> {
        // Nodes of a module mostly follow each other, so the search starts at the end.
        match self.by_module.iter_mut().rev().find(|(name, _)| name == module) {
            Some((_, total)) => add(total, n),
            None => {
                self.by_module.push((module.to_owned(), n));
                Ok(())
            }
        }
    }
}

fn add(total: &mut u64, n: u64) -> Result<()> {
    *total = sum("operations", [*total, n])?;
    Ok(())
}

impl ModelGraph {
    /// Counts operations of one image through every node.
    ///
    /// ```
    /// use mtl_hw::graph::{Convention, VitSpec};
    /// let count = VitSpec::tiny().graph()?.count(Convention::Torch)?;
    /// assert_eq!(count.to_string(), "2507366400 FLOPs (torch convention)");
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when a count does not fit in 64 bits.
    pub fn count(&self, convention: Convention) -> Result<Count> {
        self.count_with(convention, &CountContext::default())
    }

    /// Counts operations of a batch, or of one task.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a batch of zero; [`HwError::Overflow`] when a count does not fit in 64 bits.
    pub fn count_with(&self, convention: Convention, context: &CountContext) -> Result<Count> {
        context.validate()?;
        let graph = context.path(self);
        let mut count = Count::zero(convention);
        for node in &graph.nodes {
            if node.side && convention == Convention::Fvcore {
                continue;
            }
            count.macs = sum("macs", [count.macs, product("macs", &[context.batch, node.op.macs()?])?])?;
            let mut of_node = 0;
            for (class, n) in op_count(&node.op, convention)?.into_iter().filter(|&(_, n)| n > 0) {
                let n = product("operations", &[context.batch, n])?;
                add(count.by_class.entry(class).or_insert(0), n)?;
                add(&mut of_node, n)?;
            }
            if of_node > 0 {
                add(&mut count.total, of_node)?;
                add(count.by_kind.entry(node.op.kind()).or_insert(0), of_node)?;
                count.add_module(&module(&node.name, context.module_depth), of_node)?;
            }
        }
        Ok(count)
    }
}

/// The first `depth` components of a name.
fn module(name: &str, depth: usize) -> String {
    name.split('.').take(depth).collect::<Vec<_>>().join(".")
}

fn class(op: &Op) -> OpClass {
    match op {
        Op::PatchEmbedding { .. } | Op::Conv2d(_) => OpClass::Conv,
        Op::Gemm { .. } | Op::Gate { .. } | Op::MoeFfn(_) | Op::GatedMoeFfn(_) => OpClass::Linear,
        Op::AttentionScores { .. } | Op::AttentionValues { .. } | Op::Attention { .. } => OpClass::Matmul,
        Op::LayerNorm { .. } => OpClass::LayerNorm,
        Op::BatchNorm { .. } => OpClass::BatchNorm,
        Op::Pool2d(_) | Op::GlobalPool { .. } | Op::MeanTokens { .. } => OpClass::Pool,
        _ => OpClass::Elementwise,
    }
}

fn op_count(op: &Op, convention: Convention) -> Result<Vec<(OpClass, u64)>> {
    let class = class(op);
    let macs = op.macs()?;
    let counted = match convention {
        Convention::Torch | Convention::Full => product("operations", &[2, macs])?,
        Convention::Thop if class == OpClass::Matmul => 0,
        Convention::Fvcore | Convention::Thop => macs,
    };
    let mut counts = vec![(class, counted)];
    match convention {
        Convention::Torch | Convention::Thop => {}
        Convention::Fvcore => counts.push((class, fvcore_extra(op)?)),
        Convention::Full => counts.push(full_extra(op, class)?),
    }
    Ok(counts)
}

/// Operations beyond MACs, for [`Convention::Fvcore`].
fn fvcore_extra(op: &Op) -> Result<u64> {
    let per_output = |n: u64| product("operations", &[n, op.outputs()?]);
    match *op {
        Op::LayerNorm { .. } => per_output(5),
        Op::BatchNorm { .. } => per_output(2),
        Op::GlobalPool { .. } => op.input_elements(),
        Op::Upsample { bilinear, .. } => per_output(if bilinear { 4 } else { 1 }),
        _ => Ok(0),
    }
}

/// Operations beyond MACs with their class, for [`Convention::Full`].
fn full_extra(op: &Op, class: OpClass) -> Result<(OpClass, u64)> {
    let per_output = |n: u64| product("operations", &[n, op.outputs()?]);
    let count = match *op {
        // These are classes of their own.
        Op::LayerNorm { .. } => return Ok((class, per_output(5)?)),
        Op::BatchNorm { .. } => return Ok((class, per_output(2)?)),
        Op::Pool2d(s) => return Ok((class, s.taps()?)),
        Op::GlobalPool { .. } | Op::MeanTokens { .. } => return Ok((class, op.input_elements()?)),
        Op::PatchEmbedding { .. }
        | Op::TokenEmbedding { .. }
        | Op::Gelu { .. }
        | Op::Relu { .. }
        | Op::Tanh { .. }
        | Op::Silu { .. }
        | Op::Multiply { .. }
        | Op::Add { .. } => per_output(1)?,
        Op::Gemm { bias, .. } => per_output(u64::from(bias))?,
        Op::Conv2d(s) => per_output(u64::from(s.bias))?,
        Op::RmsNorm { .. } => per_output(4)?,
        Op::Softmax { .. } | Op::Rotary { .. } => per_output(3)?,
        Op::Upsample { bilinear, .. } => per_output(if bilinear { 7 } else { 0 })?,
        Op::Attention { heads, queries, keys, .. } => product("operations", &[3, heads, queries, keys])?,
        Op::Gate { tokens, experts, top_k, .. } => {
            product("operations", &[tokens, experts, sum("operations", [3, top_k])?])?
        }
        Op::MoeFfn(s) => {
            // Bias and GELU of the hidden layer, bias, scale and accumulation of the output.
            let (hidden, out) = (product("operations", &[2, s.hidden])?, product("operations", &[3, s.dim])?);
            product("operations", &[s.pairs()?, sum("operations", [hidden, out])?])?
        }
        Op::GatedMoeFfn(s) => {
            // SiLU and product of the hidden layer, scale and accumulation of the output.
            let (hidden, out) = (product("operations", &[2, s.hidden])?, product("operations", &[2, s.dim])?);
            product("operations", &[s.pairs()?, sum("operations", [hidden, out])?])?
        }
        _ => 0,
    };
    Ok((OpClass::Elementwise, count))
}
