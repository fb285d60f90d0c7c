//! A table of vectors, one for each token.
use super::Init;
use crate::{Error, ParamSource, Result, Seed, StateDict, check};
use tch::{Kind, Tensor};

/// Writes `{name}.weight` `[vocabulary, dim]`; PyTorch's default is `Init::Normal { std: 1.0 }`.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(
    name: &str,
    vocabulary: i64,
    dim: i64,
    weight: Init,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    weight.fill(seed, &format!("{name}.weight"), &[vocabulary, dim], into)
}

/// The rows of `{name}.weight` `[vocabulary, dim]` that `ids` `[…]` name: `[…, dim]`.
///
/// libtorch itself refuses an id outside the vocabulary, so the range is not read a second time here; check ids where
/// they come from.
///
/// # Errors
///
/// [`Error::Unknown`] without a weight, [`Error::Shape`] when it is not a table, [`Error::Config`] when `ids` are not
/// `Int64`, [`Error::Torch`] for an id outside the vocabulary.
pub fn embedding(params: &dyn ParamSource, name: &str, ids: &Tensor) -> Result<Tensor> {
    let key = format!("{name}.weight");
    let weight = params.param(&key)?;
    check::dims2(&weight, &key, "[vocabulary, dim]")?;
    if ids.kind() != Kind::Int64 {
        return Err(Error::config(format!("ids of {name}"), "of kind Int64", format!("{:?}", ids.kind())));
    }
    Ok(Tensor::f_embedding(&weight, ids, -1, false, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_up_and_strange_ids_refused() {
        let mut params = StateDict::new();
        init("e", 4, 3, Init::Normal { std: 1.0 }, Seed(0), &mut params).unwrap();
        let out = embedding(&params, "e", &Tensor::from_slice(&[3i64, 0]).view([1, 2])).unwrap();
        assert_eq!(out.size(), [1, 2, 3]);
        assert_eq!(out.get(0).get(0), params.get("e.weight").unwrap().get(3));
        let outside = embedding(&params, "e", &Tensor::from_slice(&[4i64]));
        assert!(matches!(outside, Err(Error::Torch(_))), "{outside:?}");
        let kind = embedding(&params, "e", &Tensor::from_slice(&[1.0f32])).unwrap_err();
        insta::assert_snapshot!(kind, @"`ids of e` must be of kind Int64, but is Float");
    }
}
