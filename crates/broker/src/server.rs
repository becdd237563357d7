//! The HTTP front: routes, and a call's way from its bytes to its answer.

use crate::admission::{Admission, AtTurn, Refused};
use crate::backend::{After, Backend, Start};
use crate::callers::Callers;
use crate::identity::{Connection, Identity, Payer};
use crate::metrics::Metrics;
use crate::openai::{ApiError, Call, Endpoint};
use crate::respond::{self, AnswerForm};
use crate::session::Session;
use crate::usage::UsageLog;
use api::broker::Usage;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use inference::Event;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

/// Largest request body.
const MAX_BODY: usize = 16 << 20;

/// Everything that a call needs.
pub struct Broker {
    /// Who calls.
    pub identity: Identity,
    /// Whose turn it is.
    pub admission: Arc<Admission>,
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// Where records go.
    pub usage: UsageLog,
    /// What was done.
    pub metrics: Arc<Metrics>,
    /// Who holds how many connections.
    pub callers: Callers,
}

/// What is served, to whoever was let in.
pub(crate) fn routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/health", get(|| async { axum::Json(serde_json::json!({ "status": "ok" })) }))
        .route("/metrics", get(metrics))
        .fallback(|request: Request| async move {
            ApiError::not_found(format!(
                "there is no {} {}",
                request.method(),
                request.uri().path()
            ))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} does not take {}", request.uri().path(), request.method());
            ApiError { status: StatusCode::METHOD_NOT_ALLOWED, ..ApiError::invalid(message) }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(broker)
}

async fn chat(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    request: Request,
) -> Response {
    b.answer(Endpoint::Chat, peer.0, request).await
}

async fn completion(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    request: Request,
) -> Response {
    b.answer(Endpoint::Completion, peer.0, request).await
}

async fn models(State(b): State<Arc<Broker>>) -> Result<Response, ApiError> {
    let data = b.backend.models().await?;
    Ok(axum::Json(serde_json::json!({ "object": "list", "data": data })).into_response())
}

async fn model(State(b): State<Arc<Broker>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let found = b.backend.models().await?.into_iter().find(|m| m.id == id);
    let missing =
        || ApiError::not_found(format!("there is no model {id:?}")).code("model_not_found");
    Ok(axum::Json(found.ok_or_else(missing)?).into_response())
}

async fn metrics(State(b): State<Arc<Broker>>) -> Response {
    let text = b.metrics.render(b.admission.depth()) + &b.backend.metrics();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, Body::from(text)).into_response()
}

/// Where an admitted call's answer comes from.
enum Reply<'a> {
    Events(UnboundedReceiver<Event>),
    Upstream(After<'a>),
}

impl Broker {
    async fn answer(&self, endpoint: Endpoint, peer: Connection, request: Request) -> Response {
        match self.try_answer(endpoint, peer, request).await {
            Ok(response) => response,
            Err(error) => {
                self.metrics.refused();
                error.into_response()
            }
        }
    }

    async fn try_answer(
        &self,
        endpoint: Endpoint,
        peer: Connection,
        request: Request,
    ) -> Result<Response, ApiError> {
        let (headers, body) = body_of(request).await?;
        let caller = self.identity.caller(&peer, &headers).await?;
        self.usage.check_room()?;
        let call = Call::parse(endpoint, body)?;
        let record = record(&caller, &call);
        match self.admit(&caller, call, record.clone()).await {
            Ok(response) => Ok(response),
            Err(error) => {
                self.usage.record(Usage { refused: Some(error.message.clone()), ..record });
                Err(error)
            }
        }
    }

    async fn admit(&self, caller: &Payer, call: Call, record: Usage) -> Result<Response, ApiError> {
        let limits = caller.limits.as_ref();
        check_model(caller, &call.model)?;
        let prepared = self.backend.prepare(&call, limits.and_then(|l| l.context))?;
        let may_use =
            u64::from(prepared.prompt_tokens) + u64::from(prepared.max_tokens.unwrap_or(0));
        let reservation = caller.state.reserve(limits, may_use)?;
        let record = Usage {
            model: prepared.model.clone(),
            prompt_tokens: prepared.prompt_tokens,
            ..record
        };
        let form = AnswerForm {
            endpoint: call.endpoint,
            model: prepared.model.clone(),
            stream: call.stream,
            include_usage: call.include_usage,
        };
        let (at_turn, reply): (AtTurn, _) = match self.backend.start(call, prepared)? {
            Start::AtTurn(begin, events) => (begin, Reply::Events(events)),
            Start::After(begin) => (Box::new(drop), Reply::Upstream(begin)),
        };
        let ticket = self.admission.admit(&caller.lane, at_turn).await.map_err(
            |Refused::QueueFull { tenant, queued }| {
                ApiError::limited(
                    format!("tenant {tenant} has {queued} requests waiting already"),
                    1,
                )
                .code("queue_full")
            },
        )?;
        let session =
            Session::new(ticket, reservation, record, self.usage.clone(), self.metrics.clone());
        Ok(self.run(reply, form, session).await)
    }

    /// From here on the session writes the record, whatever happens.
    async fn run(&self, reply: Reply<'_>, form: AnswerForm, mut session: Session) -> Response {
        let begin = match reply {
            Reply::Events(events) => return respond::events(events, form, session).await,
            Reply::Upstream(begin) => begin,
        };
        let Some(ticket) = session.ticket() else {
            return ApiError::unavailable("the call lost its place").into_response();
        };
        match begin(ticket).await {
            Ok(answer) => respond::upstream(answer, form.stream, session).await,
            Err(error) => {
                session.failed(&error.message);
                error.into_response()
            }
        }
    }
}

async fn body_of(request: Request) -> Result<(HeaderMap, Bytes), ApiError> {
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        let status = rejection.status();
        let message = if status == StatusCode::PAYLOAD_TOO_LARGE {
            format!("the body is larger than {} MiB", MAX_BODY >> 20)
        } else {
            format!("the body could not be read: {}", rejection.body_text())
        };
        ApiError { status, ..ApiError::invalid(message) }
    })?;
    Ok((headers, body))
}

fn check_model(caller: &Payer, model: &str) -> Result<(), ApiError> {
    let Some(limits) = &caller.limits else { return Ok(()) };
    if limits.models.iter().any(|m| m == "*" || m == model) {
        return Ok(());
    }
    let allowed = limits.models.join(", ");
    let message =
        format!("the infer capability does not cover model {model:?}; it covers: {allowed}");
    Err(ApiError { param: Some("model".into()), ..ApiError::forbidden(message) }
        .code("model_not_allowed"))
}

fn record(caller: &Payer, call: &Call) -> Usage {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Usage {
        agent: caller.agent,
        tenant: caller.lane.tenant.name.clone(),
        model: call.model.clone(),
        prompt_tokens: 0,
        completion_tokens: 0,
        time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        queued_us: 0,
        first_token_us: 0,
        steps: 0,
        passed_steps: 0,
        others_tokens: 0,
        refused: None,
    }
}
