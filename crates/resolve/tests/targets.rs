//! Rules with what they name resolved.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use manifest::Rule;
use resolve::names::{Names, Settings};
use resolve::targets::{Absent, Handles, Resolved, Resolver, RuleError, Target};
use rustix::fs::fstat;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Knows files by their inode, or refuses all.
#[derive(Default)]
struct Kernel {
    refuses: AtomicBool,
}

impl Handles for Kernel {
    type Handle = (OwnedFd, u64);
    type Error = io::Error;
    fn handle(&self, fd: OwnedFd) -> io::Result<(OwnedFd, u64)> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no lasting identity"));
        }
        let inode = fstat(&fd)?.st_ino;
        Ok((fd, inode))
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    root: PathBuf,
    kernel: Arc<Kernel>,
    resolver: Resolver<Kernel>,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    fs::write(root.join("hosts"), "192.0.2.7 db\n192.0.2.9 db\n2001:db8::1 db\n").unwrap();
    let settings = Settings {
        resolv_conf: root.join("resolv.conf"),
        hosts: root.join("hosts"),
        ..Settings::default()
    };
    let kernel = Arc::new(Kernel::default());
    let resolver = Resolver::new(Arc::clone(&kernel), Names::new(settings));
    Scene { _dir: dir, root, kernel, resolver }
}

impl Scene {
    fn path_rule(&self, capability: &str, name: &str) -> Rule {
        format!("{capability}={}", self.root.join(name).display()).parse().unwrap()
    }

    fn inode(&self, name: &str) -> u64 {
        rustix::fs::lstat(self.root.join(name)).unwrap().st_ino
    }

    async fn resolve(&self, rule: &Rule) -> Resolved<(OwnedFd, u64)> {
        self.resolver.rule("t", rule, Absent::Refused).await.unwrap()
    }
}

fn inode_of(resolved: &Resolved<(OwnedFd, u64)>) -> u64 {
    let Target::File(handle) = &resolved.target else { panic!("{:?}", resolved.target) };
    assert_eq!(fstat(&handle.0).unwrap().st_ino, handle.1, "the handle holds the very file");
    handle.1
}

#[tokio::test]
async fn what_is_compared_is_what_the_kernel_gets() {
    let scene = scene();
    fs::create_dir(scene.root.join("vendor")).unwrap();
    fs::create_dir(scene.root.join("secret")).unwrap();
    symlink(scene.root.join("secret"), scene.root.join("vendor/data")).unwrap();
    let vendor = scene.path_rule("fs.read", "vendor");
    let asked = scene.path_rule("fs.read", "vendor/data");
    // The control: by its text the rule lies within what the supplier may grant.
    assert!(vendor.covers(&asked));
    let resolved = scene.resolve(&asked).await;
    assert_eq!(resolved.rule, scene.path_rule("fs.read", "secret"));
    assert_eq!(inode_of(&resolved), scene.inode("secret"));
    assert!(!vendor.covers(&resolved.rule));
}

#[tokio::test]
async fn a_link_that_is_turned_after_the_comparison_changes_nothing() {
    let scene = scene();
    for folder in ["mine", "secret"] {
        fs::create_dir(scene.root.join(folder)).unwrap();
    }
    symlink(scene.root.join("mine"), scene.root.join("link")).unwrap();
    let resolved = scene.resolve(&scene.path_rule("fs.write", "link")).await;
    fs::remove_file(scene.root.join("link")).unwrap();
    symlink(scene.root.join("secret"), scene.root.join("link")).unwrap();
    assert_eq!(resolved.rule, scene.path_rule("fs.write", "mine"));
    assert_eq!(inode_of(&resolved), scene.inode("mine"));
    // The control: whoever looked the name up again would get the other one.
    let again = scene.resolve(&scene.path_rule("fs.write", "link")).await;
    assert_eq!(inode_of(&again), scene.inode("secret"));
}

