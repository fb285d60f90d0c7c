//! FPGA cost models for multi-task networks: latency, energy, memory and resources, without libtorch.
