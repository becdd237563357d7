//! The OpenAPI 3.1 document, made from [`crate::route::ROUTES`] and the types' JSON schemas.

use crate::route::{ROUTES, Route};
use crate::{agent, audit, broker, error, feed, lane, status};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The whole document, in a stable order.
pub fn document() -> Value {
    let mut schemas = SchemaSettings::openapi3().into_generator();
    let mut names = Map::new();
    for (name, schema) in types(&mut schemas) {
        names.insert(name.to_owned(), schema);
    }
    for (name, schema) in schemas.take_definitions(true) {
        names.insert(name, schema);
    }
    let mut paths = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "coconutd",
            "version": format!("v{}", crate::VERSION),
            "description": "HTTP/1.1 with JSON over the UNIX socket /run/coconut/api.sock. \
                            The caller is known by its socket's peer credentials.",
        },
        "paths": paths,
        "components": { "schemas": names },
    })
}

/// Every type that a route names.
fn types(out: &mut SchemaGenerator) -> Vec<(&'static str, Value)> {
    macro_rules! all {
        ($($t:ty),+ $(,)?) => { $( out.subschema_for::<$t>(); )+ };
    }
    all!(
        status::Status,
        agent::AgentList,
        agent::SpawnRequest,
        agent::AgentDetail,
        agent::Exit,
        agent::SignalRequest,
        agent::Agent,
        agent::CapabilityList,
        agent::CapabilityChange,
        agent::ChangeReport,
        agent::ExplanationList,
        lane::LaneList,
        lane::LaneChange,
        audit::Record,
        audit::Head,
        broker::LaneEvent,
        feed::FeedLine,
        broker::Peer,
        broker::SettledCalls,
        error::ErrorBody,
    );
    Vec::new()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "UUID, a unique suffix of at least 4 hex digits, or a unique name",
        }));
    }
    let done = match (route.response, route.stream) {
        ("", false) => json!({ "description": "Done" }),
        ("", true) => json!({
            "description": "Bytes, as they come", "content": { "application/octet-stream": {} } }),
        (name, true) => json!({
            "description": "One JSON document a line",
            "content": { "application/x-ndjson": { "schema": reference(name) } } }),
        (name, false) => json!({
            "description": "Done", "content": { "application/json": { "schema": reference(name) } } }),
    };
    let status = if route.response.is_empty() && !route.stream { "204" } else { "200" };
    let mut operation = json!({
        "summary": route.summary,
        "x-coconut-caller": format!("{:?}", route.audience).to_lowercase(),
        "responses": {
            status: done,
            "default": {
                "description": "Not done: what was tried, what refused, what to do",
                "content": { "application/json": { "schema": reference("ErrorBody") } },
            },
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if !route.request.is_empty() {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(route.request) } },
        });
    }
    operation
}
