//! A file of a web server: by ranges where the server answers them, or as a copy without a name.
//!
//! Servers are asked with GET alone: whoever is given a signed address may do no more. The first answer tells the length, and
//! whether there are ranges. What may be secret in an address (user information, which becomes basic authentication, and the
//! query) goes to the server that it is of, and into no message.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, LOCATION, RANGE, USER_AGENT,
};
use hyper::{Request, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as _, HttpError, HttpRequestBody, HttpResponse, HttpResponseBody,
};
use url::Url;

use super::client::RemoteClient;
use super::connection::TimeoutConnector;
use super::error::{RemoteError, concise};
use super::file::{FileOrigin, RemoteFile};
use super::stores::StoreKind;
use crate::util::temporary::nameless_file;

/// Most times that a server may send a request elsewhere.
const MOST_REDIRECTS: usize = 10;
/// Times that a request is made in all.
const ATTEMPTS: u32 = 5;

/// The address of a file.
#[derive(Clone)]
pub struct WebAddress {
    /// Without user information and fragment.
    url: Url,
    authorization: Option<HeaderValue>,
}

impl FromStr for WebAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("this is no address: {error}"))?;
        if url.host().is_none() {
            return Err("this is no address: it names no host".to_owned());
        }
        url.set_fragment(None);
        let decoded = |text: &str| percent_decoded(text);
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let mut pair = user;
            pair.push(b':');
            pair.extend(password);
            let mut value =
                HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).expect("base64 is fit for a header");
            value.set_sensitive(true);
            value
        });
        // An address with a host can go without them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, authorization })
    }
}

impl fmt::Display for WebAddress {
    /// What of it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebAddress({self})")
    }
}

/// The bytes that a text with `%20` and the like stands for.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Connections to web servers; opened when they are first needed, since not every machine has root certificates.
#[derive(Debug)]
pub(super) struct Connections {
    plain: OnceLock<HttpClient>,
    secure: OnceLock<HttpClient>,
    /// Longest wait for a connection, for the head of an answer, and for each piece of its body.
    timeout: Duration,
}

impl Connections {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { plain: OnceLock::new(), secure: OnceLock::new(), timeout }
    }

    fn to(&self, url: &Url) -> Result<&HttpClient, RemoteError> {
        let tls = url.scheme() == "https";
        let client = if tls { &self.secure } else { &self.plain };
        if let Some(client) = client.get() {
            return Ok(client);
        }
        let opened = TimeoutConnector { tls, timeout: self.timeout }.connect(&ClientOptions::new());
        let opened = opened.map_err(|error| RemoteError::Refused { said: innermost(&error) })?;
        Ok(client.get_or_init(|| opened))
    }

    /// Asks for a range, or for the whole, wherever that is by now.
    async fn ask(&self, address: &WebAddress, range: Option<&Range<u64>>) -> Result<HttpResponse, RemoteError> {
        let mut url = address.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::get(url.as_str())
                .header(USER_AGENT, concat!("negstream/", env!("CARGO_PKG_VERSION")))
                .header(ACCEPT_ENCODING, "identity");
            if let Some(range) = range {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            // Another server is told no password.
            if let Some(authorization) = address.authorization.as_ref().filter(|_| url.origin() == address.url.origin())
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(HttpRequestBody::empty()).map_err(|error| refused(error.to_string()))?;
            let response = self.to(&url)?.execute(request).await.map_err(|error| of_connection(&error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let onward = text_of(response.headers(), LOCATION).and_then(|place| url.join(place).ok());
            let onward = onward.ok_or_else(|| refused(format!("{} without an address", response.status())))?;
            if onward.scheme() != "https" && onward.scheme() != url.scheme() {
                return Err(refused(format!("it sends the request on to an address of {}", onward.scheme())));
            }
            url = onward;
        }
        Err(refused(format!("it sent the request on {MOST_REDIRECTS} times, without end")))
    }
}

/// A file whose server answers ranges.
#[derive(Debug)]
pub(super) struct WebFile {
    address: WebAddress,
    /// What tells the file from another one at this address: entity tag, or time of its last change.
    validator: Option<String>,
}

/// A file of a web server, opened.
#[derive(Debug)]
pub enum WebOpened {
    /// The server answers ranges.
    Ranges(RemoteFile),
    /// It does not: a copy, without a name.
    Copy(File),
}

/// Opens the file at `address`.
///
/// # Errors
/// A [`RemoteError`].
pub fn open(client: &Arc<RemoteClient>, address: &WebAddress) -> Result<WebOpened, RemoteError> {
    client.runtime.wait(repeated(client, async || {
        let response = client.connections.ask(address, Some(&(0..1))).await?;
        let length = total(response.headers());
        match (response.status(), length) {
            (StatusCode::PARTIAL_CONTENT, Some(length)) => {
                let file = WebFile { address: address.clone(), validator: validator(response.headers()) };
                let file = RemoteFile::new(Arc::clone(client), FileOrigin::Web(file), length);
                Ok(WebOpened::Ranges(file))
            }
            // A server that does not know the length has ranges that are of no use.
            (StatusCode::PARTIAL_CONTENT, None) => {
                Ok(WebOpened::Copy(copy(client, client.connections.ask(address, None).await?).await?))
            }
            // Of an empty file there is no range.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(0) | None) => Ok(WebOpened::Copy(nameless()?)),
            (StatusCode::OK, _) => Ok(WebOpened::Copy(copy(client, response).await?)),
            _ => Err(of_status(response).await),
        }
    }))
}

impl WebFile {
    /// Fetches a range of the file, which has `length` bytes.
    pub(super) async fn get(
        &self,
        client: &RemoteClient,
        range: Range<u64>,
        length: u64,
    ) -> Result<Bytes, RemoteError> {
        repeated(client, async || {
            let response = client.connections.ask(&self.address, Some(&range)).await?;
            match response.status() {
                StatusCode::PARTIAL_CONTENT => {}
                StatusCode::RANGE_NOT_SATISFIABLE => return Err(RemoteError::Changed),
                StatusCode::OK => return Err(refused("it answered ranges before, and does no longer".to_owned())),
                _ => return Err(of_status(response).await),
            }
            let headers = response.headers();
            if total(headers) != Some(length) || validator(headers) != self.validator {
                return Err(RemoteError::Changed);
            }
            let begin = format!("bytes {}-{}/", range.start, range.end - 1);
            if !text_of(headers, CONTENT_RANGE).is_some_and(|text| text.starts_with(&begin)) {
                return Err(refused("another range than was asked for".to_owned()));
            }
            let expected = (range.end - range.start) as usize;
            let mut bytes = BytesMut::with_capacity(expected);
            let mut body = response.into_body();
            while let Some(piece) = piece(client, &mut body).await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() > expected {
                    break;
                }
            }
            if bytes.len() != expected {
                return Err(RemoteError::Cut { said: format!("{} bytes of {expected}", bytes.len()) });
            }
            Ok(bytes.freeze())
        })
        .await
    }
}

