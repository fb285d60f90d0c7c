//! Mixture-of-experts models for multi-task learning.
