//! What leads to other machines: the client that all logs there share, and the buckets that it opens.

use std::sync::Arc;

use super::address::{BucketAddress, Provider};
use crate::remote::bucket::ObjectBucket;
use crate::remote::client::RemoteClient;
use crate::remote::stores::{self, StoreError, StoreKind};
use crate::source::parquet::{NetworkOptions, ParquetLogError};

/// What leads to other machines. Nothing is started before the first log there.
pub(super) struct Network<'a> {
    options: &'a NetworkOptions,
    client: Option<Arc<RemoteClient>>,
}

impl<'a> Network<'a> {
    pub(super) fn new(options: &'a NetworkOptions) -> Self {
        Self { options, client: None }
    }

    /// The client that all logs share.
    pub(super) fn client(&mut self) -> Result<Arc<RemoteClient>, ParquetLogError> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        let client = RemoteClient::start(self.options.timeout).map_err(|source| ParquetLogError::Network { source })?;
        Ok(Arc::clone(self.client.insert(client)))
    }

    /// The bucket that an address names. Its store is not asked yet.
    pub(super) fn bucket(&mut self, address: &BucketAddress<'_>) -> Result<ObjectBucket, ParquetLogError> {
        let client = self.client()?;
        let refuse = |problem| ParquetLogError::InvalidAddress { address: address.to_string(), problem };
        let NetworkOptions { storage_options, timeout } = self.options;
        let opened = match address.provider {
            Provider::S3 => stores::s3(address.bucket, storage_options, *timeout).map(|store| (store, StoreKind::S3)),
            #[cfg(feature = "gcs")]
            Provider::Google => {
                stores::gcs(address.bucket, storage_options, *timeout).map(|store| (store, StoreKind::Gcs))
            }
            #[cfg(feature = "azure")]
            Provider::Azure => stores::azure(address.bucket, address.account, storage_options, *timeout)
                .map(|store| (store, StoreKind::Azure)),
            #[cfg(not(all(feature = "gcs", feature = "azure")))]
            other => return Err(refuse(other.feature().missing())),
        };
        let (store, kind) = opened.map_err(|error| {
            refuse(match error {
                StoreError::UnknownOption(name) => format!("source.storage_options has no option '{name}'"),
                StoreError::Invalid(problem) => problem,
            })
        })?;
        Ok(ObjectBucket::new(client, store, kind))
    }
}
