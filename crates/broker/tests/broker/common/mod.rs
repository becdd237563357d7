//! A broker in this process, with the embedded engine and a quickly trained toy model.
// Each test binary uses only a part.
#![allow(dead_code)]

use coconut_broker::accounts::UsageLog;
use coconut_broker::accounts::journal::Journal;
use coconut_broker::admission::{Depth, Policy};
use coconut_broker::broker::Broker;
use coconut_broker::callers::{Callers, Sizes};
use coconut_broker::entrance::{serve_tcp, serve_unix};
use coconut_broker::identity::Identity;
use coconut_broker::route::{Route, Routes};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use inference::{Embedded, Engine, EngineConfig, Model};
use ports::Backend;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

/// The model's file, made once a test binary.
pub fn model_file() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        let shape = model::Shape { rounds: 2, ..Default::default() };
        std::fs::write(&path, model::generate(&shape).unwrap().0).unwrap();
        (dir, path)
    });
    path
}

/// An engine of few slots, as a backend.
pub fn embedded(slots: u32) -> Arc<dyn Backend> {
    let model = Arc::new(Model::load(model_file()).unwrap());
    let config =
        EngineConfig { sequences: slots * 2, context: 512, threads: 1, batch: 128, step: None };
    Arc::new(Embedded::new(Engine::start(model, config).unwrap()))
}

/// A broker that listens on loopback and on a UNIX socket.
pub struct Served {
    /// Its parts.
    pub broker: Arc<Broker>,
    /// Its UNIX socket.
    pub socket: PathBuf,
    /// Its TCP port.
    pub port: u16,
    _dir: tempfile::TempDir,
}

/// Starts a broker.
pub async fn serve(
    backend: Arc<dyn Backend>,
    identity: Identity,
    usage: UsageLog,
    policy: Policy,
) -> Served {
    serve_within(backend, identity, usage, policy, &Sizes::default()).await
}

/// Starts a broker whose callers may hold so much.
pub async fn serve_within(
    backend: Arc<dyn Backend>,
    identity: Identity,
    usage: UsageLog,
    policy: Policy,
    sizes: &Sizes,
) -> Served {
    let routes = Routes::new(vec![Route::new("only", backend, policy)]);
    serve_routes(routes, identity, usage, sizes).await
}

/// Starts a broker in front of several backends.
pub async fn serve_routes(
    routes: Routes,
    identity: Identity,
    usage: UsageLog,
    sizes: &Sizes,
) -> Served {
    let broker = Arc::new(Broker::new(identity, routes, usage, Callers::new(sizes)));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("broker.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    tokio::spawn(serve_tcp(broker.clone(), tcp));
    tokio::spawn(serve_unix(broker.clone(), UnixListener::bind(&socket).unwrap()));
    Served { broker, socket, port, _dir: dir }
}

/// A policy of so many slots for the embedded engine.
pub fn policy(slots: usize) -> Policy {
    Policy { slots, yields: true, fifo: false, max_queued: 100 }
}

/// A log that goes to a coconutd, with a journal of its own below `folder`.
pub fn to_daemon(socket: PathBuf, folder: &Path, synced: watch::Receiver<bool>) -> UsageLog {
    let (journal, left) = Journal::open(folder).unwrap();
    UsageLog::to_daemon(socket, Arc::new(journal), left, synced)
}

impl Served {
    /// How full its first backend is.
    pub fn depth(&self) -> Depth {
        self.broker.routes.all()[0].admission.depth()
    }

    /// POSTs JSON over the UNIX socket.
    pub async fn post(&self, path: &str, body: &str) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        send(TokioIo::new(stream), path, body, None).await
    }

    /// POSTs JSON over TCP, with a header.
    pub async fn post_tcp(
        &self,
        path: &str,
        body: &str,
        tenant: Option<&str>,
    ) -> Response<Incoming> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        send(TokioIo::new(stream), path, body, tenant).await
    }
}

/// GETs over the UNIX socket.
pub async fn get(served: &Served, path: &str) -> Response<Incoming> {
    get_over(UnixStream::connect(&served.socket).await.unwrap(), path).await
}

/// GETs over a connection.
pub async fn get_over<S>(stream: S, path: &str) -> Response<Incoming>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.unwrap()
}

async fn send<I>(io: TokioIo<I>, path: &str, body: &str, tenant: Option<&str>) -> Response<Incoming>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(path).header("host", "x");
    if let Some(tenant) = tenant {
        request = request.header("x-tenant-id", tenant);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    sender.send_request(request).await.unwrap()
}

/// The whole body as JSON.
pub async fn json(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// The whole body as text.
pub async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A chat request.
pub fn chat(max_tokens: u32, more: &str) -> String {
    format!(
        r#"{{"model":"{}","messages":[{{"role":"user","content":"Review the module"}}],"max_tokens":{max_tokens}{more}}}"#,
        model::NAME
    )
}