/// Does `work`, which is harmless to repeat, until the server answers.
async fn repeated<T>(client: &RemoteClient, work: impl AsyncFn() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut again = 0;
    loop {
        match work().await {
            Err(error) if is_transient(&error) && again + 1 < ATTEMPTS => {
                tracing::debug!(%error, again, "asking the server again");
                client.retry.back_off(again).await;
                again += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Whether it may pass if the request is repeated.
fn is_transient(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Unreachable { .. } | RemoteError::Cut { .. } | RemoteError::Busy { .. })
}

/// The innermost cause of an error, in its own words.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    concise(&error.to_string())
}

/// The next piece of an answer's body.
async fn piece(client: &RemoteClient, body: &mut HttpResponseBody) -> Result<Option<Bytes>, RemoteError> {
    loop {
        let frame = tokio::time::timeout(client.connections.timeout, body.frame()).await;
        let late = || RemoteError::Cut { said: "nothing more came in time".to_owned() };
        match frame.map_err(|_| late())? {
            None => return Ok(None),
            Some(Err(error)) => return Err(of_connection(&error)),
            // What is no data is a trailer.
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// A copy of a whole answer.
async fn copy(client: &RemoteClient, response: HttpResponse) -> Result<File, RemoteError> {
    if response.status() != StatusCode::OK {
        return Err(of_status(response).await);
    }
    let expected: Option<u64> = text_of(response.headers(), CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let (mut file, mut length) = (nameless()?, 0);
    let mut body = response.into_body();
    while let Some(piece) = piece(client, &mut body).await? {
        file.write_all(&piece).map_err(no_copy)?;
        length += piece.len() as u64;
    }
    match expected {
        Some(expected) if expected != length => Err(RemoteError::Cut { said: format!("{length} bytes of {expected}") }),
        _ => Ok(file),
    }
}

fn nameless() -> Result<File, RemoteError> {
    nameless_file().map_err(no_copy)
}

fn no_copy(source: std::io::Error) -> RemoteError {
    RemoteError::NoCopy { folder: std::env::temp_dir(), source }
}

/// The error that an answer with another status than was hoped for is.
async fn of_status(response: HttpResponse) -> RemoteError {
    let (status, kind) = (response.status(), StoreKind::Web);
    let said = status.to_string();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => RemoteError::Missing { said },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RemoteError::Denied { said, kind },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => RemoteError::Busy { said },
        status if status.is_server_error() => RemoteError::Busy { said },
        _ => RemoteError::Refused { said },
    }
}

fn of_connection(error: &HttpError) -> RemoteError {
    RemoteError::of_connection(error.kind(), innermost(error), StoreKind::Web)
}

fn refused(said: String) -> RemoteError {
    RemoteError::Refused { said }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The length of the whole file, of which an answer has a range.
fn total(headers: &HeaderMap) -> Option<u64> {
    text_of(headers, CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok()
}

/// What tells a file from another one at its address. A weak entity tag tells that as well.
fn validator(headers: &HeaderMap) -> Option<String> {
    text_of(headers, ETAG).or_else(|| text_of(headers, LAST_MODIFIED)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_no_secret_and_keep_it_for_the_server() {
        let address: WebAddress = "https://ada:p%40ss@host:8443/a%20b/log.parquet?sig=S3CR3T#part".parse().unwrap();
        assert_eq!(address.to_string(), "https://host:8443/a%20b/log.parquet");
        assert_eq!(address.url.as_str(), "https://host:8443/a%20b/log.parquet?sig=S3CR3T");
        assert_eq!(address.authorization.as_ref().unwrap(), &format!("Basic {}", STANDARD.encode("ada:p@ss")));
        assert!(!format!("{address:?}").contains("S3CR3T"));
        let none: WebAddress = "http://host/log.parquet".parse().unwrap();
        assert_eq!(none.authorization, None);
        assert!("http://".parse::<WebAddress>().is_err());
    }

    #[test]
    fn length_is_that_of_the_whole() {
        let mut headers = HeaderMap::new();
        assert_eq!(total(&headers), None);
        for (text, expected) in [("bytes 0-0/12", Some(12)), ("bytes */0", Some(0)), ("bytes 0-0/*", None)] {
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(text));
            assert_eq!(total(&headers), expected, "{text}");
        }
    }
}
