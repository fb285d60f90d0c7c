//! Continual learning: scenarios, memories, methods, and the loop over a stream of tasks.
//!
//! A stream of tasks ([`mtl_core::data::TaskStream`]) is learned one task after the other by a method from [`methods`];
//! [`stream::train`] drives it and fills the matrix of accuracies that forgetting and transfer are computed from.
//!
//! ```
//! use mtl_continual::{Scenario, methods::{self, Setting}, stream};
//! use mtl_core::{Seed, data::{LabelledImages, StreamKind, TaskStream}, models::Mlp};
//! use tch::Tensor;
//!
//! // Four classes told apart by which pixel is bright, two tasks of two classes.
//! let images = || {
//!     let labels: Vec<i64> = (0..32).map(|i| i % 4).collect();
//!     let pixels: Vec<u8> = labels.iter().flat_map(|&l| (0..4).map(move |p| u8::from(p == l) * 200)).collect();
//!     LabelledImages::new(Tensor::from_slice(&pixels).view([32, 1, 2, 2]), Tensor::from_slice(&labels), 4)
//! };
//! let kind = StreamKind::ClassSplit { tasks: 2, shuffle: false };
//! let tasks = TaskStream::new(images()?, images()?, kind, Seed(0))?;
//! let setting = Setting::of(&tasks, Scenario::TaskIncremental, 0.1)?;
//! let model = Mlp::new(&[4, 16, 4])?;
//! let config = serde_json::json!({ "capacity": 16, "replay_batch": 8 });
//! let mut learner = methods::build("experience-replay", config, setting, Box::new(model), Seed(0))?;
//! let plan = stream::Plan::default().epochs(20).batch(8);
//! let matrix = stream::train(&mut *learner, &tasks, &plan, Seed(0), &mut stream::NoHooks)?;
//! assert_eq!(matrix[1], [1.0, 1.0]); // both tasks are still known at the end
//! # Ok::<(), mtl_core::Error>(())
//! ```
pub mod buffer;
mod classifier;
pub mod methods;
mod scenario;
pub mod stream;

pub use classifier::Classifier;
pub use scenario::Scenario;
