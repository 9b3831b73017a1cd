//! Connections over HTTP that give up after a timeout: plain ones, and over TLS with the authorities that the machine trusts.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};

/// A connection that was idle for this long may be dead.
const IDLE: Duration = Duration::from_secs(30);

/// An HTTP connector whose connections give up after a timeout, and which opens plain or TLS connections as the endpoint
/// says.
#[derive(Debug)]
pub struct TimeoutConnector {
    /// Whether addresses may begin with `https`; then the machine has to have root certificates.
    pub tls: bool,
    /// Longest wait for a connection, and for the head of an answer.
    pub timeout: Duration,
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
            store: "HTTPS",
            source: format!("no root certificates ({error}); install ca-certificates, or name some by SSL_CERT_FILE")
                .into(),
        })?;
        let connector: HttpsConnector<Tcp> = tls.https_or_http().enable_http1().build();
        Ok(HttpClient::new(PooledConnection { client: client.build(connector), timeout }))
    }
}

/// A pool of connections.
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
