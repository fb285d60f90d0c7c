//! Studies: grids of cells, a resumable runner and reports.
