//! The section `features`: what is known of items besides who chose them.

use std::path::PathBuf;

use crate::util::config_section::{config_section, require};

config_section! {
    /// What is known of items besides who chose them, so that new ones are placed by what they are; see docs/features.md.
    pub struct FeaturesConfig {
        /// Rows that features are hashed to (65536, say), each of `model.dim` numbers and made when a feature first falls
        /// into it; 0: items have no features.
        buckets: usize = 0 => [state, at_most(1 << 26), check(|&buckets, section| {
            let needed = !section.catalogue.as_os_str().is_empty();
            require(buckets > 0 || !needed, "must be above 0 where there is a features.catalogue")
        })];
        /// A Parquet file that describes items: a column of item ids, named as `source.fields.item_id` says, and further
        /// ones. Empty: none; then only the features of events count.
        // A catalogue may move, and gain items: those that are known keep what it said of them. So no state depends on it.
        catalogue: PathBuf = PathBuf::new();
        /// Which columns of the catalogue are features; empty: all others of text, lists of text, whole numbers and truth
        /// values.
        columns: Vec<String> = Vec::new() => [state, check(|columns, section| {
            let names_some = !columns.is_empty();
            let message = "names columns of a features.catalogue, but there is none";
            require(!names_some || !section.catalogue.as_os_str().is_empty(), message)
        })];
    }
}
