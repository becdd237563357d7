//! Names in a folder of the test's own that are made to lead elsewhere.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

struct Scene {
    _dir: tempfile::TempDir,
    root: PathBuf,
    following: Following,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    Scene { _dir: dir, root, following: Following::new(64).unwrap() }
}

impl Scene {
    fn path(&self, name: &str) -> AbsPath {
        AbsPath::parse(self.root.join(name).to_str().unwrap()).unwrap()
    }

    fn follow(&self, name: &str) -> AbsPath {
        let path = self.path(name);
        self.following.add(&path).unwrap();
        path
    }

    fn write(&self, name: &str) {
        fs::write(self.root.join(name), name).unwrap();
    }

    /// What is told next. Only if nothing ever is, this takes a minute.
    async fn next(&self) -> AbsPath {
        let told = tokio::time::timeout(Duration::from_secs(60), self.following.changed());
        told.await.expect("nothing is told").unwrap()
    }

    /// What is told before a file is that is made now.
    async fn told(&self) -> Vec<AbsPath> {
        let last = (0..).map(|n| format!("last-{n}")).find(|n| !self.root.join(n).exists());
        let last = self.follow(&last.unwrap());
        fs::write(last.as_path(), "").unwrap();
        let mut told = Vec::new();
        loop {
            let path = self.next().await;
            if path == last {
                self.following.remove(&last);
                return told;
            }
            told.push(path);
        }
    }
}

#[tokio::test]
async fn a_save_by_rename_is_told() {
    let scene = scene();
    scene.write("hosts");
    let hosts = scene.follow("hosts");
    scene.write("hosts.new");
    fs::rename(scene.root.join("hosts.new"), scene.root.join("hosts")).unwrap();
    assert_eq!(scene.told().await, [hosts]);
}

#[tokio::test]
async fn a_socket_that_is_made_again_is_told() {
    let scene = scene();
    scene.write("socket");
    let socket = scene.follow("socket");
    fs::remove_file(scene.root.join("socket")).unwrap();
    assert_eq!(scene.next().await, socket);
    scene.write("socket");
    assert_eq!(scene.told().await, [socket]);
}

#[tokio::test]
async fn so_is_one_whose_folder_is_made_again() {
    let scene = scene();
    fs::create_dir(scene.root.join("run")).unwrap();
    scene.write("run/socket");
    let socket = scene.follow("run/socket");
    fs::remove_dir_all(scene.root.join("run")).unwrap();
    assert_eq!(scene.told().await, std::slice::from_ref(&socket));
    fs::create_dir(scene.root.join("run")).unwrap();
    assert_eq!(scene.next().await, socket);
    scene.write("run/socket");
    assert_eq!(scene.told().await, [socket]);
}

#[tokio::test]
async fn every_link_on_the_way_is_followed() {
    let scene = scene();
    for folder in ["bin", "etc", "lib"] {
        fs::create_dir(scene.root.join(folder)).unwrap();
    }
    scene.write("lib/editor-1");
    scene.write("lib/editor-2");
    symlink("../etc/editor", scene.root.join("bin/editor")).unwrap();
    symlink(scene.root.join("lib/editor-1"), scene.root.join("etc/editor")).unwrap();
    let editor = scene.follow("bin/editor");

    scene.write("etc/editor.new");
    fs::remove_file(scene.root.join("etc/editor.new")).unwrap();
    symlink(scene.root.join("lib/editor-2"), scene.root.join("etc/editor.new")).unwrap();
    fs::rename(scene.root.join("etc/editor.new"), scene.root.join("etc/editor")).unwrap();
    assert_eq!(scene.told().await, std::slice::from_ref(&editor));

    // The new way is watched, the old one no longer.
    fs::remove_file(scene.root.join("lib/editor-1")).unwrap();
    assert!(scene.told().await.is_empty());
    fs::remove_file(scene.root.join("lib/editor-2")).unwrap();
    assert_eq!(scene.told().await, [editor]);
}

#[tokio::test]
async fn what_others_do_beside_it_is_not_told() {
    let scene = scene();
    scene.write("hosts");
    scene.follow("hosts");
    scene.write("other");
    fs::remove_file(scene.root.join("other")).unwrap();
    fs::write(scene.root.join("hosts"), "written in place: the same file").unwrap();
    assert!(scene.told().await.is_empty());
    scene.following.remove(&scene.path("hosts"));
    fs::remove_file(scene.root.join("hosts")).unwrap();
    assert!(scene.told().await.is_empty(), "no longer followed");
    assert_eq!(scene.following.watched(), 0);
}

#[tokio::test]
async fn what_is_not_there_yet_is_told_when_it_comes() {
    let scene = scene();
    let late = scene.follow("a/b");
    fs::create_dir(scene.root.join("a")).unwrap();
    assert_eq!(scene.next().await, late);
    scene.write("a/b");
    assert_eq!(scene.told().await, [late]);
}

#[tokio::test]
async fn watches_are_bounded() {
    let mut scene = scene();
    // `/`, and each folder down to this one.
    let depth = scene.root.components().count();
    scene.following = Following::new(depth + 1).unwrap();
    for folder in ["a", "b"] {
        fs::create_dir(scene.root.join(folder)).unwrap();
    }
    scene.follow("a/x");
    scene.follow("a/y");
    let error = scene.following.add(&scene.path("b/x")).unwrap_err();
    assert!(matches!(error, FollowError::Full { .. }), "{error}");
    assert_eq!(scene.following.watched(), depth + 1, "nothing is left of what was refused");
    scene.following.remove(&scene.path("a/x"));
    scene.following.remove(&scene.path("a/y"));
    scene.follow("b/x");
}

#[tokio::test]
async fn a_flood_of_events_tells_everything() {
    let scene = scene();
    scene.write("hosts");
    let hosts = scene.follow("hosts");
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // Nobody reads meanwhile: the kernel drops what does not fit, the last one among them.
    for _ in 0..=most / 2 {
        fs::write(scene.root.join("flood"), "").unwrap();
        fs::remove_file(scene.root.join("flood")).unwrap();
    }
    fs::rename(scene.root.join("hosts"), scene.root.join("away")).unwrap();
    assert_eq!(scene.next().await, hosts);
}
