//! \[6\] The table: rows of embeddings that grow with the stream, their names, and the optimizer that moves them.

pub mod adagrad;
pub mod chunks;
pub mod ids;
pub mod marks;
pub mod newcomers;
pub mod paged;
pub mod records;
pub mod renumbering;
pub mod rows;
