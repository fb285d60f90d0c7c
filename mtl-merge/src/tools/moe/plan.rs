//! Which tensors a mixture has, and where their values come from.
use super::{
    Architecture, Models,
    arch::{PARTS, Sizes},
    config::{Expert, MoeConfig},
    gates::Gates,
    noise::{Edited, Gaussian},
};
use crate::{
    Error, FloatType, Result,
    engine::source::{Source, Stored},
    tensor::Values,
    tools::shards::{Given, Output, Part},
};
use mtl_core::Seed;
use serde_json::Value;

/// Everything to be written.
pub(super) struct Plan<'m> {
    pub(super) outputs: Vec<Output<'m>>,
    pub(super) layers: usize,
    pub(super) sizes: Sizes,
    pub(super) vocabulary: usize,
    pub(super) warnings: Vec<String>,
    architecture: Architecture,
    fused: bool,
}

/// Makes the parts of the output of one mixture.
struct Maker<'c, 'm> {
    config: &'c MoeConfig,
    models: &'m Models,
    float: FloatType,
}

impl<'m> Plan<'m> {
    /// Checks that the models fit together and lists the output; the router's rows are zeros still.
    pub(super) fn new(config: &MoeConfig, models: &'m Models, fused: bool) -> Result<Self> {
        let architecture = models.architecture;
        let count = |key: &str| {
            let found = models.base_config.get(key).and_then(Value::as_u64).filter(|&x| x > 0);
            let message = format!("its config.json has no `{key}` of at least 1");
            found.map(|x| x as usize).ok_or(Error::Recipe { path: "base_model".into(), message })
        };
        let (layers, hidden) = (count("num_hidden_layers")?, count("hidden_size")?);
        let maker = Maker { config, models, float: models.float };
        let base = models.base(config)?;
        let inner = maker.inner(&config.experts[0], "experts[0]", hidden)?;
        let shared_inner = match config.shared().first() {
            Some(expert) => maker.inner(expert, "shared_experts[0]", hidden)?,
            None => inner,
        };
        let sizes = Sizes { inner, shared_inner, hidden };
        let embedding = base.find("model.embed_tokens.weight");
        let vocabulary =
            embedding.and_then(|at| base.tensors()[at].shape.first().copied()).unwrap_or_default();
        let (outputs, warnings) = (Vec::new(), Vec::new());
        let mut plan = Self { outputs, layers, sizes, vocabulary, warnings, architecture, fused };
        let n = config.experts.len();
        if !n.is_power_of_two() {
            plan.warnings
                .push(format!("{n} experts are no power of two; llama.cpp does not load such models"));
        }
        plan.dense(&maker, base)?;
        for layer in 0..layers {
            plan.experts(&maker, layer)?;
        }
        let order = |output: &Output<'_>| {
            let layer = output.name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
            let layer = layer.and_then(|layer| layer.parse::<usize>().ok());
            // Embeddings, layers, then the last norm and the head.
            let late = layer.is_none() && !output.name.contains("embed");
            (late, layer.map_or(0, |layer| layer + 1))
        };
        plan.outputs.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name)));
        Ok(plan)
    }

    /// What comes from the base: everything but the perceptrons.
    fn dense(&mut self, maker: &Maker<'_, 'm>, base: &'m dyn Source) -> Result<()> {
        for (at, meta) in base.tensors().iter().enumerate() {
            let layer = meta.name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
            if let Some(layer) = layer.and_then(|layer| layer.parse::<usize>().ok())
                && layer >= self.layers
            {
                let differences =
                    format!("the base has `{}`, but {} layers by its config.json", meta.name, self.layers);
                return Err(Error::Mismatch { differences });
            }
            if meta.name.contains(".mlp.") || meta.name.ends_with("rotary_emb.inv_freq") {
                if meta.name.ends_with(".bias") {
                    return Err(self.no_place(&meta.name));
                }
                continue;
            }
            let qkv =
                ["q_proj.bias", "k_proj.bias", "v_proj.bias"].iter().any(|end| meta.name.ends_with(end));
            if meta.name.ends_with(".bias") && !(qkv && self.architecture == Architecture::Qwen) {
                return Err(self.no_place(&meta.name));
            }
            let values = Box::new(Stored { source: base, tensor: at });
            let part = Part { values, len: meta.numel() };
            self.put(maker, meta.name.clone(), meta.shape.clone(), vec![part]);
        }
        if self.architecture.wants_bias() {
            for layer in 0..self.layers {
                for which in ["q_proj", "k_proj", "v_proj"] {
                    self.zero_bias(maker, base, &format!("model.layers.{layer}.self_attn.{which}"));
                }
            }
        }
        Ok(())
    }

    fn no_place(&self, name: &str) -> Error {
        let differences = format!("{} has no place for `{name}` of the base", self.architecture.name());
        Error::Mismatch { differences }
    }

    /// Zeros for a bias that the architecture has and the base lacks.
    fn zero_bias(&mut self, maker: &Maker<'_, 'm>, base: &dyn Source, module: &str) {
        let rows =
            base.find(&format!("{module}.weight")).and_then(|at| base.tensors()[at].shape.first().copied());
        let name = format!("{module}.bias");
        if let (Some(rows), None) = (rows, base.find(&name)) {
            self.put(maker, name, vec![rows], vec![given(vec![0.0; rows])]);
        }
    }

    /// The experts and routers of a layer.
    fn experts(&mut self, maker: &Maker<'_, 'm>, layer: usize) -> Result<()> {
        let (config, Sizes { inner, shared_inner, hidden }) = (maker.config, self.sizes);
        let shape = |part: &str, inner: usize| match part {
            "down_proj" => vec![hidden, inner],
            _ => vec![inner, hidden],
        };
        let mut found: Vec<Vec<Part<'m>>> = PARTS.iter().map(|_| Vec::new()).collect();
        for (i, expert) in config.experts.iter().enumerate() {
            for (part, list) in PARTS.iter().zip(&mut found) {
                let name = self.architecture.expert(layer, i, part);
                list.push(maker.part(expert, layer, part, &shape(part, inner), &name)?);
            }
        }
        let n = config.experts.len();
        if self.fused {
            let mut lists = found.into_iter();
            let (gates, ups) = (lists.next().unwrap_or_default(), lists.next().unwrap_or_default());
            let both = gates.into_iter().zip(ups).flat_map(|(gate, up)| [gate, up]).collect();
            let prefix = format!("model.layers.{layer}.mlp.experts");
            self.put(maker, format!("{prefix}.gate_up_proj"), vec![n, 2 * inner, hidden], both);
            self.put(maker, format!("{prefix}.down_proj"), vec![n, hidden, inner], lists.flatten().collect());
        } else {
            for (part, list) in PARTS.iter().zip(found) {
                for (i, one) in list.into_iter().enumerate() {
                    let name = self.architecture.expert(layer, i, part);
                    self.put(maker, name, shape(part, inner), vec![one]);
                }
            }
        }
        if let Some(expert) = config.shared().first() {
            for part in PARTS {
                let name = self.architecture.shared(layer, part);
                let shape = shape(part, shared_inner);
                let one = maker.part(expert, layer, part, &shape, &name)?;
                self.put(maker, name, shape, vec![one]);
            }
            if self.architecture == Architecture::Qwen {
                let zeros = vec![given(vec![0.0; hidden])];
                self.put(maker, self.shared_gate(layer), vec![1, hidden], zeros);
            }
        }
        let router = self.architecture.router(layer, self.fused);
        self.put(maker, router, vec![n, hidden], vec![given(vec![0.0; n * hidden])]);
        Ok(())
    }

    fn shared_gate(&self, layer: usize) -> String {
        format!("model.layers.{layer}.mlp.shared_expert_gate.weight")
    }

    /// Puts the rows of the `n` experts into the routers, and those behind them into the gates of shared experts.
    pub(super) fn route(&mut self, gates: &Gates, n: usize) {
        for (layer, rows) in gates.iter().enumerate() {
            let (routed, shared) = rows.split_at(n.min(rows.len()));
            let names = [self.architecture.router(layer, self.fused), self.shared_gate(layer)];
            for (name, rows) in names.iter().zip([routed, shared]) {
                if let Some(output) = self.outputs.iter_mut().find(|o| o.name == *name)
                    && !rows.is_empty()
                {
                    output.parts = vec![given(rows.concat())];
                }
            }
        }
    }

    fn put(&mut self, maker: &Maker<'_, 'm>, name: String, shape: Vec<usize>, parts: Vec<Part<'m>>) {
        self.outputs.push(Output { name, float: maker.float, shape, parts });
    }
}