#[tokio::test]
async fn a_held_inode_is_not_used_again() {
    let scene = scene();
    fs::write(scene.root.join("granted"), "").unwrap();
    let resolved = scene.resolve(&scene.path_rule("fs.read", "granted")).await;
    let inode = inode_of(&resolved);
    fs::remove_file(scene.root.join("granted")).unwrap();
    let next = || {
        fs::write(scene.root.join("other"), "").unwrap();
        let other = scene.inode("other");
        fs::remove_file(scene.root.join("other")).unwrap();
        other
    };
    assert!((0..50).all(|_| next() != inode));
    drop(resolved);
    // The control: ext4 gives the number of a file that nobody holds to the next one.
    if rustix::fs::statfs(&scene.root).unwrap().f_type == 0xef53 {
        assert!((0..50).any(|_| next() == next()));
    }
}

#[tokio::test]
async fn an_absent_path_is_left_out_only_where_it_may_be() {
    let scene = scene();
    let rule = scene.path_rule("fs.read", "nothing");
    let left_out = scene.resolver.rule("t", &rule, Absent::LeftOut).await.unwrap();
    assert!(matches!(left_out.target, Target::Nothing));
    assert_eq!(left_out.rule, rule);
    let error = scene.resolver.rule("t", &rule, Absent::Refused).await.unwrap_err();
    assert!(matches!(error, RuleError::Path { .. }), "{error}");
    // What is there and cannot be held is an error in either case.
    scene.kernel.refuses.store(true, Ordering::SeqCst);
    let rule = scene.path_rule("fs.read", "hosts");
    let error = scene.resolver.rule("t", &rule, Absent::LeftOut).await.unwrap_err();
    assert!(matches!(error, RuleError::Handle { .. }), "{error}");
}

#[tokio::test]
async fn each_kind_has_its_target() {
    let scene = scene();
    let target = async |text: &str| scene.resolve(&text.parse().unwrap()).await.target;
    let addresses = async |text: &str| match target(text).await {
        Target::Addresses(all) => all,
        other => panic!("{other:?}"),
    };
    let at = |text: &str, prefix, port| (text.parse::<IpAddr>().unwrap(), prefix, port);
    assert_eq!(addresses("net.connect=10.0.0.0/8:443").await, [at("10.0.0.0", 8, 443)]);
    assert_eq!(addresses("net.bind=*:*").await, [at("0.0.0.0", 0, 0), at("::", 0, 0)]);
    assert_eq!(
        addresses("net.connect=db:5432").await,
        [at("192.0.2.7", 32, 5432), at("192.0.2.9", 32, 5432), at("2001:db8::1", 128, 5432)]
    );
    assert!(matches!(target("net.raw=true").await, Target::Everything));
    assert!(matches!(target("agent.signal=descendants").await, Target::Everything));
    assert!(matches!(target("ipc.unix=@bus").await, Target::Abstract(name) if name == b"bus"));
    assert!(matches!(target("device=/dev/null").await, Target::File(_)));
    for text in ["infer=*", "agent.spawn=3", "audit.read=own"] {
        assert!(matches!(target(text).await, Target::Nothing), "{text}");
    }
}

#[tokio::test]
async fn many_rules_come_back_in_their_order() {
    let scene = scene();
    fs::create_dir(scene.root.join("a")).unwrap();
    let texts = ["net.connect=db:1", "infer=*", "net.connect=db:2"];
    let mut rules: Vec<(Rule, Absent)> =
        texts.iter().map(|text| (text.parse().unwrap(), Absent::Refused)).collect();
    rules.insert(1, (scene.path_rule("fs.read", "a"), Absent::Refused));
    rules.push((scene.path_rule("fs.read", "absent"), Absent::LeftOut));
    let all = scene.resolver.rules("t", &rules).await.unwrap();
    assert_eq!(
        all.iter().map(|r| &r.rule).collect::<Vec<_>>(),
        rules.iter().map(|r| &r.0).collect::<Vec<_>>()
    );
    let ports = |resolved: &Resolved<_>| match &resolved.target {
        Target::Addresses(all) => all.iter().map(|(_, _, port)| *port).collect(),
        _ => Vec::new(),
    };
    assert_eq!((ports(&all[0]), ports(&all[3])), (vec![1; 3], vec![2; 3]));
    assert_eq!(inode_of(&all[1]), scene.inode("a"));
    assert!(matches!((&all[2].target, &all[4].target), (Target::Nothing, Target::Nothing)));
    rules.push((scene.path_rule("fs.read", "absent"), Absent::Refused));
    assert!(scene.resolver.rules("t", &rules).await.is_err());
}
