//! Optimisers and schedules; all state is a `StateDict`.
