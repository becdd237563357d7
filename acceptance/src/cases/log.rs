//! The log's files: copies of it, bytes that are not of it, and what the daemon says of damage.

use super::Case;
use crate::faulty_disk;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use api::Status;
use api::status::LogState;
use demo::agent::{Agent, Spec};
use demo::tamper;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "log.copies",
        promise: "copies that are made while the log is written raise no alarm, whatever is copied first",
        run: copies,
    },
    Case {
        name: "log.unreferenced",
        promise: "bytes that were hidden among the log's files are found and named",
        run: unreferenced,
    },
    Case {
        name: "log.damage",
        promise: "a log that was damaged keeps nobody from working, and is told by daemon and doctor until it is whole",
        run: damage,
    },
];

/// Exit status of `coconut audit verify` for a log that was changed.
const INTEGRITY: i32 = 6;

fn live() -> &'static Path {
    Path::new(api::audit::LOG_DIRECTORY)
}

/// An agent that is refused something again and again, each time a record under a checkpoint.
fn writer(world: &World) -> Result<Agent> {
    let secret = world.file("log-secret", "TOPSECRET")?;
    let words = format!("while :; do cat {secret} 2>/dev/null; done");
    let spec = Spec {
        name: world.ctx.unique("writer"),
        tenant: "maya".to_owned(),
        caps: ["fs.exec=@shell", "fs.read=@shell"].map(str::to_owned).into(),
        command: ["/usr/bin/dash", "-c", &words].map(str::to_owned).into(),
        ..Spec::default()
    };
    Agent::start(&world.ctx.coconut, spec)
}

/// Copies some of the log's files; what is gone when its turn comes is passed over.
fn copy_of(names: &[&str], to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for name in names {
        let (from, target) = (live().join(name), to.join(name));
        match from.is_dir() {
            true => tamper::copy(&from, &target)?,
            false => drop(std::fs::copy(&from, &target)),
        }
    }
    Ok(())
}

fn copies(world: &World) -> Result<String> {
    let writers = [writer(world)?, writer(world)?];
    world.until("records of theirs", || {
        // Not before it is known.
        let records = world.ctx.coconut.records(&["--agent", &writers[1].name]);
        Ok(records.is_ok_and(|records| records.len() > 20))
    })?;
    let (tiles, heads) = (["tile", "state", "log.vkey"], ["checkpoint", "checkpoints"]);
    let (mut incomplete, mut alarms) = (0, 0);
    for round in 0..12 {
        let to = world.ctx.work.join(format!("copy-{round}"));
        let pause = || std::thread::sleep(Duration::from_millis(500));
        match round % 3 {
            0 => tamper::copy(live(), &to)?,
            1 => {
                copy_of(&tiles, &to)?;
                pause();
                copy_of(&heads, &to)?;
            }
            _ => {
                copy_of(&heads, &to)?;
                pause();
                copy_of(&tiles, &to)?;
            }
        }
        let ran = demo::audit::verify(&world.ctx, &to, &[])?;
        ensure!(ran.code == 0, "copy {round}: {} {}", ran.summary(), ran.stdout);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout)?;
        let missing = report["incomplete"].as_u64().context("`incomplete`")?;
        incomplete += u64::from(missing > 0);
        // The control: without the earlier checkpoints beside it, the same copy is an alarm.
        std::fs::remove_file(to.join("checkpoints"))?;
        let bare = demo::audit::verify(&world.ctx, &to, &[])?;
        alarms += u64::from(bare.code == INTEGRITY);
        ensure!(missing == 0 || bare.code == INTEGRITY, "copy {round}: {}", bare.summary());
    }
    ensure!(incomplete > 0, "no copy was made while the log was written");
    for agent in &writers {
        world.expect(0, &["kill", &agent.name])?;
    }
    Ok(format!("(12 copies, {incomplete} incomplete; {alarms} alarms without)"))
}