fn given<'m>(values: Vec<f64>) -> Part<'m> {
    Part { len: values.len(), values: Box::new(Given { name: "router", values }) }
}

impl<'m> Maker<'_, 'm> {
    /// Inner width of an expert's perceptron.
    fn inner(&self, expert: &Expert, place: &str, hidden: usize) -> Result<usize> {
        let source = self.models.source(&expert.source_model)?;
        let (at, name) = find(source, 0, PARTS[0])?;
        match source.tensors()[at].shape.as_slice() {
            &[inner, width] if width == hidden => Ok(inner),
            shape => Err(Error::Mismatch {
                differences: format!(
                    "`{name}` of {place} has shape {shape:?}, but the base is {hidden} wide"
                ),
            }),
        }
    }

    /// One matrix of an expert, with its noise and scale.
    fn part(
        &self,
        expert: &Expert,
        layer: usize,
        part: &str,
        shape: &[usize],
        output: &str,
    ) -> Result<Part<'m>> {
        let source = self.models.source(&expert.source_model)?;
        let (at, name) = find(source, layer, part)?;
        let meta = &source.tensors()[at];
        if meta.shape != shape {
            let place = source.place(at);
            let differences =
                format!("`{name}` in `{place}` has shape {:?}, but the mixture needs {shape:?}", meta.shape);
            return Err(Error::Mismatch { differences });
        }
        let stored = Stored { source, tensor: at };
        let noise = expert.noise_scale.filter(|&scale| scale > 0.0);
        let noise = noise.map(|scale| (Gaussian::new(noise_seed(self.config.seed, output)), scale));
        let scale = expert.residual_scale.filter(|_| part == "down_proj").unwrap_or(1.0);
        let values: Box<dyn Values + 'm> = match (&noise, scale) {
            (None, 1.0) => Box::new(stored),
            _ => Box::new(Edited { values: stored, noise, scale }),
        };
        Ok(Part { values, len: meta.numel() })
    }
}

/// Seed of the noise on a tensor, by its name when experts are not fused.
fn noise_seed(seed: Seed, output: &str) -> Seed {
    seed.fork("noise").fork(output)
}

/// Position and name of a perceptron's matrix.
fn find(source: &dyn Source, layer: usize, part: &str) -> Result<(usize, String)> {
    let name = format!("model.layers.{layer}.mlp.{part}.weight");
    let missing = || Error::Mismatch { differences: format!("`{}` has no `{name}`", source.label()) };
    Ok((source.find(&name).ok_or_else(missing)?, name))
}
