//! Losses of the task kinds.
