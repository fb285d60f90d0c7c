//! Continual learning: scenarios, replay and the methods around them.
