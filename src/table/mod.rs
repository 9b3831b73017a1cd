//! \[6\] The table: rows of embeddings that grow with the stream, their names, and the optimizer that moves them.

pub mod adagrad;
pub mod admission;
pub mod baseline;
pub mod changes;
pub mod chunks;
pub mod generation_map;
pub mod ids;
pub mod paged;
pub mod records;
pub mod row_remap;
pub mod rows;
