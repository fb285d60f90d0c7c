//! The Vision Transformer as stages: one for each block, the first with the embedding, the last with the final norm.
use super::{NORM, POSITIONS, Pooling, Vit};
use crate::{
    Context, Cost, Encoder, Features, ParamSource, Result, Seed, StateDict,
    architectures::{StagedEncoder, no_stage},
    nn::{self, Init, layer_norm},
    source::Param,
};
use tch::Tensor;

/// The parameters under `{prefix}.`, by their names without it.
#[derive(Debug)]
struct Under<'a> {
    source: &'a dyn ParamSource,
    prefix: &'a str,
}

impl Under<'_> {
    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

impl ParamSource for Under<'_> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        self.source.find(&self.full(name))
    }

    fn names(&self) -> Vec<String> {
        let start = self.full("");
        let names = self.source.names().into_iter();
        names.filter_map(|name| name.strip_prefix(&start).map(str::to_owned)).collect()
    }

    fn param(&self, name: &str) -> Result<Param<'_>> {
        self.source.param(&self.full(name))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        self.source.linear(&self.full(name), x)
    }
}

/// Parameters have their usual names after the prefix, `{prefix}.vit.encoder.layer.{i}.…`. Prompt tokens are not read;
/// key and value prefixes are.
impl StagedEncoder for Vit {
    fn stages(&self) -> usize {
        self.blocks.len()
    }

    fn input_shape(&self) -> Vec<i64> {
        vec![self.config.num_channels, self.config.image_size, self.config.image_size]
    }

    fn shape(&self, stage: usize) -> Vec<i64> {
        if stage < self.blocks.len() {
            vec![1 + self.config.patches(), self.config.hidden_size]
        } else {
            Vec::new()
        }
    }

    fn init_stage(&self, stage: usize, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let Some(block) = self.blocks.get(stage) else { return Err(no_stage(stage, self.blocks.len())) };
        // Streams are named by parameters, whose names here lack the prefix.
        let (seed, dim) = (seed.fork(prefix), self.config.hidden_size);
        let mut params = StateDict::new();
        if stage == 0 {
            let init = Init::TruncatedNormal { std: self.config.initializer_range };
            let (channels, patch) = (self.config.num_channels, self.config.patch_size);
            nn::patch::init(super::PATCHES, channels, patch, dim, init, seed, &mut params)?;
            init.fill(seed, super::CLASS, &[1, 1, dim], &mut params)?;
            init.fill(seed, POSITIONS, &[1, 1 + self.config.patches(), dim], &mut params)?;
        }
        block.init(&self.config, seed, &mut params)?;
        if stage + 1 == self.blocks.len() {
            nn::layer_norm::init(NORM, dim, &mut params)?;
        }
        into.extend(params.with_prefix(&format!("{prefix}.")));
        Ok(())
    }

    fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        let Some(block) = self.blocks.get(stage) else { return Err(no_stage(stage, self.blocks.len())) };
        let params = &Under { source: params, prefix };
        let tokens = if stage == 0 { self.embed(params, x, ctx)? } else { x.shallow_clone() };
        let y = block.forward(params, &tokens, &self.config, ctx)?;
        if stage + 1 == self.blocks.len() {
            return layer_norm(params, NORM, &y, self.config.layer_norm_eps);
        }
        Ok(y)
    }

    fn stage_cost(&self, stage: usize) -> Cost {
        let Some(block) = self.blocks.get(stage) else { return Cost::default() };
        let tokens = self.config.patches() + 1;
        let mut cost = block.cost(&self.config, tokens);
        let norm = 2 * self.config.hidden_size as u64;
        if stage == 0 {
            // Whatever the whole network costs besides its blocks and the final norm.
            let blocks = self.blocks.iter().map(|b| b.cost(&self.config, tokens));
            let (rest, whole) = (blocks.fold(Cost::default(), |a, b| a + b), Encoder::cost(self));
            cost.macs += whole.macs - rest.macs;
            cost.params += whole.params - rest.params - norm;
        }
        if stage + 1 == self.blocks.len() {
            cost.params += norm;
        }
        cost
    }

    fn pool(&self, x: &Tensor) -> Features {
        let positions = x.narrow(1, 1, (x.size().get(1).copied().unwrap_or(1) - 1).max(0));
        let pooled = match self.config.pooling {
            Pooling::ClassToken => x.select(1, 0),
            Pooling::Mean => positions.mean_dim([1i64].as_slice(), false, None),
        };
        Features { pooled, positions: Some(positions) }
    }

    fn feature_grid(&self) -> Option<(i64, i64)> {
        self.grid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{architectures::forward_stages, models::VitConfig, rng};

    #[test]
    fn the_stages_in_a_row_are_the_encoder() {
        let vit = VitConfig::default().image(1, 8, 4).size(8, 2, 2).build().unwrap();
        let whole = vit.init(Seed(0)).unwrap();
        let mut params = StateDict::new();
        let mut names = Vec::new();
        for stage in 0..vit.stages() {
            let mut part = StateDict::new();
            vit.init_stage(stage, "p", Seed(0), &mut part).unwrap();
            let part = part.strip_prefix("p.");
            names.extend(part.names().map(str::to_owned));
            let given = whole.filter(|name| part.get(name).is_some());
            params.extend(given.with_prefix(&format!("e.stage{stage}.")));
        }
        names.sort();
        assert_eq!(names, whole.names().collect::<Vec<_>>());
        let x = rng::normal(&mut Seed(1).stream("test", 0), &[2, 1, 8, 8], 1.0);
        let y = vit.pool(&forward_stages(&vit, &params, "e", &x, &Context::eval()).unwrap());
        let wanted = vit.encode(&whole, &x.into(), &Context::eval()).unwrap();
        assert!((y.pooled - wanted.pooled).abs().max().double_value(&[]) < 1e-5);
        assert!((y.positions.unwrap() - wanted.positions.unwrap()).abs().max().double_value(&[]) < 1e-5);
    }
}
