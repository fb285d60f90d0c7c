//! Functional layers: functions of a parameter source, a name and an input.
//!
//! Names and shapes are those of PyTorch (`{name}.weight` `[out, in]`, `{name}.bias` `[out]`). Each layer comes with an
//! `init` that draws its parameters from streams of their own, one for each name, so that adding a layer to a model
//! leaves the initial weights of the others as they are.
//!
//! ```
//! use mtl_core::{ParamSource, Seed, StateDict, nn};
//! use tch::{Device, Kind, Tensor};
//!
//! let mut params = StateDict::new();
//! nn::linear::init("fc", 4, 2, true, nn::Init::default(), Seed(0), &mut params)?;
//! nn::layer_norm::init("norm", 2, &mut params)?;
//! let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
//! let y = nn::layer_norm(&params, "norm", &params.linear("fc", &x)?, 1e-5)?;
//! assert_eq!(y.size(), [3, 2]);
//! # Ok::<(), mtl_core::Error>(())
//! ```
mod activation;
pub mod attention;
pub mod conv;
mod dropout;
pub mod embedding;
pub mod feed_forward;
pub mod gru;
pub mod init;
pub mod layer_norm;
pub mod linear;
pub mod lstm;
pub mod patch;
pub mod rms_norm;

pub use activation::Activation;
pub use attention::{Attend, MultiHeadAttention, attend};
pub use conv::{Conv2d, conv2d};
pub use dropout::{check_probability, dropout};
pub use embedding::embedding;
pub use feed_forward::{DenseFeedForward, FeedForward};
pub use gru::gru_cell;
pub use init::Init;
pub use layer_norm::layer_norm;
pub use lstm::lstm_cell;
pub use patch::patch_embedding;
pub use rms_norm::rms_norm;
