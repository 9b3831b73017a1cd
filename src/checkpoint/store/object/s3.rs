//! Amazon S3, and every store that speaks its protocol with conditional puts: MinIO, Ceph, R2, Google's XML interface.
//!
//! Options come from the environment (`AWS_…`, as every S3 program reads them), under `checkpoint.storage_options`.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::bucket::{BucketClient, RetryPolicy};
use crate::checkpoint::CheckpointConfig;
use crate::checkpoint::CheckpointError;

/// The pause between attempts of a request, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Times that object_store repeats a request where the store says that it did nothing.
const RETRIES: usize = 4;
/// Times that a request is made in all, each with those repetitions.
const ATTEMPTS: u32 = 3;
/// A connection that was idle for this long may be dead.
const IDLE: Duration = Duration::from_secs(30);

/// A client for the keys below `prefix` of `bucket`.
///
/// # Errors
/// Where an option is not known, or the thread for requests cannot be started. The store is not asked yet.
pub(super) fn connect(bucket: &str, prefix: &str, config: &CheckpointConfig) -> Result<BucketClient, CheckpointError> {
    let dir = PathBuf::from(format!("s3://{bucket}/{prefix}").trim_end_matches('/'));
    let refuse = |problem: String| CheckpointError::InvalidLocation { dir: dir.clone(), problem };
    // Removing one by one is what every such store can do.
    let mut builder = AmazonS3Builder::from_env().with_disable_bulk_delete(true);
    for (name, value) in &config.storage_options {
        let key = AmazonS3ConfigKey::from_str(name);
        let key = key.map_err(|_| refuse(format!("checkpoint.storage_options has no option '{name}'")))?;
        builder = builder.with_config(key, value);
    }
    let timeout = Duration::from_millis(config.request_timeout_ms);
    let option = |key| builder.get_config_value(&key);
    let endpoint = option(AmazonS3ConfigKey::S3Endpoint).or_else(|| option(AmazonS3ConfigKey::Endpoint));
    let tls = !endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let backoff = BackoffConfig { init_backoff: PAUSE.0, max_backoff: PAUSE.1, base: 2.0 };
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: timeout * RETRIES as u32 })
        .with_http_connector(TimeoutConnector { tls, timeout })
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    // What hangs is cut off by the connector; this is for what it does not see, and for the retries in between.
    let retry = RetryPolicy { attempts: ATTEMPTS, pause: PAUSE.0, timeout: timeout * (RETRIES as u32 + 2) };
    BucketClient::new(Arc::new(store), prefix, dir, retry)
}

/// An HTTP connector whose connections give up after a timeout, and which opens plain or TLS connections as the endpoint
/// says.
#[derive(Debug)]
struct TimeoutConnector {
    tls: bool,
    timeout: Duration,
}

impl HttpConnector for TimeoutConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let timeout = self.timeout;
        if !self.tls {
            let mut tcp = Tcp::new();
            tcp.set_connect_timeout(Some(timeout));
            tcp.set_nodelay(true);
            return Ok(HttpClient::new(PooledConnection { client: client.build(tcp), timeout }));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: format!("no root certificates ({error}); install ca-certificates, or name some by SSL_CERT_FILE")
                .into(),
        })?;
        let connector: HttpsConnector<Tcp> = tls.https_or_http().enable_http1().build();
        Ok(HttpClient::new(PooledConnection { client: client.build(connector), timeout }))
    }
}

/// A pool of connections to the store.
#[derive(Debug)]
struct PooledConnection<C> {
    client: Client<C, HttpRequestBody>,
    /// For the head of an answer. Each piece of the body has a timeout of its own where it is read.
    timeout: Duration,
}

#[async_trait]
impl<C> HttpService for PooledConnection<C>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
                return Err(HttpError::new(kind, error));
            }
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
        };
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
