//! What went wrong with a request: problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::recommend::slot::NoView;

/// The longest detail, in characters: it may repeat what was sent.
const LONGEST_DETAIL: usize = 400;

/// A kind of problem: its name, the status of the answer, and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// The request cannot be read, or asks for what cannot be.
    Invalid,
    /// The token is missing, or another.
    Unauthorized,
    /// The API is not served here.
    Disabled,
    /// There is no such path.
    NoSuchPath,
    /// The model does not know the user, or nothing of them.
    UnknownUser,
    /// The model does not know the item.
    UnknownItem,
    /// The path is there, but not for this method.
    WrongMethod,
    /// The body came too slowly.
    TooSlow,
    /// The body is too long.
    TooLong,
    /// The body is not JSON by its type.
    NotJson,
    /// Too many requests wait.
    TooMany,
    /// A fault of this program.
    Fault,
    /// There is no model to ask yet.
    NotReady,
    /// The answer was not made in time.
    Deadline,
}

impl ProblemKind {
    /// All of them, for the description of the API.
    pub(super) const ALL: [Self; 14] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Disabled,
        Self::NoSuchPath,
        Self::UnknownUser,
        Self::UnknownItem,
        Self::WrongMethod,
        Self::TooSlow,
        Self::TooLong,
        Self::NotJson,
        Self::TooMany,
        Self::Fault,
        Self::NotReady,
        Self::Deadline,
    ];

    /// The last part of its `type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid-request",
            Self::Unauthorized => "unauthorized",
            Self::Disabled => "not-served",
            Self::NoSuchPath => "no-such-path",
            Self::UnknownUser => "unknown-user",
            Self::UnknownItem => "unknown-item",
            Self::WrongMethod => "wrong-method",
            Self::TooSlow => "body-too-slow",
            Self::TooLong => "body-too-long",
            Self::NotJson => "not-json",
            Self::TooMany => "too-many-requests",
            Self::Fault => "fault",
            Self::NotReady => "not-ready",
            Self::Deadline => "deadline",
        }
    }

    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Disabled => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::UnknownUser | Self::UnknownItem => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotReady | Self::Deadline => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Invalid => "the request cannot be read, or asks for what cannot be",
            Self::Unauthorized => "a token is needed",
            Self::Disabled => "the API is not served here",
            Self::NoSuchPath => "no such path",
            Self::UnknownUser => "the model does not know the user",
            Self::UnknownItem => "the model does not know the item",
            Self::WrongMethod => "the path is not for this method",
            Self::TooSlow => "the body came too slowly",
            Self::TooLong => "the body is too long",
            Self::NotJson => "the body has to be application/json",
            Self::TooMany => "too many requests wait",
            Self::Fault => "a fault of this program",
            Self::NotReady => "there is no model to ask yet",
            Self::Deadline => "the answer was not made in time",
        }
    }

    /// After how many seconds it may be worth to ask again.
    fn retry_after(self) -> Option<&'static str> {
        matches!(self, Self::TooMany | Self::NotReady | Self::Deadline).then_some("1")
    }
}

/// A problem, and what it is in this case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiProblem {
    pub(super) kind: ProblemKind,
    detail: String,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
}

impl From<NoView> for ApiProblem {
    fn from(NoView: NoView) -> Self {
        Self::new(ProblemKind::NotReady, "no model was there in time; the worker restores, or has just begun")
    }
}

impl ApiProblem {
    /// A problem; what is too long in its detail is cut.
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(LONGEST_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { kind, detail }
    }

    /// The answer to the request `request_id`.
    pub(super) fn into_response(self, request_id: &str) -> Response {
        let Self { kind, detail } = self;
        let body = ProblemBody {
            r#type: format!("urn:negstream:problem:{}", kind.name()),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: &detail,
            request_id,
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (kind.status(), [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = kind.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if kind == ProblemKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The schema of the body.
    pub(super) fn schema() -> Value {
        let names: Vec<String> =
            ProblemKind::ALL.iter().map(|kind| format!("urn:negstream:problem:{}", kind.name())).collect();
        json!({
            "type": "object",
            "description": "What went wrong (RFC 9457).",
            "required": ["type", "title", "status", "detail", "request_id"],
            "properties": {
                "type": { "type": "string", "enum": names },
                "title": { "type": "string", "description": "The kind of problem, in words." },
                "status": { "type": "integer", "description": "The status of the answer." },
                "detail": { "type": "string", "description": "What it is in this case." },
                "request_id": { "type": "string", "description": "As in the header `x-request-id`." },
            },
        })
    }
}
