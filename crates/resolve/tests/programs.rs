//! Real files that are changed between the hash and the use, with real leases. Each has its
//! control: what a digest would have said that is remembered by what a writer can set back.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use manifest::AbsPath;
use resolve::programs::{Basis, Leases, Program, ProgramError, Programs};
use rustix::fs::CWD;
use sha2::{Digest, Sha256};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// The kernel's, and how often one was asked for, which is how often a file was hashed.
#[derive(Default)]
struct Real {
    taken: AtomicUsize,
}

impl Leases for Real {
    fn take(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        kernel::lease::take(file)
    }
    fn give_back(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        kernel::lease::give_back(file)
    }
    fn is_held(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        kernel::lease::is_held(file)
    }
    fn verity_digest(&self, file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
        kernel::lease::verity_digest(file)
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    root: PathBuf,
    leases: Arc<Real>,
    programs: Arc<Programs>,
}

impl Scene {
    fn new() -> Scene {
        Scene::remembering(resolve::programs::REMEMBERED)
    }

    fn remembering(most: usize) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let leases = Arc::new(Real::default());
        let programs = Programs::start(Arc::clone(&leases) as Arc<dyn Leases>, most).unwrap();
        Scene { _dir: dir, root, leases, programs }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn open(&self, path: &Path) -> Result<Program, ProgramError> {
        self.programs.open(&AbsPath::parse(path.to_str().unwrap()).unwrap())
    }

