//! Model merging: a streaming engine over safetensors checkpoints, without libtorch.
