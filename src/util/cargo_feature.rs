//! Cargo features that a user can ask for, and the error where one was left out of this build.
//!
//! The sections of the configuration refuse such values before anything is touched, so that nobody learns in the middle of
//! a run what the program lacks. README.md has the table of all features.

/// A feature of this crate that a value of the configuration, or the address of a log, can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CargoFeature {
    /// Logs in Azure Blob Storage.
    Azure,
    /// Logs compressed by Brotli.
    Brotli,
    /// Logs in Google Cloud Storage.
    Gcs,
    /// Logs of a web server.
    Http,
    /// Embeddings into OpenSearch and Elasticsearch.
    Opensearch,
    /// Embeddings into PostgreSQL.
    Postgres,
    /// Records in Protobuf.
    Protobuf,
    /// Embeddings into Redis.
    Redis,
    /// A schema registry.
    Registry,
    /// Checkpoints and logs in S3.
    S3,
    /// TLS and SCRAM to brokers, https to a schema registry.
    Tls,
}

impl CargoFeature {
    /// Name of the feature in Cargo.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::Brotli => "brotli",
            Self::Gcs => "gcs",
            Self::Http => "http",
            Self::Opensearch => "opensearch",
            Self::Postgres => "postgres",
            Self::Protobuf => "protobuf",
            Self::Redis => "redis",
            Self::Registry => "registry",
            Self::S3 => "s3",
            Self::Tls => "tls",
        }
    }

    /// Whether this program was built with the feature.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Azure => cfg!(feature = "azure"),
            Self::Brotli => cfg!(feature = "brotli"),
            Self::Gcs => cfg!(feature = "gcs"),
            Self::Http => cfg!(feature = "http"),
            Self::Opensearch => cfg!(feature = "opensearch"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::Protobuf => cfg!(feature = "protobuf"),
            Self::Redis => cfg!(feature = "redis"),
            Self::Registry => cfg!(feature = "registry"),
            Self::S3 => cfg!(feature = "s3"),
            Self::Tls => cfg!(any(feature = "tls", feature = "tls-system")),
        }
    }

    /// The message for a user who asks for what was not built in.
    pub fn missing(self) -> String {
        let name = self.name();
        format!(
            "needs the feature '{name}', which this program was built without (cargo build --release --features {name})"
        )
    }

    /// Accepts `asked` where the feature was built in, or is not asked for.
    ///
    /// # Errors
    /// The message that names the feature.
    pub fn require_if(self, asked: bool) -> Result<(), String> {
        if asked && !self.is_built_in() { Err(self.missing()) } else { Ok(()) }
    }
}
