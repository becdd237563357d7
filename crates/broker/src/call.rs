//! A call's way: who sends it, what it may, its bytes, its account, its turn, its answer.

use crate::accounts::Account;
use crate::admission::{AtTurn, Refused, Ticket};
use crate::broker::Broker;
use crate::identity::limits::{Reservation, Wanted};
use crate::identity::right::{Right, covers};
use crate::identity::{Connection, Payer};
use crate::openai::{ApiError, parse};
use crate::respond::{Admitted, Form};
use api::broker::Usage;
use axum::body::Body;
use axum::extract::{self, FromRequest};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use connections::Place;
use connections::body::Watched;
use ports::{Endpoint, For, Payment, Prepared, Request, Start, aside};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Largest request body.
pub const MAX_BODY: usize = 16 << 20;
/// How long the next part of a body may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names the fields of a request that no engine has seen: they decide about others, or nobody knows them.
const DROPPED: HeaderName = HeaderName::from_static("coconut-dropped-fields");
/// Names the call as the audit log does.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Broker {
    pub(crate) async fn answer(
        &self,
        endpoint: Endpoint,
        peer: Connection,
        request: extract::Request,
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
        request: extract::Request,
    ) -> Result<Response, ApiError> {
        let caller = self.identity.caller(&peer, request.headers()).await?;
        self.usage.check_room()?;
        if let Some(denied) = &caller.denied {
            // What was tried is on record.
            let account = Account::open(&self.usage, &self.metrics, record(&caller, ""))?;
            account.fail(&denied.message);
            return Err(denied.clone());
        }
        // Held until the answer begins.
        let held =
            Arc::new(Mutex::new(self.callers.tenants.empty(caller.lane.tenant.name.clone())));
        let body = body_of(request, held.clone()).await?;
        let parsed = aside(body.len(), move || parse(endpoint, &body)).await?;
        let record = record(&caller, &parsed.request.model);
        let account = Account::open(&self.usage, &self.metrics, record)?;
        let call = account.call();
        let mut response = match self.admit(&caller, parsed.request, &account).await {
            Ok(admitted) => {
                // It holds what the account does not need any more.
                drop(account);
                let (admitted, form) = admitted;
                admitted.respond(form).await
            }
            Err(error) => {
                account.fail(&error.message);
                self.metrics.refused();
                error.into_response()
            }
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&call.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        // None where its name fits into no header.
        if let Ok(dropped) = HeaderValue::from_str(&parsed.dropped.join(", "))
            && !dropped.is_empty()
        {
            headers.insert(DROPPED, dropped);
        }
        Ok(response)
    }

    async fn admit(
        &self,
        caller: &Payer,
        request: Request,
        account: &Arc<Account>,
    ) -> Result<(Admitted, Form), ApiError> {
        check_model(caller, &request.model)?;
        let route = self.routes.of(&request.model).await?;
        let context = caller.limits.as_ref().and_then(|limits| limits.context);
        let mut prepared = route.backend.prepare(request, context).await?;
        account.hold(reserve(caller, &mut prepared)?);
        let request = &prepared.request;
        let (model, form) = (request.model.as_str(), Form::of(request));
        let mut right = Right::new(model, caller.infer.clone(), self.ending.subscribe());
        let whom = For { tenant: &caller.lane.tenant.name, call: account.call() };
        let Start { begin, answer } = route.backend.start(prepared, whom)?;
        let meter = account.clone();
        let at_turn: AtTurn = Box::new(move |ticket: Arc<Ticket>| {
            meter.turn(&ticket);
            begin(Payment { share: ticket, meter });
        });
        tokio::select! {
            biased;
            lost = right.lost() => return Err(lost),
            // From here on the backend holds the place.
            ticket = route.admission.admit(&caller.lane, at_turn) => drop(ticket.map_err(full)?),
        }
        Ok((Admitted { answer, right, account: account.clone() }, form))
    }
}

fn full(refused: Refused) -> ApiError {
    let Refused::QueueFull { tenant, queued } = refused;
    let message = format!("tenant {tenant} has {queued} requests waiting already");
    ApiError::limited(message, 1).code("queue_full")
}

/// Sets aside what the call may use; where it does not say how much that is, it gets what is left.
fn reserve(caller: &Payer, prepared: &mut Prepared) -> Result<Reservation, ApiError> {
    let limits = caller.limits.as_ref();
    let limited = limits.is_some_and(|limits| limits.tokens_per_minute.is_some());
    let wanted = match (prepared.request.max_tokens, prepared.max_tokens) {
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

/// The body, within the tenant's part of the memory.
async fn body_of(
    request: extract::Request,
    held: Arc<Mutex<Place<String>>>,
) -> Result<Bytes, ApiError> {
    let request = request.map(|body| Body::new(Watched::new(body, held, PATIENCE)));
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

fn record(caller: &Payer, model: &str) -> Usage {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Usage {
        call: Uuid::now_v7(),
        agent: caller.agent,
        tenant: caller.lane.tenant.name.clone(),
        model: model.to_owned(),
        time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        ..Usage::default()
    }
}
