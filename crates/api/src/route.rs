//! Every route of coconutd: the daemon's router and the OpenAPI document are both checked against
//! it.

/// Who may call a route at all; what a caller sees of others is decided per agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Anybody on this machine, within what is theirs.
    Any,
    /// The broker's user and root.
    Broker,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path with `{id}` for parameters.
    pub path: &'static str,
    /// Who may call it.
    pub audience: Audience,
    /// One line for people.
    pub summary: &'static str,
    /// Name of the request type; empty for none.
    pub request: &'static str,
    /// Name of the response type; empty for none.
    pub response: &'static str,
    /// The answer is a stream: NDJSON of `response`, or raw bytes where that is empty.
    pub stream: bool,
}

const fn any(
    method: &'static str,
    path: &'static str,
    request: &'static str,
    response: &'static str,
    summary: &'static str,
) -> Route {
    Route { method, path, audience: Audience::Any, summary, request, response, stream: false }
}

const fn stream(path: &'static str, response: &'static str, summary: &'static str) -> Route {
    Route {
        method: "GET",
        path,
        audience: Audience::Any,
        summary,
        request: "",
        response,
        stream: true,
    }
}

const fn broker(
    method: &'static str,
    path: &'static str,
    request: &'static str,
    response: &'static str,
    summary: &'static str,
) -> Route {
    let stream = matches!(response.as_bytes(), b"LaneEvent");
    Route { method, path, audience: Audience::Broker, summary, request, response, stream }
}

/// Every route.
pub const ROUTES: &[Route] = &[
    any("GET", "/v1/status", "", "Status", "The daemon's own state"),
    any(
        "GET",
        "/v1/agents",
        "",
        "AgentList",
        "Agents that the caller may see, a page (?limit=); ?all=true adds ended, ?after= goes on",
    ),
    any("POST", "/v1/agents", "SpawnRequest", "AgentDetail", "Spawn an agent"),
    any("GET", "/v1/agents/{id}", "", "AgentDetail", "One agent"),
    any("GET", "/v1/agents/{id}/wait", "", "Exit", "Wait for an agent's end"),
    stream("/v1/agents/{id}/logs", "", "A background agent's output; ?follow=true goes on"),
    any("POST", "/v1/agents/{id}/signal", "SignalRequest", "", "Signal an agent's first process"),
    any("POST", "/v1/agents/{id}/kill", "", "Exit", "End an agent and all its processes"),
    any(
        "POST",
        "/v1/agents/{id}/quarantine",
        "",
        "Agent",
        "Freeze an agent and deny it everything",
    ),
    any("POST", "/v1/agents/{id}/release", "", "Agent", "End a quarantine"),
    any("GET", "/v1/agents/{id}/capabilities", "", "CapabilityList", "What an agent may do now"),
    any("POST", "/v1/agents/{id}/grant", "CapabilityChange", "ChangeReport", "Give a capability"),
    any("POST", "/v1/agents/{id}/revoke", "CapabilityChange", "ChangeReport", "Take one away"),
    any("GET", "/v1/agents/{id}/denials", "", "ExplanationList", "The last denials, explained"),
    stream("/v1/feed", "FeedLine", "Agents now, then every change; ?all=true adds ended"),
    any("GET", "/v1/lanes", "", "LaneList", "Weights and use of tenants and agents"),
    any("PUT", "/v1/lanes", "LaneChange", "LaneList", "Set a weight"),
    stream("/v1/audit/records", "Record", "Audit records by filter; ?follow=true goes on"),
    any("GET", "/v1/audit/head", "", "Head", "The newest checkpoint"),
    broker("GET", "/v1/broker/lanes", "", "LaneEvent", "Every live lane, then changes"),
    broker("GET", "/v1/broker/peer", "", "Peer", "Who owns the client end of a TCP connection"),
    broker("POST", "/v1/broker/usage", "SettledCalls", "", "Finished inference calls, for the log"),
];
