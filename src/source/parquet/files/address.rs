//! Where the name of a log points: to this machine, into an object store, or to a web server.

use crate::source::parquet::ParquetLogError;
use crate::util::cargo_feature::CargoFeature;
use crate::util::credentials::hide_credentials;

/// Where the name of a log points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogAddress<'a> {
    /// A path or pattern of this machine.
    Local(&'a str),
    /// Objects of a bucket.
    Bucket(BucketAddress<'a>),
    /// A file of a web server.
    Web(&'a str),
}

/// Objects of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BucketAddress<'a> {
    pub(super) provider: Provider,
    pub(super) bucket: &'a str,
    /// Of Azure: the account, where the address names it.
    pub(super) account: Option<&'a str>,
    /// The key of an object, a prefix of keys that ends where a name ends, or a pattern.
    pub(super) key: &'a str,
}

/// Whose object stores there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    S3,
    Google,
    Azure,
}

impl Provider {
    /// The scheme by which addresses are shown.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }

    /// What a program has to be built with.
    pub(super) fn feature(self) -> CargoFeature {
        match self {
            Self::S3 => CargoFeature::S3,
            Self::Google => CargoFeature::Gcs,
            Self::Azure => CargoFeature::Azure,
        }
    }

    /// Where credentials are set instead of in addresses.
    fn credentials(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            Self::Google => "GOOGLE_APPLICATION_CREDENTIALS",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        }
    }
}

impl<'a> LogAddress<'a> {
    /// Reads a name as it stands on the command line.
    ///
    /// # Errors
    /// [`ParquetLogError::InvalidAddress`] for one that this program was built without, or that cannot be;
    /// [`ParquetLogError::NotFound`] for one that nobody reads logs from.
    pub(super) fn parse(name: &'a str) -> Result<Self, ParquetLogError> {
        let name = name.strip_prefix("file://").unwrap_or(name);
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+';
        let Some((scheme, rest)) = name.split_once("://").filter(|(scheme, _)| scheme.bytes().all(is_letter)) else {
            return Ok(Self::Local(name));
        };
        let provider = match scheme.to_ascii_lowercase().as_str() {
            "" => return Ok(Self::Local(name)),
            "s3" | "s3a" | "s3n" => Provider::S3,
            "gs" | "gcs" => Provider::Google,
            "az" | "azure" | "abfs" | "abfss" | "adl" | "wasb" | "wasbs" => Provider::Azure,
            "http" | "https" => {
                CargoFeature::Http.require_if(true).map_err(|problem| refuse(name, &problem))?;
                return Ok(Self::Web(name));
            }
            other => return Err(nobodys(name, other)),
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, account) = match authority.split_once('@') {
            None => (authority, None),
            // container@account.dfs.core.windows.net
            Some((container, host)) if provider == Provider::Azure && !container.contains(':') => {
                let account = host.strip_suffix(".core.windows.net").and_then(|host| host.split_once('.'));
                let Some((account, "dfs" | "blob")) = account else {
                    let problem = "behind the '@' must be ACCOUNT.dfs.core.windows.net; another address of the store is \
                                   AZURE_STORAGE_ENDPOINT";
                    return Err(refuse(name, problem));
                };
                (container, Some(account))
            }
            Some(_) => {
                let problem = format!("credentials have no place in it; set {}", provider.credentials());
                return Err(refuse(name, &problem));
            }
        };
        if bucket.is_empty() || bucket.contains(['?', '#', '*', '[', ':']) {
            return Err(refuse(name, &format!("must be {}://BUCKET/KEY", provider.scheme())));
        }
        provider.feature().require_if(true).map_err(|problem| refuse(name, &problem))?;
        Ok(Self::Bucket(BucketAddress { provider, bucket, account, key }))
    }
}

#[cfg(not(feature = "http"))]
impl LogAddress<'_> {
    /// The error for the address, which is not one of this machine, where this program was built without what it needs.
    pub(super) fn refused(&self, name: &str) -> ParquetLogError {
        let feature = match self {
            Self::Bucket(address) => address.provider.feature(),
            Self::Local(_) | Self::Web(_) => CargoFeature::Http,
        };
        refuse(name, &feature.missing())
    }
}

/// What may be shown of an address.
pub(super) fn shown(name: &str) -> String {
    hide_credentials(name).into_owned()
}

fn refuse(name: &str, problem: &str) -> ParquetLogError {
    ParquetLogError::InvalidAddress { address: shown(name), problem: problem.to_owned() }
}

/// The error for an address from which no logs are read.
fn nobodys(name: &str, scheme: &str) -> ParquetLogError {
    let advice = match scheme {
        "hdfs" | "viewfs" => "logs are not read from there: copy it (hdfs dfs -get)",
        "ftp" | "ftps" | "sftp" => "logs are not read from there: download it (curl -O)",
        _ => "logs are read from this machine, s3://, gs://, az:// and https://: copy it to one of them",
    };
    ParquetLogError::NotFound { pattern: shown(name), reason: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_local_whatever_they_hold() {
        for (name, path) in [("a/b*.parquet", "a/b*.parquet"), ("file:///a/b", "/a/b"), ("day=1:2", "day=1:2")] {
            assert_eq!(LogAddress::parse(name).unwrap(), LogAddress::Local(path));
        }
    }

    #[test]
    fn addresses_with_credentials_or_of_others_are_refused_without_repeating_them() {
        for name in [
            "s3://AK:S3CR3T@bucket/logs",
            "gs://u:S3CR3T@bucket/logs",
            "az://c:S3CR3T@account.dfs.core.windows.net/logs",
            "abfss://c@elsewhere.example/logs?sig=S3CR3T",
            "hdfs://u:S3CR3T@host/logs",
            "s3://?token=S3CR3T",
        ] {
            let said = LogAddress::parse(name).unwrap_err().to_string();
            assert!(!said.contains("S3CR3T") && said.contains("://"), "{said}");
        }
    }

    #[cfg(all(feature = "azure", feature = "gcs", feature = "http"))]
    #[test]
    fn addresses_of_stores_name_bucket_and_key() {
        let parse = |name| match LogAddress::parse(name).unwrap() {
            LogAddress::Bucket(BucketAddress { provider, bucket, account, key }) => {
                (provider.scheme(), bucket, account, key)
            }
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(parse("s3a://b/logs/day=1/"), ("s3", "b", None, "logs/day=1/"));
        assert_eq!(parse("gs://b"), ("gs", "b", None, ""));
        assert_eq!(parse("az://c/a*"), ("az", "c", None, "a*"));
        assert_eq!(parse("abfss://c@acc.dfs.core.windows.net/a"), ("az", "c", Some("acc"), "a"));
        assert_eq!(LogAddress::parse("https://h/a?b").unwrap(), LogAddress::Web("https://h/a?b"));
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn addresses_are_refused_by_name_of_the_feature() {
        let said = LogAddress::parse("s3://bucket/logs").unwrap_err().to_string();
        assert!(said.contains("'s3'"), "{said}");
    }
}
