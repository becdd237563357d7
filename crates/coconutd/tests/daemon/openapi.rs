//! The checked-in OpenAPI document is the one that the routes make; it is whole, and true.

use crate::fake::Running;
use api::client::Client;
use coconutd::routes::document;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/openapi.json");

#[test]
fn the_checked_in_document_is_current() {
    let made = document();
    if std::env::var_os("BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        std::fs::write(PATH, text + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    let kept: Value = serde_json::from_str(&kept).unwrap_or_default();
    assert!(kept == made, "crates/api/openapi.json is old; run the test with BLESS=1");
}

/// No router tells what it serves: what axum's own ways add to one is found in the sources.
#[test]
fn nothing_is_served_that_is_not_described() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/routes")).unwrap();
    for file in folder.map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for way in [".route(", ".route_service(", ".nest(", ".nest_service(", ".merge("] {
            assert!(!text.contains(way), "{}: {way}…) is not in the document", file.display());
        }
    }
}

#[test]
fn what_is_named_is_there_and_what_is_there_is_named() {
    let document = document();
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let there: BTreeSet<String> =
        schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
    assert_eq!(named, there);
}

fn references(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            named.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, named));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, named)),
        _ => {}
    }
}

#[test]
fn every_operation_says_all_that_a_caller_needs() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let here = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{here}: no summary");
            assert!(operation["x-coconut-caller"].is_string(), "{here}: for whom?");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{here}: {id} is another's");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{here}: no answer");
            assert!(responses.contains_key("default"), "{here}: no refusal");
            for (status, response) in responses {
                // OpenAPI 3.1 wants it of each.
                assert!(response["description"].is_string(), "{here}: {status} says nothing");
            }
            let parameters = operation["parameters"].as_array();
            let of_path: Vec<_> =
                parameters.into_iter().flatten().filter(|p| p["in"] == "path").collect();
            assert_eq!(of_path.len(), path.matches('{').count(), "{here}: {of_path:?}");
        }
    }
}

#[test]
fn every_documented_route_is_served_and_is_for_whom_it_says() {
    let running = Running::start();
    let client = running.client();
    running.become_agent(Some(running.spawned("reader", &[])));
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let said = refusal_of(&client, method, path, operation);
            assert!(!said.starts_with("there is no GET"), "{path}: {said}");
            assert!(!said.starts_with("there is no P"), "{path}: {said}");
            let is_for_broker = operation["x-coconut-caller"] == "broker";
            assert_eq!(said.ends_with("is not the broker"), is_for_broker, "{path}: {said}");
        }
    }
    let nowhere = client.get::<Value>("/v1/nothing").unwrap_err();
    assert!(nowhere.to_string().starts_with("there is no GET"), "{nowhere}");
    running.stop();
}

/// What a caller is told who sends as little as the document wants; empty if it is done.
fn refusal_of(client: &Client, method: &str, path: &str, operation: &Value) -> String {
    let mut path = path.replace("{id}", "nobody");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" && parameter["required"] == true {
            let name = parameter["name"].as_str().unwrap();
            path += &format!("{}{name}=127.0.0.1:1", if path.contains('?') { '&' } else { '?' });
        }
    }
    let content = &operation["responses"]["200"]["content"];
    let streams = content.is_object() && content["application/json"].is_null();
    // What the broker's routes read before they look who sends it; nothing that another route takes.
    let nothing = match path.as_str() {
        "/v1/broker/waiting" => json!({ "afresh": false, "began": [], "ended": [] }),
        _ => json!({ "journal": uuid::Uuid::nil(), "first": 1, "calls": [] }),
    };
    let answer = match method {
        "get" if streams => client.bytes(&path, |_| ControlFlow::Break(())),
        "get" => client.get::<Value>(&path).map(|_| ()),
        "post" => client.post::<_, Value>(&path, &nothing).map(|_| ()),
        "put" => client.put::<_, Value>(&path, &nothing).map(|_| ()),
        other => panic!("{other} {path} is not tried"),
    };
    answer.err().map(|error| error.to_string()).unwrap_or_default()
}
