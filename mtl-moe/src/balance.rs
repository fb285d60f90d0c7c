//! Losses that keep the load of the experts even: Shazeer et al., *Outrageously Large Neural Networks*, ICLR 2017, arXiv
//! 1701.06538; with the noise of Riquelme et al., *Scaling Vision with Sparse Mixture of Experts*, 2021, arXiv 2106.05974.
use tch::{Kind, Tensor};

/// Squared coefficient of variation of `load` `[experts]`: variance over squared mean, 0 for one expert.
///
/// The variance is the unbiased one, as in the released M³ViT; the original implementation divides by the number.
///
/// ```
/// use mtl_moe::balance::cv_squared;
/// use tch::Tensor;
///
/// let even = cv_squared(&Tensor::from_slice(&[2.0f64, 2.0]));
/// let uneven = cv_squared(&Tensor::from_slice(&[4.0f64, 0.0]));
/// assert_eq!(even.double_value(&[]), 0.0);
/// assert!((uneven.double_value(&[]) - 2.0).abs() < 1e-9);
/// ```
pub fn cv_squared(load: &Tensor) -> Tensor {
    if load.numel() < 2 {
        return load.sum(load.kind()) * 0.0;
    }
    load.var(true) / (load.mean(load.kind()).square() + 1e-10)
}

/// Sum of the gates that each expert was given, `[experts]`, from `gates` and `index` `[tokens, k]`.
pub fn importance(gates: &Tensor, index: &Tensor, experts: i64) -> Tensor {
    let zeros = Tensor::zeros([experts], (gates.kind(), gates.device()));
    zeros.index_add(0, &index.flatten(0, -1), &gates.flatten(0, -1))
}

/// Number of tokens of each expert, `[experts]`, of kind `kind`; it has no gradient.
pub fn counts(index: &Tensor, experts: i64, kind: Kind) -> Tensor {
    index.flatten(0, -1).bincount(None::<&Tensor>, experts).to_kind(kind)
}

/// Expected number of tokens of each expert if the noise were drawn again, `[experts]`.
///
/// `clean` and `noisy` are router logits `[tokens, experts]`, `std` the deviation of the noise between them. The
/// probability that an expert is among the top k is taken token by token: it must beat the k-th best of the others. The
/// thresholds are logits, as the derivation has it; the released M³ViT compares logits with probabilities there.
pub fn load(clean: &Tensor, noisy: &Tensor, std: f64, k: i64) -> Tensor {
    let experts = clean.size().last().copied().unwrap_or(0);
    if k >= experts {
        let tokens = clean.size().first().copied().unwrap_or(0);
        return Tensor::full([experts], tokens, (clean.kind(), clean.device()));
    }
    let (top, _) = noisy.topk(k + 1, -1, true, true);
    let (inside, outside) = (top.narrow(-1, k, 1), top.narrow(-1, k - 1, 1)); // [tokens, 1]
    let threshold = inside.where_self(&noisy.gt_tensor(&inside), &outside); // [tokens, experts]
    ((clean - threshold) / std).special_ndtr().sum_dim_intlist([0i64].as_slice(), false, clean.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::{Seed, rng};

    #[test]
    fn counts_and_importance_agree_with_hand() {
        let index = Tensor::from_slice(&[0i64, 2, 2, 1]).view([2, 2]);
        let gates = Tensor::from_slice(&[0.5f64, 0.25, 0.75, 0.125]).view([2, 2]);
        assert_eq!(Vec::<f64>::try_from(counts(&index, 4, Kind::Double)).unwrap(), [1.0, 1.0, 2.0, 0.0]);
        assert_eq!(Vec::<f64>::try_from(importance(&gates, &index, 4)).unwrap(), [0.5, 0.125, 1.0, 0.0]);
    }

    #[test]
    fn load_counts_every_token_when_all_experts_are_chosen() {
        let logits = rng::normal(&mut Seed(0).stream("test", 0), &[5, 3], 1.0);
        let all: Vec<f32> = load(&logits, &logits, 1.0, 3).try_into().unwrap();
        assert_eq!(all, [5.0, 5.0, 5.0]);
    }
}
