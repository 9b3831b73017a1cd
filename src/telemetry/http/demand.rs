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

use super::{Handlers, Stage};
use crate::pipeline::CheckpointAnswer;

/// The longest wait for the checkpoint.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it is durable.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Answers a request for a checkpoint.
pub(super) async fn checkpoint(State(handlers): State<Handlers>, headers: HeaderMap) -> Response {
    let refuse = |code: StatusCode, why: &str| (code, format!("{why}\n")).into_response();
    let Some(token) = &handlers.token else {
        return refuse(StatusCode::FORBIDDEN, "http.token is not set; SIGUSR1 asks for a checkpoint too");
    };
    if !token.is_shown(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())) {
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
