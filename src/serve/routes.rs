//! The HTTP side of the API: who may ask, what a request may be, and how its answer is sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::answer::{ApiAnswer, ApiQuestion, DEFAULT_K, default_number};
use super::config::{ANY_ORIGIN, ServeConfig};
use super::desk::AnswerDesk;
use super::endpoint::Endpoint;
use super::figures::ServingFigures;
use super::index_keeper::IndexKeeper;
use super::map::MapDesk;
use super::messages::{RecommendRequest, ScoreRequest};
use super::openapi;
use super::problem::{ApiProblem, ProblemKind};
use super::search::{SearchDesk, SearchedNames};
use crate::util::encoding::random_id;
use crate::util::token::Token;

/// The header by which a request is recognised in the answer and by whoever asked.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over.
const LONGEST_REQUEST_ID: usize = 128;

/// What answers are made with.
#[derive(Debug, Clone)]
pub(super) struct ApiState {
    pub(super) desk: AnswerDesk,
    pub(super) map: MapDesk,
    pub(super) search: SearchDesk,
    pub(super) config: Arc<ServeConfig>,
    pub(super) token: Option<Token>,
    pub(super) figures: Arc<Mutex<ServingFigures>>,
    /// Kept for as long as anybody may ask.
    #[expect(dead_code, reason = "its thread ends with it")]
    pub(super) index_keeper: Arc<IndexKeeper>,
}

/// The name of a request.
#[derive(Debug, Clone)]
struct RequestId(String);

/// The router of the API on an address that this machine alone reaches (`is_local`), or others too.
pub(super) fn router(state: ApiState, is_local: bool) -> Router {
    let is_served = state.config.enabled && (is_local || state.token.is_some());
    let mut router = Router::new();
    if is_served {
        for endpoint in Endpoint::ALL {
            let method = match endpoint {
                Endpoint::Recommend => post(recommend),
                Endpoint::Score => post(score),
                Endpoint::Neighbors => get(neighbors),
                Endpoint::ItemVector => get(item_vector),
                Endpoint::UserVector => get(user_vector),
                Endpoint::Items => get(items),
                Endpoint::Users => get(users),
                Endpoint::Map => get(map),
            };
            router = router.route(endpoint.path(), method);
        }
        router = router.route("/v1/openapi.json", get(description)).method_not_allowed_fallback(wrong_method);
    }
    let elsewhere = move |request: Request| async move {
        let problem = match is_served {
            true => ApiProblem::new(ProblemKind::NoSuchPath, "GET /v1/openapi.json describes the API"),
            false => ApiProblem::new(
                ProblemKind::Disabled,
                "serve.enabled is false, or other machines reach the address and http.token is not set",
            ),
        };
        problem.into_response(&request_id(&request))
    };
    router
        .route("/v1", any(elsewhere))
        .route("/v1/{*path}", any(elsewhere))
        .layer(axum::middleware::from_fn_with_state(state.clone(), admit))
        .with_state(state)
}

/// What stands around each request: its name, who may ask, and which pages may read the answer.
async fn admit(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = id_of(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_admitted = origin.as_ref().is_some_and(|origin| {
        let admits = |admitted: &String| admitted == ANY_ORIGIN || admitted.as_bytes() == origin.as_bytes();
        state.config.cors_origins.iter().any(admits)
    });
    let mut response = if request.method() == Method::OPTIONS && is_admitted {
        let mut response = StatusCode::NO_CONTENT.into_response();
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, x-request-id"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    } else {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if state.token.as_ref().is_some_and(|token| !token.is_shown(authorization)) {
            ApiProblem::new(ProblemKind::Unauthorized, "Authorization: Bearer TOKEN is needed, with http.token")
                .into_response(&id)
        } else {
            request.extensions_mut().insert(RequestId(id.clone()));
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    if !state.config.cors_origins.is_empty() {
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin.filter(|_| is_admitted) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
    }
    response
}

/// The name that a request brings along, where it can be repeated anywhere; else one of its own.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(allowed)
    };
    given.filter(is_plain).map_or_else(random_id, str::to_owned)
}

async fn wrong_method(request: Request) -> Response {
    let why = "lists and scores are asked for by POST, everything else by GET";
    ApiProblem::new(ProblemKind::WrongMethod, why).into_response(&request_id(&request))
}

async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response()
}

