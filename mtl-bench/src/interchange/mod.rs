//! Results in the files of other tools: TensorBoard event files, and CSV of any shape through a map of columns.
mod columns;
mod event;
mod protobuf;
mod tensorboard;
mod wide;

pub use columns::{ColumnMap, Field, read_long_csv};
pub use event::{Content, Data, Event, Histogram, Summary};
pub use tensorboard::{
    events_of_run, masked_crc32c, read_events, record_bytes, records_of_events, write_events,
};
pub use wide::{WideMap, read_wide_csv};
