//! Data as it lies in files, before it becomes tensors: IDX, CSV.
