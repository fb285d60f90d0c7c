//! LoRA: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv 2106.09685.
use super::{Param, ParamSource};
use crate::{Error, Result, Seed, StateDict, rng};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Hyper-parameters of [`Lora`]; the default is the paper's choice for its language models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank r of the update. At least 1.
    pub rank: i64,
    /// α: the update is scaled by α / r. Finite.
    pub alpha: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0 }
    }
}

impl LoraConfig {
    /// Sets [`LoraConfig::rank`].
    #[must_use]
    pub fn rank(mut self, rank: i64) -> Self {
        self.rank = rank;
        self
    }

    /// Sets [`LoraConfig::alpha`].
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Fresh adapters for the linear maps `sites` of `base`: A uniform on ±1/√in, B zero, so that nothing changes yet.
    ///
    /// For each site the result holds `{site}.lora_A` `[r, in]` and `{site}.lora_B` `[out, r]`, both trainable.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a rank below 1 or an α that is not finite, [`Error::Unknown`] for a site `base` lacks,
    /// [`Error::Shape`] when its weight is not `[out, in]`.
    pub fn init(&self, base: &dyn ParamSource, sites: &[&str], seed: Seed) -> Result<StateDict> {
        self.check()?;
        let mut adapters = StateDict::new();
        for &site in sites {
            let weight = base.param(&format!("{site}.weight"))?;
            let (outputs, inputs) = crate::check::dims2(&weight, &format!("{site}.weight"), "[out, in]")?;
            let mut rng = seed.stream(&format!("lora {site}"), 0);
            let a = rng::uniform(&mut rng, &[self.rank, inputs], 1.0 / (inputs as f64).sqrt());
            adapters.insert(format!("{site}.lora_A"), a.set_requires_grad(true));
            let b = Tensor::zeros([outputs, self.rank], (Kind::Float, Device::Cpu));
            adapters.insert(format!("{site}.lora_B"), b.set_requires_grad(true));
        }
        Ok(adapters)
    }

    /// The source `base` + (α / r)·B·A for every site in `adapters`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] as [`init`](Self::init); [`Error::Unknown`] for a site without both A and B or that `base`
    /// lacks; [`Error::Shape`] when A, B and the weight do not fit together.
    pub fn build<'a, S: ParamSource>(&self, base: S, adapters: &'a StateDict) -> Result<Lora<'a, S>> {
        self.check()?;
        for name in adapters.names() {
            let site = name.strip_suffix(".lora_A").or_else(|| name.strip_suffix(".lora_B"));
            let Some(site) = site else {
                return Err(Error::config("adapters", "named `{site}.lora_A` or `{site}.lora_B`", name));
            };
            let (a, b) =
                (adapters.param(&format!("{site}.lora_A"))?, adapters.param(&format!("{site}.lora_B"))?);
            let weight = base.param(&format!("{site}.weight"))?;
            let (outputs, inputs) = crate::check::dims2(&weight, &format!("{site}.weight"), "[out, in]")?;
            if a.size() != [self.rank, inputs] {
                let expected = format!("[{}, {inputs}]", self.rank);
                return Err(Error::shape(format!("{site}.lora_A"), expected, a.size()));
            }
            if b.size() != [outputs, self.rank] {
                let expected = format!("[{outputs}, {}]", self.rank);
                return Err(Error::shape(format!("{site}.lora_B"), expected, b.size()));
            }
        }
        Ok(Lora { base, adapters, scale: self.alpha / self.rank as f64 })
    }

    fn check(&self) -> Result<()> {
        if self.rank < 1 {
            return Err(Error::config("rank", "at least 1", self.rank));
        }
        if !self.alpha.is_finite() {
            return Err(Error::config("alpha", "finite", self.alpha));
        }
        Ok(())
    }
}

/// Low-rank updates on a frozen source: `W + (α / r)·B·A`, applied to `x` without building the sum.
///
/// ```
/// use mtl_core::{ParamSource, Seed, StateDict, source::LoraConfig};
/// use tch::{Kind, Device, Tensor};
///
/// let weight = Tensor::ones([3, 2], (Kind::Float, Device::Cpu));
/// let base = StateDict::from_iter([("fc.weight".to_owned(), weight)]);
/// let config = LoraConfig::default().rank(1);
/// let adapters = config.init(&base, &["fc"], Seed(0))?;
/// let lora = config.build(&base, &adapters)?;
/// let y = lora.linear("fc", &Tensor::from_slice(&[1.0f32, 2.0]))?; // B is zero: still the base
/// assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [3.0, 3.0, 3.0]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Lora<'a, S> {
    base: S,
    adapters: &'a StateDict,
    scale: f64,
}

impl<S: ParamSource> Lora<'_, S> {
    fn adapter(&self, site: &str) -> Option<(&Tensor, &Tensor)> {
        Some((self.adapters.get(&format!("{site}.lora_A"))?, self.adapters.get(&format!("{site}.lora_B"))?))
    }
}

impl<S: ParamSource> ParamSource for Lora<'_, S> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        let param = self.base.find(name)?;
        let (Some(site), Some(weight)) = (name.strip_suffix(".weight"), &param) else { return Ok(param) };
        match self.adapter(site) {
            Some((a, b)) => Ok(Some(Param::Owned(&**weight + b.matmul(a) * self.scale))),
            None => Ok(param),
        }
    }

    fn names(&self) -> Vec<String> {
        self.base.names()
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let y = self.base.linear(name, x)?;
        match self.adapter(name) {
            Some((a, b)) => Ok(y + x.linear(a, None::<&Tensor>).linear(b, None::<&Tensor>) * self.scale),
            None => Ok(y),
        }
    }
}
