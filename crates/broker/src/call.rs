//! A call's way: who sends it, what it may, its bytes, its turn, its answer; and the record that it leaves.

use crate::admission::{AtTurn, Refused, Ticket};
use crate::aside::aside;
use crate::backend::{After, Prepared, Start, Upstream};
use crate::identity::limits::{Reservation, Wanted};
use crate::identity::right::{Right, covers};
use crate::identity::{Connection, Payer};
use crate::openai::{ApiError, Call, Endpoint};
use crate::respond::{self, AnswerForm};
use crate::server::Broker;
use crate::session::Session;
use crate::upstream;
use crate::usage::UsageLog;
use api::broker::Usage;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use inference::Event;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

/// Largest request body.
pub const MAX_BODY: usize = 16 << 20;

/// Names the fields of a request that no engine has seen: they decide about others, or nobody knows them.
const DROPPED: HeaderName = HeaderName::from_static("coconut-dropped-fields");

/// Where an admitted call's answer comes from.
enum Reply<'a> {
    Events(UnboundedReceiver<Event>),
    Upstream(After<'a>),
}

impl Broker {
    pub(crate) async fn answer(
        &self,
        endpoint: Endpoint,
        peer: Connection,
        request: Request,
    ) -> Response {
        match self.try_answer(endpoint, peer, request).await {
            Ok(response) => response,
            Err(error) => {
                self.metrics.refused();
                error.into_response()
            }
        }
    }

    /// Nothing of the body is read before it is known who sends it and that it may ask at all.
    async fn try_answer(
        &self,
        endpoint: Endpoint,
        peer: Connection,
        request: Request,
    ) -> Result<Response, ApiError> {
        let caller = self.identity.caller(&peer, request.headers()).await?;
        self.usage.check_room()?;
        let body = body_of(request).await?;
        let call = aside(body.len(), move || Call::parse(endpoint, &body)).await?;
        let dropped = dropped(&call);
        let mut waiting = Waiting { record: Some(record(&caller, &call)), log: self.usage.clone() };
        match self.admit(&caller, call, &mut waiting).await {
            Ok(mut response) => {
                if let Some(dropped) = dropped {
                    response.headers_mut().insert(DROPPED, dropped);
                }
                Ok(response)
            }
            Err(error) => {
                waiting.end(&error.message);
                Err(error)
            }
        }
    }

    async fn admit(
        &self,
        caller: &Payer,
        call: Call,
        waiting: &mut Waiting,
    ) -> Result<Response, ApiError> {
        check_model(caller, &call.model)?;
        let context = caller.limits.as_ref().and_then(|limits| limits.context);
        let mut prepared = self.backend.prepare(call, context).await?;
        let reservation = reserve(caller, &mut prepared)?;
        let mut right = Right::new(&prepared.model, caller.infer.clone());
        waiting.prepared(&prepared);
        let form = AnswerForm {
            endpoint: prepared.call.endpoint,
            model: prepared.model.clone(),
            stream: prepared.call.stream,
            include_usage: prepared.call.include_usage,
        };
        let (at_turn, reply): (AtTurn, _) =
            match self.backend.start(prepared, &caller.lane.tenant.name)? {
                Start::AtTurn(begin, events) => (begin, Reply::Events(events)),
                Start::After(begin) => (Box::new(drop), Reply::Upstream(begin)),
            };
        let ticket = tokio::select! {
            ticket = self.turn(caller, at_turn) => ticket?,
            lost = right.lost() => return Err(lost),
        };
        let lost = || ApiError::unavailable("the call lost its record");
        let record = waiting.record.take().ok_or_else(lost)?;
        let (usage, metrics) = (self.usage.clone(), self.metrics.clone());
        let session = Session::new(ticket, reservation, right, record, usage, metrics);
        Ok(run(reply, form, session).await)
    }

    async fn turn(&self, caller: &Payer, at_turn: AtTurn) -> Result<Arc<Ticket>, ApiError> {
        let full = |Refused::QueueFull { tenant, queued }| {
            let message = format!("tenant {tenant} has {queued} requests waiting already");
            ApiError::limited(message, 1).code("queue_full")
        };
        self.admission.admit(&caller.lane, at_turn).await.map_err(full)
    }
}

/// The record of a call that has not begun: whatever becomes of it, it is written once.
struct Waiting {
    /// None once the session has it, or it was written.
    record: Option<Usage>,
    log: UsageLog,
}

impl Waiting {
    fn prepared(&mut self, prepared: &Prepared) {
        if let Some(record) = &mut self.record {
            record.model.clone_from(&prepared.model);
            record.prompt_tokens = prepared.prompt_tokens;
        }
    }

    fn end(&mut self, why: &str) {
        if let Some(record) = self.record.take() {
            // Nothing of it was computed.
            let refused = Some(why.to_owned());
            self.log.record(Usage { refused, prompt_tokens: 0, ..record });
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end("the caller went away before its turn");
    }
}

/// From here on the session writes the record, whatever happens.
async fn run(reply: Reply<'_>, form: AnswerForm, mut session: Session) -> Response {
    let begin = match reply {
        Reply::Events(events) => return respond::events(events, form, session).await,
        Reply::Upstream(begin) => begin,
    };
    match begun(begin, &mut session).await {
        Ok(answer) => upstream::pass(answer, form, session).await,
        Err(error) => {
            session.failed(&error.message);
            error.into_response()
        }
    }
}

async fn begun(begin: After<'_>, session: &mut Session) -> Result<Upstream, ApiError> {
    let lost = || ApiError::unavailable("the call lost its place");
    let ticket = session.ticket().ok_or_else(lost)?;
    tokio::select! {
        answer = begin(ticket) => answer,
        lost = session.lost() => Err(lost),
    }
}

/// Sets aside what the call may use; where it does not say how much that is, it gets what is left.
fn reserve(caller: &Payer, prepared: &mut Prepared) -> Result<Reservation, ApiError> {
    let limits = caller.limits.as_ref();
    let limited = limits.is_some_and(|limits| limits.tokens_per_minute.is_some());
    let wanted = match (prepared.call.max_tokens, prepared.max_tokens) {
        (Some(said), _) => Wanted::Tokens(said.into()),
        (None, Some(usual)) => Wanted::Any(usual.into()),
        (None, None) => Wanted::Any(u64::from(u32::MAX)),
    };
    let reservation = caller.state.reserve(limits, prepared.prompt_tokens.into(), wanted)?;
    if limited {
        prepared.max_tokens = u32::try_from(reservation.may_write()).ok();
    }
    Ok(reservation)
}

async fn body_of(request: Request) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        let status = rejection.status();
        let message = if status == StatusCode::PAYLOAD_TOO_LARGE {
            format!("the body is larger than {} MiB", MAX_BODY >> 20)
        } else {
            format!("the body could not be read: {}", rejection.body_text())
        };
        ApiError { status, ..ApiError::invalid(message) }
    })
}

fn check_model(caller: &Payer, model: &str) -> Result<(), ApiError> {
    let Some(limits) = &caller.limits else { return Ok(()) };
    if covers(limits, model) {
        return Ok(());
    }
    let allowed = limits.models.join(", ");
    let message =
        format!("the infer capability does not cover model {model:?}; it covers: {allowed}");
    Err(ApiError { param: Some("model".into()), ..ApiError::forbidden(message) }
        .code("model_not_allowed"))
}

/// None where nothing was dropped, or where its name fits into no header.
fn dropped(call: &Call) -> Option<HeaderValue> {
    let names = call.dropped.join(", ");
    if names.is_empty() { None } else { HeaderValue::from_str(&names).ok() }
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
