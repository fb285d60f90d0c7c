//! From the tensor names of timm to those of Hugging Face.
use crate::{Error, Result, StateDict, no_grad};

/// A Vision Transformer's parameters under the names of Hugging Face instead of timm's.
///
/// The joint `attn.qkv` becomes `query`, `key` and `value`; `head` becomes `classifier`. The result has storage of its
/// own where a tensor was split and shares it elsewhere. Parameters of `heads.…` stay as they are.
///
/// ```
/// use mtl_core::{StateDict, models::rename_timm};
/// use tch::Tensor;
///
/// let timm = StateDict::from_iter([("blocks.0.attn.qkv.bias".to_owned(), Tensor::from_slice(&[1.0f32, 2.0, 3.0]))]);
/// let renamed = rename_timm(timm)?;
/// assert_eq!(renamed.names().next(), Some("vit.encoder.layer.0.attention.attention.key.bias"));
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Unknown`] for a name that timm's plain Vision Transformer does not have, [`Error::Shape`] when `attn.qkv`
/// cannot be split in three.
pub fn rename_timm(params: StateDict) -> Result<StateDict> {
    let mut renamed = StateDict::new();
    for (name, tensor) in params {
        if let Some((block, part)) = qkv(&name) {
            let size = tensor.size();
            let rows = size.first().copied().unwrap_or(0);
            if rows < 3 || rows % 3 != 0 {
                return Err(Error::shape(name, "[3 · dim, …]", size));
            }
            for (i, target) in (0..).zip(["query", "key", "value"]) {
                let third = no_grad(|| tensor.detach().narrow(0, i * rows / 3, rows / 3).copy());
                let prefix = format!("vit.encoder.layer.{block}.attention.attention");
                renamed.insert(format!("{prefix}.{target}.{part}"), third);
            }
        } else {
            renamed.insert(plain(&name)?, tensor);
        }
    }
    Ok(renamed)
}

/// Block and part of a joint projection.
fn qkv(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("blocks.")?.split_once(".attn.qkv.")
}

fn plain(name: &str) -> Result<String> {
    const WHOLE: [(&str, &str); 2] =
        [("cls_token", "vit.embeddings.cls_token"), ("pos_embed", "vit.embeddings.position_embeddings")];
    const MODULES: [(&str, &str); 3] = [
        ("patch_embed.proj", "vit.embeddings.patch_embeddings.projection"),
        ("norm", "vit.layernorm"),
        ("head", "classifier"),
    ];
    const IN_BLOCK: [(&str, &str); 5] = [
        ("norm1", "layernorm_before"),
        ("attn.proj", "attention.output.dense"),
        ("norm2", "layernorm_after"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ];
    let find = |table: &[(&'static str, &'static str)], key: &str| {
        table.iter().find(|(timm, _)| *timm == key).map(|(_, hf)| *hf)
    };
    let unknown = || {
        let known = WHOLE.iter().chain(&MODULES).chain(&IN_BLOCK).map(|(timm, _)| *timm);
        Error::unknown("timm parameter", name, known)
    };
    if name.starts_with("heads.") {
        return Ok(name.to_owned());
    }
    if let Some(whole) = find(&WHOLE, name) {
        return Ok(whole.to_owned());
    }
    let (module, part) = name.rsplit_once('.').ok_or_else(unknown)?;
    if let Some((block, inner)) = module.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        let inner = find(&IN_BLOCK, inner).ok_or_else(unknown)?;
        return Ok(format!("vit.encoder.layer.{block}.{inner}.{part}"));
    }
    Ok(format!("{}.{part}", find(&MODULES, module).ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Model, Seed,
        models::{VitClassifier, VitConfig},
    };
    use tch::Tensor;

    /// Name in timm of a Hugging Face name, written down independently of the tables above.
    fn to_timm(name: &str) -> String {
        name.replace("vit.embeddings.patch_embeddings.projection", "patch_embed.proj")
            .replace("vit.embeddings.cls_token", "cls_token")
            .replace("vit.embeddings.position_embeddings", "pos_embed")
            .replace("vit.layernorm.", "norm.")
            .replace("classifier", "head")
            .replace("vit.encoder.layer", "blocks")
            .replace("attention.output.dense", "attn.proj")
            .replace("intermediate.dense", "mlp.fc1")
            .replace("output.dense", "mlp.fc2")
            .replace("layernorm_before", "norm1")
            .replace("layernorm_after", "norm2")
    }

    #[test]
    fn a_whole_model_comes_back() {
        let model = VitClassifier::new(VitConfig::default().image(1, 8, 4).size(6, 2, 2).build().unwrap(), 3);
        let params = model.unwrap().init(Seed(0)).unwrap();
        let mut timm = StateDict::new();
        for (name, tensor) in params.iter().filter(|(name, _)| !name.contains("attention.attention")) {
            timm.insert(to_timm(name), tensor.shallow_clone());
        }
        for layer in 0..2 {
            for part in ["weight", "bias"] {
                let third = |n: &str| {
                    params.get(&format!("vit.encoder.layer.{layer}.attention.attention.{n}.{part}")).unwrap()
                };
                let joint = Tensor::cat(&["query", "key", "value"].map(third), 0);
                timm.insert(format!("blocks.{layer}.attn.qkv.{part}"), joint);
            }
        }
        let back = rename_timm(timm).unwrap();
        back.same_layout(&params, "renamed").unwrap();
        assert!(back.iter().zip(params.iter()).all(|((_, a), (_, b))| a == b));
    }

    #[test]
    fn a_strange_name_is_refused() {
        let strange = StateDict::from_iter([("blocks.0.ls1.gamma".to_owned(), Tensor::from(1.0f32))]);
        insta::assert_snapshot!(rename_timm(strange).unwrap_err(), @"unknown timm parameter `blocks.0.ls1.gamma`");
    }
}
