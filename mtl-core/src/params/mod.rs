//! Parameter files: safetensors read by memory map and checked, written atomically; sharded checkpoints.
