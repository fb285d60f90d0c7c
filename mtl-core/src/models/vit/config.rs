//! Shape of a Vision Transformer, in the words of Hugging Face's `config.json`.
use super::Vit;
use crate::{Error, Result, nn::Activation, nn::check_probability, registry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How a [`Vit`] makes one vector of its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pooling {
    /// The class token after the final norm.
    #[default]
    ClassToken,
    /// The mean of the patch tokens after the final norm.
    Mean,
}

/// Configuration of [`Vit`]; the default is ViT-B/16 for 224 × 224 images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VitConfig {
    /// Rows and columns of the images.
    pub image_size: i64,
    /// Rows and columns of a patch; divides `image_size`.
    pub patch_size: i64,
    /// Channels of the images.
    pub num_channels: i64,
    /// Width of the tokens.
    pub hidden_size: i64,
    /// Blocks.
    pub num_hidden_layers: i64,
    /// Heads of each attention; divides `hidden_size`.
    pub num_attention_heads: i64,
    /// Width between the two maps of a feed-forward part.
    pub intermediate_size: i64,
    /// Activation of the feed-forward parts.
    pub hidden_act: Activation,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Added to the variance in each norm. Positive.
    pub layer_norm_eps: f64,
    /// Probability of dropping an element of the embedding or of a block's two outputs, in training.
    pub hidden_dropout_prob: f64,
    /// Probability of dropping an attention weight, in training.
    pub attention_probs_dropout_prob: f64,
    /// Deviation of the initial weights.
    pub initializer_range: f64,
    /// How one vector is made of the tokens; not part of Hugging Face's file.
    pub pooling: Pooling,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            qkv_bias: true,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            pooling: Pooling::ClassToken,
        }
    }
}

impl VitConfig {
    /// Sets channels, image size and patch size.
    #[must_use]
    pub fn image(mut self, channels: i64, image_size: i64, patch_size: i64) -> Self {
        (self.num_channels, self.image_size, self.patch_size) = (channels, image_size, patch_size);
        self
    }

    /// Sets width, number of blocks and number of heads; the feed-forward parts get four times the width.
    #[must_use]
    pub fn size(mut self, dim: i64, layers: i64, heads: i64) -> Self {
        (self.hidden_size, self.num_hidden_layers, self.num_attention_heads) = (dim, layers, heads);
        self.intermediate_size = dim.saturating_mul(4);
        self
    }

    /// Sets [`VitConfig::intermediate_size`].
    #[must_use]
    pub fn intermediate_size(mut self, size: i64) -> Self {
        self.intermediate_size = size;
        self
    }

    /// Sets [`VitConfig::hidden_dropout_prob`].
    #[must_use]
    pub fn hidden_dropout_prob(mut self, p: f64) -> Self {
        self.hidden_dropout_prob = p;
        self
    }

    /// Sets [`VitConfig::pooling`].
    #[must_use]
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// Number of patches of an image.
    pub fn patches(&self) -> i64 {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Checks the values and builds the network.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the first field out of its range.
    pub fn build(self) -> Result<Vit> {
        for (field, value) in [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
        ] {
            if !(1..=1 << 20).contains(&value) {
                return Err(Error::config(field, "in 1..=1048576", value));
            }
        }
        if self.image_size % self.patch_size != 0 {
            let must = format!("a divisor of the image size {}", self.image_size);
            return Err(Error::config("patch_size", must, self.patch_size));
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            let must = format!("a divisor of the hidden size {}", self.hidden_size);
            return Err(Error::config("num_attention_heads", must, self.num_attention_heads));
        }
        for (field, value) in
            [("layer_norm_eps", self.layer_norm_eps), ("initializer_range", self.initializer_range)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(field, "positive and finite", value));
            }
        }
        check_probability(self.hidden_dropout_prob, "hidden_dropout_prob")?;
        check_probability(self.attention_probs_dropout_prob, "attention_probs_dropout_prob")?;
        Vit::new(self)
    }

    /// The configuration in a `config.json` of Hugging Face, of which what does not concern the network is ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] when it is not an object, its `model_type` is not `vit`, or a field is of the wrong type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        let refuse =
            |message: &str| Error::Parse { path: "model_type".to_owned(), message: message.to_owned() };
        let Value::Object(fields) = config else {
            return Err(refuse("expected the object of a config.json"));
        };
        if fields.get("model_type").and_then(Value::as_str) != Some("vit") {
            return Err(refuse("expected `vit`"));
        }
        let known = serde_json::to_value(Self::default()).unwrap_or_default();
        let concerns = |name: &str| known.get(name).is_some();
        let kept = fields.iter().filter(|(name, _)| concerns(name)).map(|(k, v)| (k.clone(), v.clone()));
        registry::parse(Value::Object(kept.collect()))
    }

    /// The configuration as a `config.json` of Hugging Face.
    pub fn to_hf(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            fields.insert("model_type".to_owned(), json!("vit"));
            if self.pooling == Pooling::ClassToken {
                fields.remove("pooling");
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_through_hugging_face() {
        let config = VitConfig::default().image(1, 8, 2).size(32, 2, 4).pooling(Pooling::Mean);
        assert_eq!(VitConfig::from_hf(&config.to_hf()).unwrap(), config);
    }

    #[test]
    fn configurations_that_make_no_sense_are_refused() {
        let refuse = |config: VitConfig| config.build().unwrap_err().to_string();
        insta::assert_snapshot!(refuse(VitConfig::default().image(3, 10, 4)), @"`patch_size` must be a divisor of the image size 10, but is 4");
        insta::assert_snapshot!(refuse(VitConfig::default().size(10, 1, 4)), @"`num_attention_heads` must be a divisor of the hidden size 10, but is 4");
        insta::assert_snapshot!(refuse(VitConfig::default().size(10, 0, 5)), @"`num_hidden_layers` must be in 1..=1048576, but is 0");
        insta::assert_snapshot!(refuse(VitConfig::default().hidden_dropout_prob(1.5)), @"`hidden_dropout_prob` must be at least 0 and below 1, but is 1.5");
        insta::assert_snapshot!(VitConfig::from_hf(&json!({"model_type": "bert"})).unwrap_err(), @"model_type: expected `vit`");
        let image = VitConfig::from_hf(&json!({"model_type": "vit", "image_size": [1, 2]})).unwrap_err();
        insta::assert_snapshot!(image, @"image_size: invalid type: sequence, expected i64");
    }
}