async fn recommend(State(state): State<ApiState>, request: Request) -> Response {
    let within_limits = |request: RecommendRequest, config: &ServeConfig| {
        let RecommendRequest { user: _, items, k, exclude, candidates, filter, at: _ } = &request;
        check_k(k.unwrap_or(DEFAULT_K as u64), config)?;
        for (name, list) in [("items", items), ("exclude", exclude), ("candidates", candidates)] {
            check_length(name, list.as_ref().map_or(0, Vec::len), config)?;
        }
        let wanted = filter.iter().flat_map(|filter| filter.values()).map(|values| values.0.len() + 1).sum();
        check_length("filter", wanted, config)?;
        Ok(ApiQuestion::Recommend(request))
    };
    post_to(&state, Endpoint::Recommend, request, within_limits).await
}

async fn score(State(state): State<ApiState>, request: Request) -> Response {
    let within_limits = |request: ScoreRequest, config: &ServeConfig| {
        check_length("items", request.items.len(), config)?;
        Ok(ApiQuestion::Score(request))
    };
    post_to(&state, Endpoint::Score, request, within_limits).await
}

async fn neighbors(
    State(state): State<ApiState>,
    item: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let question = |item: String| {
        let (prefix, k) = found_of(Endpoint::Neighbors, &query, &state.config)?;
        if prefix.is_some() {
            return Err(ApiProblem::new(ProblemKind::Invalid, "only k=NUMBER may stand behind the path"));
        }
        Ok(ApiQuestion::Neighbors { item, k })
    };
    get_by_id(&state, Endpoint::Neighbors, item, request_id(&request), question).await
}

async fn item_vector(
    State(state): State<ApiState>,
    item: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    get_by_id(&state, Endpoint::ItemVector, item, request_id(&request), |item| Ok(ApiQuestion::ItemVector(item))).await
}

async fn user_vector(
    State(state): State<ApiState>,
    user: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    get_by_id(&state, Endpoint::UserVector, user, request_id(&request), |user| Ok(ApiQuestion::UserVector(user))).await
}

async fn items(State(state): State<ApiState>, request: Request) -> Response {
    search(&state, (Endpoint::Items, SearchedNames::Items), request).await
}

async fn users(State(state): State<ApiState>, request: Request) -> Response {
    search(&state, (Endpoint::Users, SearchedNames::Users), request).await
}

/// Answers a search for names.
async fn search(state: &ApiState, (endpoint, names): (Endpoint, SearchedNames), request: Request) -> Response {
    let began = Instant::now();
    let (id, until) = (request_id(&request), began + deadline(state));
    let asked = found_of(endpoint, request.uri().query().unwrap_or_default(), &state.config)
        .and_then(|(prefix, k)| state.search.ask(names, (prefix.unwrap_or_default(), k), until));
    // What is left of the request cannot be held while others are waited for.
    drop(request);
    respond(state, endpoint, began, &id, await_answer(asked, until).await)
}

async fn map(State(state): State<ApiState>, request: Request) -> Response {
    let began = Instant::now();
    // A first map takes longer than any other answer, beside training longer still.
    let until = began + 3 * deadline(&state);
    let answer = await_answer(state.map.ask(until), until).await;
    respond(&state, Endpoint::Map, began, &request_id(&request), answer)
}

/// What names begin with, and how many are wanted, from the part of an address behind `?`.
fn found_of(endpoint: Endpoint, query: &str, config: &ServeConfig) -> Result<(Option<String>, usize), ApiProblem> {
    let invalid = |why: &str| ApiProblem::new(ProblemKind::Invalid, why);
    let (mut prefix, mut k) = (None, default_number(endpoint).unwrap_or(1) as u64);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("k", number)) => k = number.parse().map_err(|_| invalid("k has to be a number"))?,
            Some(("prefix", text)) => {
                let text = percent_decoded(text).ok_or_else(|| invalid("prefix is no percent-encoded UTF-8"))?;
                prefix = Some(text);
            }
            _ => {
                return Err(invalid(
                    "only k=NUMBER and, where names are searched, prefix=TEXT may stand behind the path",
                ));
            }
        }
    }
    check_k(k, config)?;
    Ok((prefix, k as usize))
}

/// What a percent-encoded text of an address stands for; `None` where that is no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (16 * digit(rest.next()?)? + digit(rest.next()?)?) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn check_k(k: u64, config: &ServeConfig) -> Result<(), ApiProblem> {
    let most = config.max_k;
    match (1..=most as u64).contains(&k) {
        true => Ok(()),
        false => Err(ApiProblem::new(ProblemKind::Invalid, format!("'k' must lie in 1..={most} (serve.max_k)"))),
    }
}

fn check_length(name: &str, n: usize, config: &ServeConfig) -> Result<(), ApiProblem> {
    let most = config.max_ids;
    match n <= most {
        true => Ok(()),
        false => {
            Err(ApiProblem::new(ProblemKind::Invalid, format!("'{name}' may hold {most} (serve.max_ids), not {n}")))
        }
    }
}

