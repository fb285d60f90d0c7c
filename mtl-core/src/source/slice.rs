//! The leading corner of each parameter: one network that contains its narrower versions.
//!
//! Yu et al., *Slimmable Neural Networks*, ICLR 2019, arXiv 1812.08928.
use super::{Param, ParamSource};
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// A source that hands out the leading corner of the tensors it was given a size for, without copying.
///
/// Only a linear map packs its weight for the product, where columns were cut off: so its output has the bits of a
/// network of that size.
///
/// ```
/// use mtl_core::{ParamSource, StateDict, source::Slice};
/// use tch::Tensor;
///
/// let full = StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]))]);
/// let narrow = Slice::new(&full, [("w".to_owned(), vec![1, 2])].into())?;
/// assert_eq!(narrow.param("w")?.size(), [1, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Slice<S> {
    base: S,
    sizes: BTreeMap<String, Vec<i64>>,
}

impl<S: ParamSource> Slice<S> {
    /// Cuts each parameter named in `sizes` to that shape; the others stay whole.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a name `base` lacks, [`Error::Shape`] for a size of another rank, below 1 or above the
    /// parameter's own.
    pub fn new(base: S, sizes: BTreeMap<String, Vec<i64>>) -> Result<Self> {
        for (name, wanted) in &sizes {
            let full = base.param(name)?.size();
            let fits =
                wanted.len() == full.len() && wanted.iter().zip(&full).all(|(w, f)| (1..=*f).contains(w));
            if !fits {
                return Err(Error::shape(
                    format!("slice of {name}"),
                    format!("at most {full:?}"),
                    wanted.clone(),
                ));
            }
        }
        Ok(Self { base, sizes })
    }
}

impl<S: ParamSource> ParamSource for Slice<S> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        let (Some(param), Some(sizes)) = (self.base.find(name)?, self.sizes.get(name)) else {
            return self.base.find(name);
        };
        let narrow = |t, (dim, size): (usize, &i64)| -> Tensor { Tensor::narrow(&t, dim as i64, 0, *size) };
        Ok(Some(Param::Owned(sizes.iter().enumerate().fold(param.into_tensor(), narrow))))
    }

    fn names(&self) -> Vec<String> {
        self.base.names()
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        if !self.sizes.contains_key(&weight) && !self.sizes.contains_key(&bias) {
            return self.base.linear(name, x); // The base may have a cheaper way than through the weight.
        }
        // Packed for the product: BLAS rounds differently at another row stride, and a cut network must give these bits.
        super::linear(name, x, &self.param(&weight)?.contiguous(), self.find(&bias)?.as_deref())
    }
}