fn unreferenced(world: &World) -> Result<String> {
    grown(world)?;
    let kept = demo::audit::Kept::take(&world.ctx, "hidden")?;
    let bundle = first_bundle(&kept.log)?;
    type Hide<'a> = &'a dyn Fn(&Path) -> Result<()>;
    let hide: [(&str, Hide<'_>); 3] = [
        ("behind a bundle's last leaf", &|log| {
            let path = log.join(&bundle);
            let bytes = [std::fs::read(&path)?, b"hidden".to_vec()].concat();
            Ok(std::fs::write(path, bytes)?)
        }),
        ("a file among the bundles", &|log| {
            Ok(std::fs::write(log.join("tile/entries/hidden"), "hidden")?)
        }),
        ("a file among the states", &|log| {
            std::fs::create_dir_all(log.join("state"))?;
            Ok(std::fs::write(log.join("state/hidden"), "hidden")?)
        }),
    ];
    for (at, (what, hide)) in hide.into_iter().enumerate() {
        let log = world.ctx.work.join(format!("hidden-{at}"));
        tamper::copy(&kept.log, &log)?;
        ensure!(demo::audit::verify(&world.ctx, &log, &[])?.code == 0, "the copy is not sound");
        hide(&log)?;
        let ran = demo::audit::verify(&world.ctx, &log, &[])?;
        ensure!(ran.code == INTEGRITY, "{what}: {}", ran.summary());
        let report: serde_json::Value = serde_json::from_str(&ran.stdout)?;
        ensure!(report["violation"]["kind"] == "unreferenced", "{what}: {}", report["violation"]);
    }
    Ok(String::new())
}

/// The log's oldest full bundle, below its directory.
fn first_bundle(log: &Path) -> Result<PathBuf> {
    let folder = log.join("tile/entries");
    let names = std::fs::read_dir(&folder)?.map(|item| Ok(item?.file_name()));
    let mut names: Vec<_> = names.collect::<std::io::Result<_>>()?;
    names.retain(|name| name.len() == 3);
    let oldest = names.into_iter().min().context("the log has no full bundle yet")?;
    Ok(Path::new("tile/entries").join(oldest))
}

/// Starts another daemon; what it found in the log.
fn checked(world: &World) -> Result<Status> {
    super::restart::again(world)?;
    let mut status = None;
    world.until("the log to be verified", || {
        let now = world.status()?;
        let done = now.log_check.state != LogState::Running;
        status = done.then_some(now);
        Ok(done)
    })?;
    status.context("a status")
}

/// The log has a bundle that does not change any more.
fn grown(world: &World) -> Result<()> {
    if first_bundle(live()).is_ok() {
        return Ok(());
    }
    let agent = writer(world)?;
    world.until("a full bundle", || Ok(first_bundle(live()).is_ok()))?;
    world.expect(0, &["kill", &agent.name]).map(drop)
}

fn damage(world: &World) -> Result<String> {
    grown(world)?;
    let path = live().join(first_bundle(live())?);
    // Nobody may write to it: its disk goes wrong, in the middle of a record.
    faulty_disk::flip(&path, 40)?;
    let found = checked(world);
    let words = ["run", "--tenant", "maya", "--cap", "fs.read=@shell", "--", "/usr/bin/true"];
    let working = world.expect(0, &words);
    let doctor = world.call(&["doctor"]);
    faulty_disk::flip(&path, 40)?;
    let status = found?;
    ensure!(status.log_check.state == LogState::Violated, "{:?}", status.log_check);
    working.context("an agent beside a damaged log")?;
    let doctor = doctor?;
    ensure!(doctor.stdout.contains("VIOLATED"), "doctor: {}", doctor.stdout);
    let degraded = world.ctx.coconut.records(&["--kind", "degraded"])?;
    let told = |record: &api::audit::Record| record.detail.contains("tile/entries/");
    ensure!(degraded.iter().any(told), "{:?} is not on record: {degraded:?}", status.log_check);
    let status = checked(world)?;
    ensure!(status.log_check.state == LogState::Sound, "{:?}", status.log_check);
    world.expect(0, &["audit", "verify"])?;
    Ok(format!("({} leaves)", status.log_check.leaves))
}
