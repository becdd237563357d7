//! Who may start what: signatures, `--allow-unsigned`, and a foreground agent's own terminal.

use crate::fake::Running;
use abi::Kind;
use api::agent::{SpawnSource, Stdio};
use api::client::ClientError;
use api::{AgentDetail, ErrorBody, ErrorCode, Exit, SpawnRequest};
use attest::SecretKey;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use uuid::Uuid;

const TEXT: &str = "[agent]\nname = \"clerk\"\ntenant = \"omar\"\ncommand = [\"/bin/true\"]\n\
                    [capabilities]\n\"fs.read\" = [\"/etc/ssl\"]\n";

fn request(text: &str, signature: Option<String>, allow_unsigned: bool) -> SpawnRequest {
    SpawnRequest {
        source: SpawnSource::Manifest {
            path: "/x/clerk.toml".into(),
            text: text.into(),
            signature,
            tenant: None,
            name: None,
            capabilities: Vec::new(),
        },
        args: Vec::new(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned,
        stdio: None,
    }
}

/// A daemon that trusts the key `omar` with `grants`.
fn trusting(grants: &str) -> (Running, SecretKey) {
    let key = SecretKey::generate("omar").unwrap();
    let running = Running::start_with(|config| {
        let trust = &config.trust[0];
        std::fs::create_dir_all(trust).unwrap();
        std::fs::write(trust.join("omar.pub"), format!("{}\n", key.public())).unwrap();
        std::fs::write(
            trust.join("omar.toml"),
            format!("grants = [{grants}]\ntenants = [\"omar\"]\n"),
        )
        .unwrap();
    });
    (running, key)
}

fn sign(text: &str, key: &SecretKey) -> String {
    let manifest = manifest::Manifest::parse("clerk.toml", text).unwrap();
    attest::sign_manifest(text.as_bytes(), &coconutd::trust::facts(&manifest), key, 1).to_json()
}

fn refused(answer: Result<AgentDetail, ClientError>) -> ErrorBody {
    match answer.unwrap_err() {
        ClientError::Refused(body) => body,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[test]
fn a_signature_covers_every_byte_and_a_key_grants_only_what_it_may() {
    let (running, key) = trusting("\"fs.read=/etc\", \"fs.exec=/usr/bin\"");
    let client = running.client();
    let envelope = sign(TEXT, &key);
    let good: AgentDetail =
        client.post("/v1/agents", &request(TEXT, Some(envelope.clone()), false)).unwrap();
    assert_eq!((good.origin.authorizer.as_str(), good.origin.signed), ("omar", true));
    let changed = TEXT.replace("/etc/ssl", "/etc/sss");
    let body = refused(client.post("/v1/agents", &request(&changed, Some(envelope), true)));
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Integrity, Some("signature")));
    let wide = TEXT.replace("/etc/ssl", "/");
    let body = refused(client.post("/v1/agents", &request(&wide, Some(sign(&wide, &key)), false)));
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Denied, Some("signature")));
    let stranger = SecretKey::generate("omar").unwrap();
    let body =
        refused(client.post("/v1/agents", &request(TEXT, Some(sign(TEXT, &stranger)), false)));
    assert_eq!(body.code, ErrorCode::Denied);
    running.stop();
}

#[test]
fn an_unsigned_manifest_runs_only_when_allowed_and_the_log_says_so() {
    let running = Running::start();
    let client = running.client();
    let body = refused(client.post("/v1/agents", &request(TEXT, None, false)));
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Denied, Some("signature")));
    assert!(body.hint.unwrap().contains("--allow-unsigned"));
    let detail: AgentDetail = client.post("/v1/agents", &request(TEXT, None, true)).unwrap();
    assert!(!detail.origin.signed);
    let mut degraded = 0;
    client
        .lines("/v1/audit/records?agent=clerk&kind=degraded", |record: api::audit::Record| {
            assert_eq!(record.kind, Kind::Degraded);
            degraded += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(degraded, 1);
    running.stop();
}

#[test]
fn a_wrong_manifest_is_refused_with_its_place() {
    let running = Running::start();
    let body = refused(
        running
            .client()
            .post("/v1/agents", &request(&TEXT.replace("fs.read", "fs.raed"), None, true)),
    );
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Usage, Some("manifest")));
    assert!(body.error.contains("6:1"), "{}", body.error);
    running.stop();
}

/// Lends a pipe as the descriptors of an agent; the leash and the pipe's end.
fn lend(running: &Running, token: Uuid) -> (UnixStream, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut leash = hand_over(running, token, [null.as_fd(), writer.as_fd(), writer.as_fd()]);
    leash.read_exact(&mut [0]).unwrap();
    (leash, reader)
}

