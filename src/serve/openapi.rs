//! The description of the API (OpenAPI 3.1), made from the endpoints and the declarations of the bodies.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::messages::{
    ItemVectorAnswer, ItemsAnswer, MapAnswer, NeighborsAnswer, RecommendAnswer, RecommendRequest, ScoreAnswer,
    ScoreRequest, UserVectorAnswer, UsersAnswer,
};
use super::problem::{ApiProblem, ProblemKind};
use super::schema::ApiSchema;

/// The description, as it is served and checked in.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", description()))
}

fn description() -> Value {
    let mut components = Map::new();
    components.insert("Problem".to_owned(), ApiProblem::schema());
    let paths: Map<String, Value> = Endpoint::ALL.into_iter().map(|endpoint| path(endpoint, &mut components)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "negstream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Recommendations of a model that learns a stream while it is asked.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "`http.token`, where it is set." },
            },
            "schemas": components,
        },
    })
}

fn path(endpoint: Endpoint, components: &mut Map<String, Value>) -> (String, Value) {
    let answer = match endpoint {
        Endpoint::Recommend => RecommendAnswer::schema(components),
        Endpoint::Score => ScoreAnswer::schema(components),
        Endpoint::Neighbors => NeighborsAnswer::schema(components),
        Endpoint::ItemVector => ItemVectorAnswer::schema(components),
        Endpoint::UserVector => UserVectorAnswer::schema(components),
        Endpoint::Items => ItemsAnswer::schema(components),
        Endpoint::Users => UsersAnswer::schema(components),
        Endpoint::Map => MapAnswer::schema(components),
    };
    let body = match endpoint {
        Endpoint::Recommend => Some(RecommendRequest::schema(components)),
        Endpoint::Score => Some(ScoreRequest::schema(components)),
        Endpoint::Neighbors
        | Endpoint::ItemVector
        | Endpoint::UserVector
        | Endpoint::Items
        | Endpoint::Users
        | Endpoint::Map => None,
    };
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({ "description": "The answer.", "content": { "application/json": { "schema": answer } } }),
    );
    let mut statuses: Vec<(u16, Vec<&str>)> = Vec::new();
    for kind in ProblemKind::ALL.into_iter().filter(|kind| may_happen(endpoint, *kind)) {
        let status = kind.status().as_u16();
        match statuses.iter_mut().find(|(other, _)| *other == status) {
            Some((_, names)) => names.push(kind.name()),
            None => statuses.push((status, vec![kind.name()])),
        }
    }
    statuses.sort_unstable();
    for (status, names) in statuses {
        let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let mut response = json!({ "description": names.join(", "), "content": problem });
        if [429, 503].contains(&status) {
            let seconds = json!({ "description": "Seconds.", "schema": { "type": "integer" } });
            response["headers"] = json!({ "retry-after": seconds });
        }
        responses.insert(status.to_string(), response);
    }
    let mut operation = json!({ "operationId": endpoint.name(), "summary": endpoint.summary() });
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    operation["responses"] = responses.into();
    let method = if endpoint.takes_body() { "post" } else { "get" };
    (endpoint.path().to_owned(), json!({ method: operation }))
}

/// The parameters in path and query.
fn parameters(endpoint: Endpoint) -> Vec<Value> {
    let mut parameters = Vec::new();
    if endpoint.path().contains("{id}") {
        let what = "The id, percent-encoded.";
        parameters.push(
            json!({ "name": "id", "in": "path", "required": true, "description": what, "schema": { "type": "string" } }),
        );
    }
    if matches!(endpoint, Endpoint::Items | Endpoint::Users) {
        let what = "What their names begin with, percent-encoded, whatever the case; all without it.";
        parameters
            .push(json!({ "name": "prefix", "in": "query", "description": what, "schema": { "type": "string" } }));
    }
    if let Some(default) = super::answer::default_number(endpoint) {
        let schema = json!({ "type": "integer", "minimum": 1, "default": default });
        parameters.push(json!({ "name": "k", "in": "query", "description": "How many.", "schema": schema }));
    }
    parameters
}

/// Whether a request to the endpoint can meet the problem.
fn may_happen(endpoint: Endpoint, kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::NoSuchPath | ProblemKind::WrongMethod => false,
        ProblemKind::TooSlow | ProblemKind::TooLong | ProblemKind::NotJson => endpoint.takes_body(),
        ProblemKind::UnknownUser => {
            matches!(endpoint, Endpoint::Recommend | Endpoint::Score | Endpoint::UserVector)
        }
        ProblemKind::UnknownItem => {
            matches!(endpoint, Endpoint::Recommend | Endpoint::Neighbors | Endpoint::ItemVector)
        }
        ProblemKind::Invalid
        | ProblemKind::Unauthorized
        | ProblemKind::Disabled
        | ProblemKind::TooMany
        | ProblemKind::Fault
        | ProblemKind::NotReady
        | ProblemKind::Deadline => true,
    }
}
