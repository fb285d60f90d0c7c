//! Prompt tuning, instruction tuning and demonstration retrieval.