/// Answers a request with an id in its path.
async fn get_by_id(
    state: &ApiState,
    endpoint: Endpoint,
    id: Result<Path<String>, PathRejection>,
    request_id: String,
    question: impl FnOnce(String) -> Result<ApiQuestion, ApiProblem>,
) -> Response {
    let began = Instant::now();
    let asked = id.map_err(|_| ApiProblem::new(ProblemKind::Invalid, "the id in the path is no percent-encoded UTF-8"));
    let question = asked.and_then(|Path(id)| question(id));
    conclude(state, endpoint, began, &request_id, question).await
}

/// Answers a request with a body.
async fn post_to<T: DeserializeOwned>(
    state: &ApiState,
    endpoint: Endpoint,
    request: Request,
    question: impl FnOnce(T, &ServeConfig) -> Result<ApiQuestion, ApiProblem>,
) -> Response {
    let (began, id) = (Instant::now(), request_id(&request));
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let question = match essence.as_str() {
        "application/json" => read(state, request.into_body()).await.and_then(|body| question(body, &state.config)),
        // A page in a browser sends anything else without asking first.
        _ => Err(ApiProblem::new(ProblemKind::NotJson, "content-type: application/json is needed")),
    };
    conclude(state, endpoint, began, &id, question).await
}

fn request_id(request: &Request) -> String {
    request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// Reads a body.
async fn read<T: DeserializeOwned>(state: &ApiState, body: Body) -> Result<T, ApiProblem> {
    let limit = state.config.max_body_bytes;
    let bytes = match tokio::time::timeout(deadline(state), to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return Err(ApiProblem::new(
                ProblemKind::TooLong,
                format!("a body may have {limit} bytes (serve.max_body_bytes)"),
            ));
        }
        Err(_) => return Err(ApiProblem::new(ProblemKind::TooSlow, "the body did not come within serve.deadline_ms")),
    };
    // The path to each value is tracked only for the message of an error, since that makes parsing slower.
    serde_json::from_slice(&bytes).map_err(|_| problem_of::<T>(&bytes))
}

/// What is wrong with a body, and where.
fn problem_of<T: DeserializeOwned>(body: &[u8]) -> ApiProblem {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let why = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => format!("the body at {}: {}", error.path(), error.inner()),
        Ok(_) => match reader.end() {
            Err(error) => format!("the body: {error}"),
            Ok(()) => "the body cannot be read".to_owned(),
        },
    };
    ApiProblem::new(ProblemKind::Invalid, why)
}

fn deadline(state: &ApiState) -> Duration {
    Duration::from_millis(state.config.deadline_ms)
}

/// Has a question answered.
async fn conclude(
    state: &ApiState,
    endpoint: Endpoint,
    began: Instant,
    id: &str,
    question: Result<ApiQuestion, ApiProblem>,
) -> Response {
    let until = began + deadline(state);
    let answer = await_answer(question.and_then(|question| state.desk.ask(question, until)), until).await;
    respond(state, endpoint, began, id, answer)
}

/// Waits for an answer that was asked for.
async fn await_answer(asked: Result<oneshot::Receiver<ApiAnswer>, ApiProblem>, until: Instant) -> ApiAnswer {
    match tokio::time::timeout_at(until.into(), asked?).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ApiProblem::new(ProblemKind::Deadline, "it was too late for an answer")),
        Err(_) => Err(ApiProblem::new(ProblemKind::Deadline, "serve.deadline_ms is how long an answer may take")),
    }
}

/// Sends an answer, and counts it.
fn respond(state: &ApiState, endpoint: Endpoint, began: Instant, id: &str, answer: ApiAnswer) -> Response {
    let response = match answer {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(problem) => problem.into_response(id),
    };
    let status = response.status().as_u16();
    state.figures.lock().unwrap_or_else(PoisonError::into_inner).answered(endpoint, status, began.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_browsers_write_them() {
        let config = ServeConfig::default();
        let found = |query: &str| found_of(Endpoint::Items, query, &config).ok();
        assert_eq!(found(""), Some((None, 20)));
        assert_eq!(found("prefix=%3Cb%3E+%C3%A9&k=3"), Some((Some("<b> é".to_owned()), 3)));
        assert_eq!(found("k=3&prefix="), Some((Some(String::new()), 3)));
        for wrong in ["k=0", "k=x", "k=999999", "prefix=%F", "prefix=%ff", "prefix=%zz", "prefix", "q=1"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }
}
