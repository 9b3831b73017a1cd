//! `POST /checkpoint`: a checkpoint of all that was read so far, for whoever shows the token.
//!
//! | answer | when |
//! | --- | --- |
//! | 200, with the checkpoint's name and the records that it has read | it is durable |
//! | 202 | it was asked for, and takes longer than [`PATIENCE`] |
//! | 401 | the token is missing, or another |
//! | 403 | `http.token` is not set: nobody may, on this machine either, since pages in a browser reach it too |
//! | 409 | a checkpoint is being written: it may lack what was read meanwhile |
//! | 500 | it could not be written |
//! | 503 | the worker does not train yet, or any more |

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Handlers, Stage};
use crate::pipeline::CheckpointAnswer;

/// The longest wait for the checkpoint.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it is durable.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a program has to show. Kept and compared by its digest, so that the time of a comparison tells nothing of it.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// The token of the configuration; `None` where it is empty.
    pub(super) fn new(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(Sha256::digest(token).into()))
    }

    /// Whether `headers` show the token.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = shown.and_then(|value| value.split_once(' '));
        let Some((_, token)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else { return false };
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        digest.iter().zip(&self.0).fold(0, |differences, (theirs, ours)| differences | (theirs ^ ours)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token")
    }
}

/// Answers a request for a checkpoint.
pub(super) async fn checkpoint(State(handlers): State<Handlers>, headers: HeaderMap) -> Response {
    let refuse = |code: StatusCode, why: &str| (code, format!("{why}\n")).into_response();
    let Some(token) = &handlers.token else {
        return refuse(StatusCode::FORBIDDEN, "http.token is not set; SIGUSR1 asks for a checkpoint too");
    };
    if !token.is_shown(&headers) {
        let mut response = refuse(StatusCode::UNAUTHORIZED, "Authorization: Bearer TOKEN is needed, with http.token");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let status = handlers.telemetry.snapshot();
    if !matches!(status.lifecycle.stage, Stage::Running) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the worker does not train yet, or any more");
    }
    if status.run.checkpoints.is_in_progress {
        let mut response = refuse(StatusCode::CONFLICT, "a checkpoint is being written; ask again once it is");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    let (ticket, began) = (handlers.requests.ask(), Instant::now());
    while began.elapsed() < PATIENCE {
        match handlers.requests.answer(ticket) {
            Some(CheckpointAnswer::Durable { name, events }) => {
                return Json(json!({ "checkpoint": name, "events": events })).into_response();
            }
            Some(CheckpointAnswer::Failed(why)) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    (StatusCode::ACCEPTED, Json(json!({ "checkpoint": null }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &str) -> HeaderMap {
        let value = HeaderValue::from_str(authorization).expect("a header");
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn token_has_to_be_shown_whole() {
        let token = Token::new("0123456789abcdef").expect("it is none that is empty");
        assert!(token.is_shown(&with("Bearer 0123456789abcdef")) && token.is_shown(&with("bearer  0123456789abcdef ")));
        for other in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer ",
        ] {
            assert!(!token.is_shown(&with(other)), "{other}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
        assert!(Token::new("").is_none());
        assert_eq!(format!("{token:?}"), "Token");
    }
}
