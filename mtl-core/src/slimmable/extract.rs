//! Cutting a network of its own out of a slimmable one.
use super::{SlimNorm, SlimStage, SlimmableNet, WidthConfig, WidthRatio, parts::Decoder};
use crate::{ParamSource, Result, StateDict, no_grad};

impl SlimmableNet {
    /// The network at `widths` alone: an ordinary model of that size and copies of the parameters that it needs, with
    /// the same outputs to the last bit.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for widths that the network does not have, [`Error::Unknown`](crate::Error::Unknown) and [`Error::Shape`](crate::Error::Shape) for
    /// parameters that do not fit it.
    pub fn extract(&self, params: &dyn ParamSource, widths: &WidthConfig) -> Result<(Self, StateDict)> {
        let (indices, sliced) = self.slice(params, widths)?;
        let mut config = self.config.clone();
        config.widths = vec![WidthRatio::FULL];
        for (stage, width) in config.stages.iter_mut().zip(&widths.encoder) {
            match stage {
                SlimStage::Dense { units: channels, .. } | SlimStage::Conv { channels, .. } => {
                    *channels = width.channels(*channels);
                }
            }
        }
        let hidden = |(decoder, width): (&Decoder, &WidthRatio)| -> Vec<i64> {
            decoder.layers.iter().filter(|layer| !layer.fixed).map(|layer| layer.active(*width)).collect()
        };
        let hidden = self.decoders.iter().zip(&widths.decoders).map(hidden);
        config.decoders = self.tasks.iter().map(|task| task.name.clone()).zip(hidden).collect();
        let mut cut = StateDict::new();
        let mut copy = |from: String, to: String| -> Result<()> {
            let tensor = sliced.param(&from)?;
            cut.insert(to, no_grad(|| tensor.detach().contiguous().copy()));
            Ok(())
        };
        for (layer, index) in self.indexed(&indices) {
            for part in ["weight", "bias"] {
                copy(format!("{}.{part}", layer.name), format!("{}.{part}", layer.name))?;
                if self.config.norm != SlimNorm::None && !layer.fixed {
                    copy(format!("{}.{part}", layer.norm(index)), format!("{}.{part}", layer.norm(0)))?;
                }
            }
        }
        Ok((Self::build(config, self.tasks.clone())?, cut))
    }
}
