//! Callers that take all they can get: connections, half-sent requests, descriptors, queries. Each
//! with its control: the same without limits. Needs root, as the tests of the API do.

use crate::fake::Running;
use crate::fake::requests::ad_hoc;
use abi::AgentId;
use api::audit::Record;
use api::client::{Client, ClientError};
use api::{AgentDetail, AgentList};
use coconutd::caller::Caller;
use coconutd::callers::{Parts, Sizes};
use connections::Limits;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Long enough for anything that is not refused or stuck.
const LONG: Duration = Duration::from_secs(60);

fn spawn(client: &Client, name: &str, capabilities: &[&str]) -> AgentDetail {
    client.post("/v1/agents", &ad_hoc(name, capabilities)).unwrap()
}

fn aid_of(running: &Running, detail: &AgentDetail) -> AgentId {
    running.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid
}

const HALVES: [&[u8]; 3] =
    [b"GET /v1/ag", b"", b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"];

/// `count` connections, each with half of something sent, all of them dealt with: counted, or
/// closed.
fn hoard(running: &Running, socket: &Path, who: &Caller, count: usize) -> Vec<UnixStream> {
    // Whoever sends something else than descriptors there is turned away.
    let stdio = socket == running.daemon.config.stdio_socket();
    let halves: &[&[u8]] = if stdio { &[b""] } else { &HALVES };
    let mut streams = Vec::new();
    for half in halves.iter().cycle().take(count) {
        let mut stream = UnixStream::connect(socket).unwrap();
        // Whoever was turned away already does not take it.
        let _ = stream.write_all(half);
        stream.set_nonblocking(true).unwrap();
        streams.push(stream);
    }
    for _ in 0..LONG.as_millis() / 5 {
        if open(&streams) == running.daemon.callers.connections.held(who) {
            return streams;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("what is open is not what is counted: {}", open(&streams));
}

/// How many the other end has not closed.
fn open(streams: &[UnixStream]) -> usize {
    streams.iter().filter(|stream| is_open(stream)).count()
}

fn is_open(mut stream: &UnixStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

fn small(part: usize, each: usize) -> Sizes {
    let connections = Limits { total: 64, each, part };
    let of = |agents| Parts { agents, ..Sizes::default().connections };
    Sizes { connections: of(connections), ..Sizes::default() }
}

/// True if a request is answered with a success.
fn is_answered(socket: &Path) -> bool {
    let client = Client::new(socket).unwrap();
    client.agents(false).is_ok()
}

#[test]
fn a_hoarder_of_connections_is_in_nobodys_way() {
    for (sizes, limited) in [(small(8, 8), true), (small(0, usize::MAX), false)] {
        let running = Running::start_sized(sizes);
        let (client, socket) = (running.client(), running.daemon.config.api_socket());
        let hoarder = aid_of(&running, &spawn(&client, "hoarder", &[]));
        let other = aid_of(&running, &spawn(&client, "other", &[]));
        running.become_agent(Some(hoarder));
        let uuid = running.daemon.uuid_of(hoarder).unwrap();
        let who = Caller::Agent { aid: hoarder, uuid, uid: 0, gid: 0 };
        let streams = hoard(&running, &socket, &who, 200);
        assert_eq!(open(&streams), if limited { 5 } else { 64 });
        running.become_agent(Some(other));
        assert_eq!(is_answered(&socket), limited, "another agent");
        running.become_agent(None);
        assert!(is_answered(&socket), "an operator");
        // All that the hoarder got is still open: nothing waited for any of it to end.
        assert_eq!(open(&streams), if limited { 5 } else { 64 });
        drop(streams);
        running.stop();
    }
}

/// Hands three descriptors over; true if they were taken.
fn lend(socket: &Path) -> bool {
    let mut stream = UnixStream::connect(socket).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let descriptors = [null.as_fd(); 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let token = uuid::Uuid::now_v7().into_bytes();
    // Whoever was turned away is told by the end of the connection.
    let _ = sendmsg(&stream, &[IoSlice::new(&token)], &mut control, SendFlags::NOSIGNAL);
    stream.set_read_timeout(Some(LONG)).unwrap();
    matches!(stream.read(&mut [0]), Ok(1))
}

#[test]
fn descriptors_that_wait_are_counted_for_each_caller() {
    let usual = Sizes::default().waiting;
    let limits = |part, each| Limits { total: 64, each, part };
    for (agents, limited) in [(limits(8, 8), true), (limits(0, usize::MAX), false)] {
        let waiting = Parts { agents, ..usual };
        let sizes = Sizes { waiting, connections: Parts::NONE, ..Sizes::default() };
        let running = Running::start_sized(sizes);
        let (client, socket) = (running.client(), running.daemon.config.stdio_socket());
        let hoarder = aid_of(&running, &spawn(&client, "hoarder", &[]));
        let other = aid_of(&running, &spawn(&client, "other", &[]));
        running.become_agent(Some(hoarder));
        let uuid = running.daemon.uuid_of(hoarder).unwrap();
        let who = Caller::Agent { aid: hoarder, uuid, uid: 0, gid: 0 };
        let streams = hoard(&running, &socket, &who, 100);
        assert_eq!(open(&streams), if limited { 5 } else { 64 });
        running.become_agent(Some(other));
        assert_eq!(lend(&socket), limited, "another agent");
        running.become_agent(None);
        assert!(lend(&socket), "an operator");
        running.stop();
    }
}

#[test]
fn without_parts_a_hoarder_keeps_an_operator_out() {
    // The control: one pool for all, as one limit for all callers would be.
    let shared = Limits { total: 64, each: usize::MAX, part: 0 };
    let mut sizes = Sizes { connections: Parts::NONE, ..Sizes::default() };
    sizes.connections.operators = shared;
    let running = Running::start_sized(sizes);
    let socket = running.daemon.config.api_socket();
    let streams = hoard(&running, &socket, &Caller::Operator { uid: 0, gid: 0 }, 200);
    assert_eq!(open(&streams), 64);
    assert!(!is_answered(&socket));
    drop(streams);
    running.stop();
}

#[test]
fn operators_have_sockets_of_their_own() {
    use std::os::unix::fs::PermissionsExt;
    let running = Running::start();
    let config = &running.daemon.config;
    let own = config.operator_socket(&config.api_socket());
    assert!(is_answered(&own));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&config.operators()), mode(&own)), (0o750, 0o660));
    assert_eq!(mode(&config.api_socket()), 0o666);
    running.stop();
    assert!(!own.exists());
}

#[test]
fn agents_are_listed_a_page_at_a_time() {
    let running = Running::start();
    let client = running.client();
    let spawned: Vec<AgentDetail> =
        (0..7).map(|n| spawn(&client, &format!("agent-{n}"), &["agent.spawn=9"])).collect();
    let expected: Vec<_> = spawned.iter().map(|detail| detail.agent.aid).collect();
    let (mut listed, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page: AgentList = client.get(&format!("/v1/agents?limit=3{after}")).unwrap();
        assert!(page.agents.len() <= 3);
        listed.extend(page.agents.iter().map(|agent| agent.aid));
        pages += 1;
        // The page goes on behind an agent, also when that one is gone.
        let last = listed.last().unwrap();
        let () = client
            .post::<_, api::Exit>(&format!("/v1/agents/{last}/kill"), &())
            .map(|_| ())
            .unwrap();
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!((listed, pages), (expected, 3));
    assert_eq!(client.agents(true).unwrap().agents.len(), 7);
    // Who sees few gets them on its first page, however many others there are.
    running.become_agent(Some(aid_of(&running, &spawned[1])));
    let own: AgentList = client.get("/v1/agents?limit=3").unwrap();
    assert_eq!((own.agents.len(), own.next), (1, None));
    assert!(client.get::<AgentList>("/v1/agents?after=nonsense").is_err());
    running.become_agent(None);
    running.stop();
}

/// Reads nothing of the answer.
fn ask_and_stall(socket: &Path, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn records(client: &Client, limit: Option<u64>) -> Result<Vec<Record>, ClientError> {
    let mut all = Vec::new();
    client.records(&[], limit, |record| {
        all.push(record);
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// Records of `agents`, in turn.
fn fill(running: &Running, agents: &[&AgentDetail], count: usize) {
    for (i, detail) in agents.iter().cycle().take(count).enumerate() {
        let mut entry = coconutd::sink::own(abi::Kind::Use, format!("/srv/{i}"), "x".repeat(500));
        entry.agent = detail.agent.aid;
        running.daemon.sink.record(entry);
    }
}

#[test]
fn a_query_holds_a_page_and_counts_what_the_caller_may_see() {
    let running = Running::start();
    let client = running.client();
    let mine = spawn(&client, "mine", &["audit.read=own"]);
    let other = spawn(&client, "other", &[]);
    fill(&running, &[&mine, &other, &other, &other], 20_000);
    fill(&running, &[&other], 2_000);
    // The control: an operator sees all of it, and the newest are the other's.
    let all = records(&client, None).unwrap();
    assert!(all.len() >= 22_000);
    assert!(records(&client, Some(50)).unwrap().iter().all(|r| r.agent == other.agent.aid));
    running.become_agent(Some(aid_of(&running, &mine)));
    let own = records(&client, Some(u64::MAX)).unwrap();
    let expected: Vec<u64> =
        all.iter().filter(|r| r.agent == mine.agent.aid).map(|r| r.sequence).collect();
    assert_eq!(own.iter().map(|r| r.sequence).collect::<Vec<_>>(), expected);
    let newest = records(&client, Some(50)).unwrap();
    assert_eq!(newest, own[own.len() - 50..]);
    // Many at once, none of which takes its answer.
    let who = Caller::Agent { aid: aid_of(&running, &mine), uuid: mine.agent.aid, uid: 0, gid: 0 };
    while running.daemon.callers.queries.held(&who) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let socket = running.daemon.config.api_socket();
    let stalled: Vec<UnixStream> =
        (0..20).map(|_| ask_and_stall(&socket, "/v1/audit/records")).collect();
    let refused = stalled.iter().filter(|stream| first_line(stream).contains("503")).count();
    assert_eq!(refused, 16, "an agent may have four at once");
    running.become_agent(None);
    assert_eq!(records(&client, None).unwrap().len(), all.len(), "an operator waits for none");
    assert!(running.daemon.callers.turns.most_held() <= audit::Page::default().records);
    running.stop();
}

fn first_line(mut stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut bytes = [0; 64];
    let n = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

#[test]
fn a_follower_that_lags_reads_the_log_and_misses_nothing() {
    let running = Running::start();
    let client = running.client();
    let mine = spawn(&client, "mine", &[]);
    let socket = running.daemon.config.api_socket();
    let (told, inbox) = channel();
    let (go, wait) = channel::<()>();
    let follower = std::thread::spawn(move || {
        let client = Client::new(&socket).unwrap();
        let (mut first, mut left) = (true, 30_001);
        client.records(&[("follow", "true"), ("object", "/srv/")], None, |record| {
            if std::mem::take(&mut first) {
                told.send(record.sequence).unwrap();
                // Meanwhile far more comes than is kept for a follower.
                wait.recv_timeout(LONG).unwrap();
            }
            told.send(record.sequence).unwrap();
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    fill(&running, &[&mine], 1);
    let first = inbox.recv_timeout(LONG).unwrap();
    fill(&running, &[&mine], 30_000);
    running.on(running.daemon.sink.flush());
    go.send(()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 30_001 {
        match inbox.recv_timeout(LONG) {
            Ok(sequence) => seen.push(sequence),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    assert_eq!(seen, (first..first + 30_001).collect::<Vec<u64>>(), "none twice, none missing");
    follower.join().unwrap().unwrap();
    running.stop();
}
