//! The OpenAPI 3.1 document: what the routes say of themselves, and what holds for each of them.

use api::ErrorBody;
use serde_json::Value;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};

/// Who may call a route at all: `any`body on this machine, within what is theirs, or the `broker`'s user and root. What
/// a caller sees of others is decided per agent. No security scheme of OpenAPI is about the peer of a socket.
const CALLER: &str = "x-coconut-caller";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "coconutd",
        description = "HTTP/1.1 with JSON over the UNIX socket /run/coconut/api.sock. \
                       The caller is known by its socket's peer credentials."
    ),
    components(schemas(ErrorBody))
)]
struct Api;

/// The document before there are routes in it.
pub fn beginning() -> OpenApi {
    let mut api = Api::openapi();
    api.info.version = format!("v{}", api::VERSION);
    api
}

/// The document with all routes in it, and with what none of them says for itself.
pub fn whole(mut api: OpenApi) -> Value {
    api.paths.paths.values_mut().flat_map(operations).for_each(complete);
    let mut document = serde_json::json!(api);
    spell_formats(&mut document);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .flatten()
}

/// Any route may refuse, and is for anybody that says nothing else.
fn complete(operation: &mut Operation) {
    let refused = ResponseBuilder::new()
        .description("Not done: what was tried, what refused, what to do")
        .content("application/json", Content::new(Some(Ref::from_schema_name(ErrorBody::name()))));
    operation.responses.responses.insert("default".to_owned(), refused.build().into());
    let said = operation.extensions.get_or_insert_default();
    said.entry(CALLER.to_owned()).or_insert_with(|| "any".into());
}

/// What utoipa writes as `u-int64` is `uint64` in OpenAPI's registry of formats.
fn spell_formats(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(format)) = members.get_mut("format") {
                *format = format.replace("u-int", "uint");
            }
            members.values_mut().for_each(spell_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(spell_formats),
        _ => {}
    }
}
