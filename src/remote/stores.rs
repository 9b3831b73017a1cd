//! The stores of objects that a program can be pointed to, each with the options that programs of its kind read.
//!
//! Options come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`), under those of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use super::connection::TimeoutConnector;
use super::retry::repetitions;

/// How the names of options begin that are those of one kind of store alone.
const PREFIXES: [&str; 3] = ["aws_", "google_", "azure_"];

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Amazon S3, and every store that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage, with or without folders of its own.
    Azure,
    /// A web server.
    Web,
}

impl StoreKind {
    /// Where the kind's credentials are looked for, for a person who has to set them.
    pub fn credentials(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
            Self::Gcs => "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
            Self::Azure => {
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public container"
            }
            Self::Web => "user and password, or the signature, are part of the address; a signature expires",
        }
    }

    /// What names another address of the store.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ENDPOINT_URL and AWS_REGION",
            Self::Gcs => "GOOGLE_BASE_URL",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT",
            Self::Web => "the address",
        }
    }
}

/// Why a store cannot be what its options say.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// An option that no such store has.
    #[error("there is no option '{0}'")]
    UnknownOption(String),
    /// Options that contradict each other, lack something or name a file that cannot be read.
    #[error("{0}")]
    Invalid(String),
}

/// The connector to a store at `endpoint`, where another one than the usual is named.
fn connector(endpoint: Option<&str>, timeout: Duration) -> TimeoutConnector {
    TimeoutConnector { tls: !endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")), timeout }
}

/// The options of the kind whose names begin with `prefix`, as keys of its builder.
fn options<K: std::str::FromStr>(
    options: &BTreeMap<String, String>,
    prefix: &str,
) -> Result<Vec<(K, String)>, StoreError> {
    let is_of_another = |name: &str| PREFIXES.iter().any(|other| *other != prefix && name.starts_with(other));
    let own = options.iter().filter(|(name, _)| !is_of_another(name));
    own.map(|(name, value)| match name.parse() {
        Ok(key) => Ok((key, value.clone())),
        Err(_) => Err(StoreError::UnknownOption(name.clone())),
    })
    .collect()
}

fn invalid(error: &object_store::Error) -> StoreError {
    // The kind of the store is said by the address.
    let said = error.to_string();
    let said =
        said.strip_prefix("Generic ").and_then(|said| said.split_once(" error: ")).map_or(&*said, |(_, why)| why);
    StoreError::Invalid(said.to_owned())
}

/// A bucket of S3. The store is not asked yet.
///
/// # Errors
/// [`StoreError`]: an option that is not known, or cannot be.
pub fn s3(bucket: &str, own: &BTreeMap<String, String>, timeout: Duration) -> Result<Arc<dyn ObjectStore>, StoreError> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

    // Removing one by one is what every such store can do.
    let mut builder = AmazonS3Builder::from_env().with_disable_bulk_delete(true);
    for (key, value) in options(own, "aws_")? {
        builder = builder.with_config(key, value);
    }
    let option = |key| builder.get_config_value(&key);
    let endpoint = option(AmazonS3ConfigKey::S3Endpoint).or_else(|| option(AmazonS3ConfigKey::Endpoint));
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(repetitions(timeout))
        .with_http_connector(connector(endpoint.as_deref(), timeout))
        .build()
        .map_err(|error| invalid(&error))?;
    Ok(Arc::new(store))
}

/// A bucket of Google Cloud Storage. The store is not asked yet.
///
/// # Errors
/// [`StoreError`]: an option that is not known, or cannot be.
#[cfg(feature = "gcs")]
pub fn gcs(
    bucket: &str,
    own: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (key, value) in options(own, "google_")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(repetitions(timeout))
        .with_http_connector(connector(endpoint.as_deref(), timeout))
        .build()
        .map_err(|error| invalid(&error))?;
    Ok(Arc::new(store))
}

/// A container of Azure Blob Storage, of the account that the options name where `account` is `None`. The store is not asked
/// yet.
///
/// # Errors
/// [`StoreError`]: an option that is not known, or cannot be.
#[cfg(feature = "azure")]
pub fn azure(
    container: &str,
    account: Option<&str>,
    own: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

    let mut builder = MicrosoftAzureBuilder::from_env();
    for (key, value) in options(own, "azure_")? {
        builder = builder.with_config(key, value);
    }
    if let Some(account) = account {
        builder = builder.with_account(account);
    }
    let option = |key| builder.get_config_value(&key);
    let is_emulator = option(AzureConfigKey::UseEmulator).is_some_and(|value| value == "true");
    if option(AzureConfigKey::AccountName).is_none() && !is_emulator {
        let problem = "no account is named: set AZURE_STORAGE_ACCOUNT_NAME, or write it \
                       abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY";
        return Err(StoreError::Invalid(problem.to_owned()));
    }
    // The emulator's address is plain.
    let endpoint = if is_emulator { Some("http://".to_owned()) } else { option(AzureConfigKey::Endpoint) };
    let store = builder
        .with_container_name(container)
        .with_retry(repetitions(timeout))
        .with_http_connector(connector(endpoint.as_deref(), timeout))
        .build()
        .map_err(|error| invalid(&error))?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn with(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), "x".to_owned())])
    }

    #[test]
    fn options_of_other_kinds_are_passed_over_and_unknown_ones_are_named() {
        assert!(s3("b", &with("google_service_account"), TIMEOUT).is_ok());
        assert!(s3("b", &with("region"), TIMEOUT).is_ok());
        for name in ["regoin", "aws_regoin"] {
            assert_eq!(s3("b", &with(name), TIMEOUT).err(), Some(StoreError::UnknownOption(name.to_owned())));
        }
    }

    #[cfg(all(feature = "gcs", feature = "azure"))]
    #[test]
    fn stores_of_every_kind_can_be_opened() {
        assert!(gcs("b", &with("google_bearer_token"), TIMEOUT).is_ok());
        assert!(gcs("b", &with("google_regoin"), TIMEOUT).is_err());
        let said = azure("c", None, &with("azure_storage_sas_key"), TIMEOUT).err().map(|error| error.to_string());
        // Unless the environment of the tests names one.
        assert!(said.is_none_or(|said| said.contains("AZURE_STORAGE_ACCOUNT_NAME")));
        assert!(azure("c", Some("account"), &with("azure_storage_token"), TIMEOUT).is_ok());
    }
}
