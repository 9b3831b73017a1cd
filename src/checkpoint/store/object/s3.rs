//! Amazon S3, and every store that speaks its protocol with conditional puts: MinIO, Ceph, R2, Google's XML interface.
//!
//! Options come from the environment (`AWS_…`, as every S3 program reads them), under `checkpoint.storage_options`.

use std::path::PathBuf;
use std::time::Duration;

use super::bucket::BucketClient;
use crate::checkpoint::CheckpointConfig;
use crate::checkpoint::CheckpointError;
use crate::remote::retry::RetryPolicy;
use crate::remote::stores::{self, StoreError};

/// A client for the keys below `prefix` of `bucket`.
///
/// # Errors
/// Where an option is not known, or the thread for requests cannot be started. The store is not asked yet.
pub(super) fn connect(bucket: &str, prefix: &str, config: &CheckpointConfig) -> Result<BucketClient, CheckpointError> {
    let dir = PathBuf::from(format!("s3://{bucket}/{prefix}").trim_end_matches('/'));
    let timeout = Duration::from_millis(config.request_timeout_ms);
    let store = stores::s3(bucket, &config.storage_options, timeout).map_err(|error| {
        let problem = match error {
            StoreError::UnknownOption(name) => format!("checkpoint.storage_options has no option '{name}'"),
            StoreError::Invalid(problem) => problem,
        };
        CheckpointError::InvalidLocation { dir: dir.clone(), problem }
    })?;
    BucketClient::new(store, prefix, dir, RetryPolicy::over_client(timeout))
}