    /// Waits for what the listener for SIGIO does. Only one that does nothing takes a minute.
    async fn remembers(&self, count: usize) {
        let waiting = async {
            while self.programs.remembered() != count {
                tokio::task::yield_now().await;
            }
        };
        let minute = Duration::from_secs(60);
        tokio::time::timeout(minute, waiting).await.expect("the lease was not given back");
    }
}

fn digest(content: &str) -> [u8; 32] {
    Sha256::digest(content).into()
}

/// What a writer can leave as it was. The time of change it cannot, but a shared mapping does
/// (the kernel crate's `lease` shows that).
type Old = (u64, u64, u64, i64, i64);

fn old_key(path: &Path) -> Old {
    let of = fs::metadata(path).unwrap();
    (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec())
}

/// Opens for writing without waiting for a lease: `WouldBlock` while one is held.
fn write_now(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
    OpenOptions::new().write(true).custom_flags(nonblock.cast_signed()).open(path)
}

/// Opens for writing as everybody does, on a thread of its own, for it may wait.
fn write_patiently(path: &Path) -> std::thread::JoinHandle<File> {
    let path = path.to_owned();
    std::thread::spawn(move || OpenOptions::new().write(true).open(path).unwrap())
}

fn restore_times(path: &Path, (seconds, nanoseconds): (i64, i64)) {
    let since = Duration::new(seconds.cast_unsigned(), nanoseconds.try_into().unwrap());
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + since);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// What the descriptor that would be executed reads.
fn content(program: &Program) -> String {
    let mut file = File::from(program.file.try_clone().unwrap());
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_between_the_hash_and_the_use() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let program = scene.open(&path).unwrap();
    assert_eq!((program.digest, program.basis()), (digest("good"), &Basis::Lease));
    assert_eq!(write_now(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    // The attempt asks for the lease back: the digest is forgotten at once, the guard stays.
    scene.remembers(0).await;
    assert!(!program.holds());
    assert_eq!(write_now(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(content(&program), "good");
    let writer = write_patiently(&path);
    assert_eq!(content(&program), "good");
    drop(program);
    writer.join().unwrap().write_all(b"evil").unwrap();
    assert_eq!(scene.open(&path).unwrap().digest, digest("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_in_place_with_its_time_restored_is_hashed_anew() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let key = old_key(&path);
    assert_eq!(scene.open(&path).unwrap().digest, digest("good"));
    assert_eq!(scene.programs.remembered(), 1);
    write_patiently(&path).join().unwrap().write_all(b"evil").unwrap();
    restore_times(&path, (key.3, key.4));
    assert_eq!(old_key(&path), key, "the control: by number, size and time it is the same");
    assert_eq!(scene.open(&path).unwrap().digest, digest("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_file_waits_too() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let program = scene.open(&path).unwrap();
    let short = path.clone();
    let cut = std::thread::spawn(move || File::options().write(true).truncate(true).open(short));
    scene.remembers(0).await;
    assert_eq!(content(&program), "good");
    drop(program);
    cut.join().unwrap().unwrap();
    assert_eq!(scene.open(&path).unwrap().digest, digest(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_by_the_same_name_is_not_what_was_hashed() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let evil = scene.file("other", "evil");
    let program = scene.open(&path).unwrap();
    fs::rename(&evil, &path).unwrap();
    assert_eq!(content(&program), "good", "the descriptor is the hashed file");
    assert_eq!(fs::read_to_string(&path).unwrap(), "evil", "the control: the name is not");
    assert!(program.holds());
    assert_eq!(scene.open(&path).unwrap().digest, digest("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_by_another_name_waits_too() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let link = scene.root.join("link");
    fs::hard_link(&path, &link).unwrap();
    let key = old_key(&path);
    let program = scene.open(&path).unwrap();
    assert_eq!(write_now(&link).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(program);
    write_patiently(&link).join().unwrap().write_all(b"evil").unwrap();
    restore_times(&link, (key.3, key.4));
    assert_eq!(old_key(&path), key, "the control");
    assert_eq!(scene.open(&path).unwrap().digest, digest("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_it_open_for_writing_is_not_overlooked() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let error = scene.open(&path).unwrap_err();
    assert!(matches!(error, ProgramError::Busy(_)), "{error}");
    assert!(error.to_string().contains("is open for writing by somebody"), "{error}");
    // The control: it could be read and hashed, and then be written to.
    assert_eq!(fs::read_to_string(&path).unwrap(), "good");
    writer.write_all(b"evil").unwrap();
    drop(writer);
    assert_eq!(scene.open(&path).unwrap().digest, digest("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interpreter_of_a_script_is_held_too() {
    let scene = Scene::new();
    let good = scene.file("good", "\x7fELF good");
    let evil = scene.file("evil", "\x7fELF evil");
    let link = scene.root.join("interpreter");
    symlink(&good, &link).unwrap();
    let script = scene.file("script", &format!("#! {} -x\nexit\n", link.display()));
    let program = scene.open(&script).unwrap();
    let interpreter = program.interpreter.as_ref().unwrap();
    assert_eq!(interpreter.real.as_path(), good);
    assert_eq!(interpreter.digest, digest("\x7fELF good"));
    fs::remove_file(&link).unwrap();
    symlink(&evil, &link).unwrap();
    assert_eq!(content(interpreter), "\x7fELF good", "the descriptor is the hashed file");
    // The control: the script's bytes are the same, its interpreter is another.
    assert_eq!(fs::read_to_string(&link).unwrap(), "\x7fELF evil");
    let again = scene.open(&script).unwrap();
    assert_eq!(again.digest, program.digest);
    assert_eq!(again.interpreter.unwrap().digest, digest("\x7fELF evil"));
    assert_eq!(write_now(&good).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(!program.holds(), "the chain holds as long as each of its files does");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_turned_all_the_time_never_parts_name_and_content() {
    let scene = Scene::new();
    let files = ["a", "b"].map(|name| scene.file(name, name));
    let (link, next) = (scene.root.join("link"), scene.root.join("next"));
    symlink(&files[0], &link).unwrap();
    let (stop, turned) = (Arc::new(AtomicBool::new(false)), link.clone());
    let stopped = Arc::clone(&stop);
    let turning = std::thread::spawn(move || {
        for file in files.iter().cycle().take_while(|_| !stopped.load(Ordering::SeqCst)) {
            symlink(file, &next).unwrap();
            fs::rename(&next, &turned).unwrap();
        }
    });
    let (mut seen, mut parted) = ([0; 2], 0);
    // The control: whoever asks for the name twice is told two files now and then.
    while seen.iter().any(|times| *times < 1_000) || parted == 0 {
        let before = fs::read_link(&link).unwrap();
        let program = scene.open(&link).unwrap();
        let name = program.real.as_path().file_name().unwrap().to_str().unwrap();
        assert_eq!((program.digest, content(&program).as_str()), (digest(name), name));
        seen[usize::from(name == "b")] += 1;
        parted += usize::from(before != program.real.as_path());
    }
    stop.store(true, Ordering::SeqCst);
    turning.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_computed_once_as_long_as_the_lease_is_held() {
    let scene = Scene::remembering(2);
    let paths = ["a", "b", "c"].map(|name| scene.file(name, name));
    for _ in 0..3 {
        let program = scene.open(&paths[0]).unwrap();
        assert_eq!((program.digest, scene.programs.remembered()), (digest("a"), 1));
    }
    assert_eq!(scene.leases.taken.load(Ordering::SeqCst), 1, "it was read once");
    scene.open(&paths[1]).unwrap();
    scene.open(&paths[0]).unwrap();
    scene.open(&paths[2]).unwrap();
    assert_eq!(scene.programs.remembered(), 2);
    // `b` was used longest ago: it was let go, so it can be written to without anybody waiting.
    write_now(&paths[1]).unwrap();
    assert_eq!(write_now(&paths[0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    scene.remembers(1).await;
    write_now(&paths[0]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_do_not_share_an_offset() {
    let scene = Scene::new();
    let path = scene.file("program", "good");
    let (one, two) = (scene.open(&path).unwrap(), scene.open(&path).unwrap());
    assert_ne!(one.file.as_raw_fd(), two.file.as_raw_fd());
    File::from(one.file).seek(io::SeekFrom::Start(2)).unwrap();
    assert_eq!(File::from(two.file).stream_position().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_program_is_refused() {
    let scene = Scene::new();
    let fifo = scene.root.join("fifo");
    rustix::fs::mknodat(
        CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for path in [&fifo, &scene.root] {
        let error = scene.open(path).unwrap_err();
        assert!(matches!(error, ProgramError::NotRegular(_)), "{error}");
    }
    let refused = |head: &str| scene.open(&scene.file("script", head)).unwrap_err();
    assert!(matches!(refused("#!\n"), ProgramError::NoInterpreter(_)));
    assert!(matches!(refused("#!sh\n"), ProgramError::BadInterpreter { .. }));
    assert!(matches!(refused("#!/nowhere/sh\n"), ProgramError::Interpreter { .. }));
    let absent = scene.open(&scene.root.join("absent")).unwrap_err();
    assert!(matches!(&absent, ProgramError::Open(error) if error.is_absent()), "{absent}");
}
