//! Host names, asked of a name server of the test's own that answers when it is told to.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use resolve::names::{ADDRESSES_MAX, NameError, Names, Settings};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Longer than any run: what waits for it waits for ever.
const NEVER: Duration = Duration::from_secs(86_400);

/// Never answers for names below `silent.`, refuses `absent.`, has forty addresses for `many.`, is
/// silent about IPv6 of `half.`, and says 192.0.2.1 to all else.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(address: &str, port: u16) -> Server {
        let socket = UdpSocket::bind((address, port)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let name = question.queries[0].name().to_ascii().to_ascii_lowercase();
                seen.lock().unwrap().push(name.clone());
                if let Some(answer) = answer(&question, &name) {
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        Server { port, asked }
    }

    fn times(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(name)).count()
    }

    async fn asked_for(&self, name: &str) {
        while self.times(name) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn answer(question: &Message, name: &str) -> Option<Message> {
    let query = question.queries[0].clone();
    let v4 = query.query_type() == RecordType::A;
    if name.contains("silent.") || (name.starts_with("half.") && !v4) {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    let mut say = |last: u8| {
        let data = RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        answer.answers.push(Record::from_rdata(query.name().clone(), 60, data));
    };
    match name {
        name if name.starts_with("absent.") => {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        name if name.starts_with("many.") && v4 => (1..=40).rev().chain([7]).for_each(&mut say),
        _ if v4 => say(1),
        _ => {}
    }
    answer.add_query(query);
    Some(answer)
}

struct Scene {
    _dir: tempfile::TempDir,
    root: PathBuf,
    server: Server,
    names: Arc<Names>,
}

async fn scene(limit: Duration, per_tenant: usize) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let server = Server::start("127.0.0.1", 0).await;
    fs::write(root.join("resolv.conf"), "nameserver 127.0.0.1\noptions edns0 timeout:86400\n")
        .unwrap();
    fs::write(root.join("hosts"), "192.0.2.99 written.test\n").unwrap();
    let settings = Settings {
        resolv_conf: root.join("resolv.conf"),
        hosts: root.join("hosts"),
        port: server.port,
        limit,
        per_tenant,
    };
    Scene { _dir: dir, root, server, names: Arc::new(Names::new(settings)) }
}

impl Scene {
    fn ask(
        &self,
        tenant: &'static str,
        name: &str,
    ) -> tokio::task::JoinHandle<Result<Vec<IpAddr>, NameError>> {
        let (names, name) = (Arc::clone(&self.names), name.to_owned());
        tokio::spawn(async move { names.addresses(tenant, &name).await })
    }
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// One thread for everything: if a lookup kept it, nothing here would end.
#[tokio::test]
async fn a_silent_name_server_delays_only_who_asked_it() {
    let scene = scene(NEVER, 2).await;
    let slow = ["a.silent.test", "b.silent.test"].map(|name| scene.ask("slow", name));
    scene.server.asked_for("a.silent.").await;
    scene.server.asked_for("b.silent.").await;
    let behind = scene.ask("slow", "behind.test");
    // Only one that waits for the slow one's takes a minute.
    let other = tokio::time::timeout(Duration::from_secs(60), scene.ask("other", "quick.test"));
    let other = other.await.expect("the other tenant waits for a name server that it did not ask");
    assert_eq!(other.unwrap().unwrap(), [v4(1)]);
    assert!(slow.iter().all(|task| !task.is_finished()), "the other's came first");
    // The control: with turns in common it would wait, as the tenant's own third does.
    assert!(!behind.is_finished());
    assert_eq!(scene.server.times("behind."), 0);
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(behind.await.unwrap().unwrap(), [v4(1)], "whoever hangs up gives its turn back");
}

#[tokio::test]
async fn a_name_takes_no_longer_than_its_limit() {
    let scene = scene(Duration::from_millis(300), 4).await;
    let error = scene.names.addresses("t", "a.silent.test").await.unwrap_err();
    assert!(matches!(error, NameError::Slow { .. }), "{error:?}");
    assert!(error.to_string().contains("no name server told the address of a.silent.test"));
}

#[tokio::test]
async fn silence_about_one_family_does_not_cost_the_other() {
    let scene = scene(Duration::from_secs(3), 4).await;
    assert_eq!(scene.names.addresses("t", "half.test").await.unwrap(), [v4(1)]);
}

#[tokio::test]
async fn addresses_are_sorted_once_each_and_bounded() {
    let scene = scene(NEVER, 4).await;
    let all = scene.names.addresses("t", "many.test").await.unwrap();
    assert_eq!(all, (1..=32).map(v4).collect::<Vec<_>>());
    assert_eq!(all.len(), ADDRESSES_MAX);
}

#[tokio::test]
async fn a_name_without_addresses_is_said_to_have_none() {
    let scene = scene(NEVER, 4).await;
    let error = scene.names.addresses("t", "absent.test").await.unwrap_err();
    assert!(matches!(error, NameError::NoAddress(_)), "{error:?}");
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_again() {
    let scene = scene(NEVER, 4).await;
    assert_eq!(scene.names.addresses("t", "written.test").await.unwrap(), [v4(99)]);
    assert_eq!(scene.server.times("written."), 0, "nobody is asked about what is written there");
    fs::write(scene.root.join("hosts.new"), "192.0.2.98 written.test\n").unwrap();
    fs::rename(scene.root.join("hosts.new"), scene.root.join("hosts")).unwrap();
    assert_eq!(scene.names.addresses("t", "written.test").await.unwrap(), [v4(98)]);
}

#[tokio::test]
async fn a_new_resolv_conf_is_noticed() {
    let scene = scene(NEVER, 4).await;
    let other = Server::start("127.0.0.2", scene.server.port).await;
    assert_eq!(scene.names.addresses("t", "old.test").await.unwrap(), [v4(1)]);
    fs::write(scene.root.join("new"), "nameserver 127.0.0.2\n").unwrap();
    fs::rename(scene.root.join("new"), scene.root.join("resolv.conf")).unwrap();
    assert_eq!(scene.names.addresses("t", "new.test").await.unwrap(), [v4(1)]);
    let asked = |name| (scene.server.times(name) > 0, other.times(name) > 0);
    assert_eq!((asked("old."), asked("new.")), ((true, false), (false, true)));
}
