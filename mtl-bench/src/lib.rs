//! Metrics, statistics, tables, plots and reports over experiment records, without libtorch.
