//! The checked-in OpenAPI document is the one that the types and the route table make.

use coconut_api::{openapi, route::ROUTES};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_checked_in_document_is_current() {
    let made = openapi::document();
    if std::env::var_os("BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        std::fs::write(PATH, text + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap_or_default();
    assert!(kept == made, "crates/api/openapi.json is old; run the test with BLESS=1");
}

#[test]
fn every_route_and_every_named_type_is_in_the_document() {
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(operation.is_object(), "{} {} is missing", route.method, route.path);
        for name in [route.request, route.response] {
            assert!(name.is_empty() || schemas[name].is_object(), "{name} has no schema");
        }
    }
}
