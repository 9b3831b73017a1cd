//! Documents: their identifiers and versions, the mapping of the index, and the way back to rows.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::publish::{StoredRow, Version};

/// Bytes that an identifier of a document may have.
const MAX_ID_BYTES: usize = 512;
/// Bits of a document's version that are the step; those before it are the epoch.
const STEP_BITS: u32 = 40;

/// A version as one number that grows with it; `None` where one of its parts does not fit (8 million epochs, 10¹² steps).
pub(super) fn document_version(version: Version) -> Option<u64> {
    let fits = version.epoch < 1 << (63 - STEP_BITS) && version.step < 1 << STEP_BITS;
    // Zero is no version.
    fits.then(|| (version.epoch << STEP_BITS | version.step).max(1))
}

/// The identifier of an item's document: its own, or a digest where that is too long.
pub(super) fn document_id(item_id: &str) -> String {
    if !item_id.is_empty() && item_id.len() <= MAX_ID_BYTES {
        return item_id.to_owned();
    }
    let digest = Sha256::digest(item_id.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// Settings and mapping of the index: the vector, and what the product's own ranking needs beside it.
pub(super) fn index_body(dim: usize, is_opensearch: bool) -> Value {
    let embedding = if is_opensearch {
        let method = json!({ "name": "hnsw", "engine": "lucene", "space_type": "innerproduct" });
        json!({ "type": "knn_vector", "dimension": dim, "method": method })
    } else {
        json!({ "type": "dense_vector", "dims": dim, "index": true, "similarity": "max_inner_product" })
    };
    // Deletions are remembered for an hour: so long a late write of an older worker is known to be late.
    let mut settings = json!({ "index": { "gc_deletes": "1h" } });
    if is_opensearch {
        settings["index"]["knn"] = Value::from(true);
    }
    json!({
        "settings": settings,
        "mappings": { "dynamic": false, "properties": {
            "item_id": { "type": "keyword" }, "embedding": embedding, "log_frequency": { "type": "float" },
            "epoch": { "type": "long" }, "step": { "type": "long" },
        } },
    })
}

/// A document as it is read; `None` where negstream has not written it.
pub(super) fn stored_row(hit: &Value) -> Option<StoredRow> {
    let document = &hit["_source"];
    let embedding: Option<Vec<f32>> =
        document["embedding"].as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect();
    Some(StoredRow {
        item_id: document["item_id"].as_str()?.to_owned(),
        embedding: embedding?,
        log_frequency: document["log_frequency"].as_f64()? as f32,
        version: Version { epoch: document["epoch"].as_u64()?, step: document["step"].as_u64()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_versions_grow_with_versions() {
        let of = |epoch, step| document_version(Version { epoch, step });
        assert!(of(1, 900) < of(2, 1) && of(2, 1) < of(2, 2));
        assert_eq!((of(0, 0), of(1 << 23, 0), of(0, 1 << 40)), (Some(1), None, None));
        assert!(i64::try_from(of((1 << 23) - 1, (1 << 40) - 1).unwrap()).is_ok());
    }

    #[test]
    fn identifiers_too_long_for_a_document_become_digests() {
        assert_eq!(document_id("item 7"), "item 7");
        let long = document_id(&"x".repeat(513));
        assert!(long.starts_with("sha256:") && long.len() == 71);
    }
}
