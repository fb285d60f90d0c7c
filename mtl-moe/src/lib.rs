//! Mixtures of experts for multi-task learning: routers, balance losses, dispatch, and the Vision Transformers that use
//! them.
//!
//! A [`router`] chooses experts for each token, possibly by the task; [`ExpertBank`] runs each expert once on the tokens
//! that chose it; [`MoeFeedForward`] puts both in the place of a transformer block's dense network; [`M3VitConfig`] puts
//! that in every second block of a ViT.
//!
//! ```
//! use mtl_core::{Context, Encoder, Seed, models::VitConfig};
//! use mtl_moe::M3VitConfig;
//! use tch::{Device, Kind, Tensor};
//!
//! let vit = VitConfig::default().image(1, 8, 2).size(16, 2, 2).intermediate_size(32);
//! let encoder = M3VitConfig::new(2).experts(4).top_k(2).build(vit)?;
//! let params = encoder.init(Seed(0))?;
//! let images = Tensor::zeros([3, 1, 8, 8], (Kind::Float, Device::Cpu)).into();
//! let features = encoder.encode(&params, &images, &Context::eval().with_task(1))?;
//! assert_eq!(features.pooled.size(), [3, 16]);
//! # Ok::<(), mtl_core::Error>(())
//! ```
pub mod balance;
mod experts;
mod feed_forward;
mod m3vit;
pub mod router;

pub use experts::{Dispatch, ExpertBank};
pub use feed_forward::MoeFeedForward;
pub use m3vit::{M3VitConfig, TaskRouting};
