//! Gradient balancing: from one gradient per task to one update.
