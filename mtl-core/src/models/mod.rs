//! Functional models.
