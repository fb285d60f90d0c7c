//! Widths of slimmable networks under a budget.
