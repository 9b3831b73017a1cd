//! Amazon S3, and whatever speaks its protocol with conditional puts: MinIO, Ceph, R2, Google's XML interface.
//!
//! Options come from the environment (`AWS_…`, as every S3 program reads them), under `checkpoint.store`.

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

use super::object::{Bucket, Patience};
use super::place::Address;
use crate::checkpoint::CheckpointError;
use crate::config::CheckpointConfig;

/// Between requests that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Times that a request is repeated where the store says that it did nothing.
const RETRIES: usize = 4;
/// Times that all of that is done again.
const TRIES: u32 = 3;
/// A connection that nobody used for so long may be dead.
const IDLE: Duration = Duration::from_secs(30);

/// The prefix that `address` names.
///
/// # Errors
/// Where an option is none, or the thread for it cannot be started. The store is not asked yet.
pub(super) fn open(address: &Address, config: &CheckpointConfig) -> Result<Bucket, CheckpointError> {
    let dir = PathBuf::from(address.url());
    let refuse = |problem: String| CheckpointError::Place { dir: dir.clone(), problem };
    // Removing one by one is what every such store can do.
    let mut builder = AmazonS3Builder::from_env().with_disable_bulk_delete(true);
    for (name, value) in &config.store {
        let key = AmazonS3ConfigKey::from_str(name);
        let key = key.map_err(|_| refuse(format!("checkpoint.store has no option '{name}'")))?;
        builder = builder.with_config(key, value);
    }
    let answer = Duration::from_millis(config.answer_ms);
    let option = |key| builder.get_config_value(&key);
    let endpoint = option(AmazonS3ConfigKey::S3Endpoint).or_else(|| option(AmazonS3ConfigKey::Endpoint));
    let tls = !endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let backoff = BackoffConfig { init_backoff: PAUSE.0, max_backoff: PAUSE.1, base: 2.0 };
    let store = builder
        .with_bucket_name(&address.bucket)
        .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: answer * RETRIES as u32 })
        .with_http_connector(Connector { tls, answer })
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    // What hangs is cut off by the connector; this is for what it does not see, and for the retries in between.
    let patience = Patience { tries: TRIES, pause: PAUSE.0, answer: answer * (RETRIES as u32 + 2) };
    Bucket::new(Arc::new(store), &address.prefix, dir, patience)
}

/// Makes connections for the store.
#[derive(Debug)]
struct Connector {
    tls: bool,
    answer: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let answer = self.answer;
        if !self.tls {
            let mut tcp = Tcp::new();
            tcp.set_connect_timeout(Some(answer));
            tcp.set_nodelay(true);
            return Ok(HttpClient::new(Connection { client: client.build(tcp), answer }));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: format!("no root certificates ({error}); install ca-certificates, or name some by SSL_CERT_FILE")
                .into(),
        })?;
        let connector: HttpsConnector<Tcp> = tls.https_or_http().enable_http1().build();
        Ok(HttpClient::new(Connection { client: client.build(connector), answer }))
    }
}

/// Connections to the store, kept and used again.
#[derive(Debug)]
struct Connection<C> {
    client: Client<C, HttpRequestBody>,
    /// For the head of an answer; its body has a deadline for each piece where it is read.
    answer: Duration,
}

#[async_trait]
impl<C> HttpService for Connection<C>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = match tokio::time::timeout(self.answer, self.client.request(request)).await {
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