fn hand_over(running: &Running, token: Uuid, descriptors: [BorrowedFd<'_>; 3]) -> UnixStream {
    let leash = UnixStream::connect(running.daemon.config.stdio_socket()).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&leash, &[IoSlice::new(token.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    leash
}

#[test]
fn an_agent_that_hands_on_a_file_is_told_what_it_may_hand_on() {
    let running = Running::start();
    let parent = running.spawned("parent", &["agent.spawn=1"]);
    running.become_agent(Some(parent));
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    let mut leash = hand_over(&running, Uuid::from_u128(8), [file.as_fd(); 3]);
    let mut answer = String::new();
    leash.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "\0an agent may hand on pipes, sockets and terminals only");
    running.stop();
}

fn foreground(token: Uuid, command: &[&str]) -> SpawnRequest {
    SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "omar".into(),
            name: Some("front".into()),
            capabilities: Vec::new(),
            weight: None,
        },
        args: command.iter().map(|c| (*c).to_owned()).collect(),
        stdio: Some(Stdio { token }),
        ..request(TEXT, None, false)
    }
}

#[test]
fn a_foreground_agent_writes_to_what_it_was_lent_and_ends_with_the_leash() {
    let running = Running::start();
    let client = running.client();
    let token = Uuid::from_u128(7);
    let (leash, mut output) = lend(&running, token);
    let wanted = foreground(token, &["/bin/sh", "-c", "echo front; sleep 60"]);
    let detail: AgentDetail = client.post("/v1/agents", &wanted).unwrap();
    assert_eq!(detail.log_file, None);
    let mut line = [0; 6];
    output.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"front\n");
    let body = refused(client.post("/v1/agents", &wanted));
    assert_eq!(body.step.as_deref(), Some("stdio"), "a token is good once");
    drop(leash);
    let exit: Exit = client.get(&format!("/v1/agents/{}/wait", detail.agent.aid)).unwrap();
    assert_eq!(exit.signal, Some(9));
    assert!(exit.reason.unwrap().contains("foreground"));
    running.stop();
}

#[test]
fn a_foreground_agent_ends_with_the_leash_whichever_daemon_there_is() {
    // The command goes while the next daemon is there, and while there is none.
    for between in [false, true] {
        let running = Running::start();
        let token = Uuid::from_u128(7);
        let (leash, _output) = lend(&running, token);
        let mut leash = Some(leash);
        let wanted = foreground(token, &["/bin/sh", "-c", "sleep 60"]);
        let detail: AgentDetail = running.client().post("/v1/agents", &wanted).unwrap();
        if between {
            leash.take();
        }
        let running = running.followed();
        leash.take();
        let exit: Exit =
            running.client().get(&format!("/v1/agents/{}/wait", detail.agent.aid)).unwrap();
        assert!(exit.reason.unwrap().contains("foreground"), "{between}");
        // Then nothing is kept of it.
        let leashes = || running.fake.kept.lock().unwrap().keys().any(|name| name.starts_with('l'));
        while leashes() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running.stop();
    }
}

#[test]
fn a_child_is_as_strict_as_its_parent() {
    let running = Running::start();
    let client = running.client();
    let text = |exec: &str| {
        format!(
            "[agent]\nname = \"maker\"\ntenant = \"omar\"\ncommand = [\"/usr/bin/sleep\", \"60\"]\nexec = \"{exec}\"\n\
             [capabilities]\n\"agent.spawn\" = {{ count = 2 }}\n\"fs.exec\" = [\"/usr/bin\"]\n"
        )
    };
    for exec in ["readable", "strict"] {
        let parent: AgentDetail =
            client.post("/v1/agents", &request(&text(exec), None, true)).unwrap();
        let aid_of = |detail: &AgentDetail| {
            running.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid
        };
        running.become_agent(Some(aid_of(&parent)));
        let source = SpawnSource::AdHoc {
            tenant: "omar".into(),
            name: None,
            capabilities: Vec::new(),
            weight: None,
        };
        let args = vec!["/usr/bin/sleep".into(), "60".into()];
        let wanted = SpawnRequest { source, args, ..request("", None, false) };
        let child: AgentDetail = client.post("/v1/agents", &wanted).unwrap();
        running.become_agent(None);
        let strict =
            |detail: &AgentDetail| running.fake.agents.lock().unwrap()[&aid_of(detail)].strict;
        let want = exec == "strict";
        assert_eq!([&parent, &child].map(strict), [want; 2], "{exec}");
    }
    running.stop();
}
