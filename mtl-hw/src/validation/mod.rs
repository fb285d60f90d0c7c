//! Predictions beside published numbers.
