//! `./x bench scale`: agents by the thousand, in a VM of its own.

use super::table::{Table, grouped};
use super::{Bench, plot};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;

/// What a machine has on which ten thousand agents are to live.
const MEMORY_MIB: u32 = 6144;

/// With `--quick`.
const FEW: [&str; 4] = ["--agents", "250", "--children", "100"];

impl Bench<'_> {
    /// It has no limit of time: the program in the VM ends by itself where nothing moves on.
    pub(super) fn scale(&self) -> Result<()> {
        let command = ["/usr/libexec/coconut/coconut-bench-scale", "--out", "/mnt/out/scale.json"];
        let few: &[&str] = if self.quick { &FEW } else { &[] };
        let command = command.iter().chain(few).map(|word| (*word).to_owned());
        let command: Vec<String> = command.chain(self.more.iter().cloned()).collect();
        let (file, picture) = (self.json("scale"), self.out.join("scale.svg"));
        if picture.exists() {
            fs::remove_file(&picture)?;
        }
        let status = self.in_vm(&command, MEMORY_MIB)?;
        // Where something did not hold the figures are there all the same, and say what.
        ensure!(file.exists(), "the measurement in the VM ended with status {status}");
        let figures: Value = serde_json::from_slice(&fs::read(&file)?)?;
        fs::write(&picture, plot::scale(&figures)?)
            .with_context(|| format!("cannot write {}", picture.display()))?;
        self.ui.say(&format!("plot: {}", picture.display()));
        Ok(())
    }
}

/// For the summary.
pub fn tables(figures: &Value) -> Vec<Table> {
    let mut tables = vec![growth(figures), parts(figures), acts(figures)];
    if let Some(last) = tables.last_mut() {
        for check in list(&figures["checks"]) {
            let verdict = if check["ok"] == true { "holds" } else { "DOES NOT HOLD" };
            let (name, observed) = (text(&check["name"]), text(&check["observed"]));
            last.notes.push(format!("{verdict}: {name}: {observed}"));
        }
    }
    tables
}

fn growth(figures: &Value) -> Table {
    let heads =
        ["scale: agents", "seconds", "agents/s", "p50 ms", "p99 ms", "KiB", "beyond", "daemon MiB"];
    let mut table = Table::new("Agents that sleep", &heads);
    let process = plot::process_kib(figures);
    for point in list(&figures["checkpoints"]) {
        let kib = number(&point["kib_each"]);
        table.rows.push(vec![
            grouped(number(&point["agents"])),
            grouped(number(&point["seconds"])),
            format!("{:.1}", number(&point["per_second"])),
            grouped(number(&point["spawn"]["p50_ms"])),
            grouped(number(&point["spawn"]["p99_ms"])),
            format!("{kib:.0}"),
            format!("{:.0}", kib - process),
            format!("{:.1}", number(&point["memory"]["daemon"]) / 1024.0),
        ]);
    }
    table.notes.push(format!(
        "{} tenants, {} callers at once, {} MiB of memory; KiB: what each holds in kernel, coconutd and process; \
         beyond: without the {process:.0} KiB of a bare process",
        number(&figures["tenants"]),
        number(&figures["callers"]),
        grouped(number(&figures["memory_mib"])),
    ));
    table
}

/// One column for each way to run the program.
fn parts(figures: &Value) -> Table {
    let kinds: Vec<&Value> = list(&figures["beside"]).iter().chain([&figures["agent"]]).collect();
    let names: Vec<String> = kinds.iter().map(|kind| text(&kind["name"])).collect();
    let heads = std::iter::once("scale: KiB each").chain(names.iter().map(String::as_str));
    let mut table = Table::new("Where it goes", &heads.collect::<Vec<_>>());
    let row = |name: &str, of: &dyn Fn(&Value) -> f64| {
        let cells = kinds.iter().map(|kind| format!("{:.1}", of(kind)));
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    for (n, part) in list(&figures["agent"]["parts"]).iter().enumerate() {
        table.rows.push(row(&text(&part[0]), &|kind| number(&kind["parts"][n][1])));
    }
    table.rows.push(row("all of it", &|kind| number(&kind["kib_each"])));
    table.rows.push(row("(names and inodes)", &|kind| number(&kind["slab_reclaimable"])));
    let runs: Vec<String> = kinds.iter().map(|kind| grouped(number(&kind["runs"]))).collect();
    table.notes.push(format!(
        "of {} at once; names and inodes can be dropped and are not counted",
        runs.join(", ")
    ));
    let last = list(&figures["checkpoints"]).last().unwrap_or(&Value::Null);
    table.notes.push(format!(
        "kernel memory of coconutd's service (its maps): {} KiB before the first agent, {} with {}",
        grouped(number(&figures["service_kib"])),
        grouped(number(&last["memory"]["service"])),
        grouped(number(&last["agents"])),
    ));
    table
}

fn acts(figures: &Value) -> Table {
    let heads = ["scale: beside all these, ms", "runs", "p50", "p99", "max"];
    let mut table = Table::new("What is done among so many", &heads);
    for (key, name) in [
        ("list", "the list of all, over the API"),
        ("ps", "`coconut ps`"),
        ("restart", "a restart of coconutd, until it answers for all"),
        ("family", "a child's spawn, asked for by its parent"),
        ("exit", "one agent's end, to the answer"),
    ] {
        let row = &figures[key];
        if row.is_object() {
            let cell = |of: &str| format!("{:.1}", number(&row[of]));
            let runs = grouped(number(&row["runs"]));
            let cells = [name.to_owned(), runs, cell("p50_ms"), cell("p99_ms"), cell("max_ms")];
            table.rows.push(cells.into());
        }
    }
    let change = &figures["revocation"];
    if change.is_object() {
        table.notes.push(format!(
            "one revocation on a parent of {}: answered after {:.0} ms ({:.0} within coconutd), its last reader refused after {:.0}",
            grouped(number(&change["children"])),
            number(&change["took_ms"]),
            number(&change["daemon_ms"]),
            number(&change["refused_ms"]),
        ));
    }
    let (end, settled) = (&figures["end"], &figures["settled"]);
    table.notes.push(format!(
        "{} agents ended in {:.0} s, settled after {:.0}; then {} KiB more are held than before the first, \
         {} of them by coconutd",
        grouped(number(&end["agents"])),
        number(&end["answered_s"]),
        number(&settled["seconds"]),
        grouped(number(&settled["kib_more"])),
        grouped(number(&settled["daemon_kib"][1]) - number(&settled["daemon_kib"][0])),
    ));
    table
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::super::summary;
    use super::*;
    use serde_json::json;

    fn figures(gone: bool) -> Value {
        let timing = json!({"runs": 5, "p50_ms": 1234.5, "p99_ms": 5000.0, "max_ms": 5000.0});
        let kind = |name: &str, kib: f64| {
            json!({"name": name, "runs": 500, "kib_each": kib, "slab_reclaimable": 1.0,
                   "parts": [["pages of processes", 100.0], ["other pages", kib - 100.0]]})
        };
        let point = json!({"agents": 10_000, "seconds": 1100.0, "per_second": 9.1, "spawn": timing,
                           "kib_each": 250.4, "memory": {"daemon": 102_400, "service": 9000}});
        json!({
            "agents": 10_000, "tenants": 100, "callers": 4, "memory_mib": 5925, "service_kib": 8000,
            "beside": [kind("a process", 190.0), kind("in its own cgroup", 210.0), kind("in bwrap", 800.0)],
            "agent": kind("an agent", 250.4), "checkpoints": [point],
            "list": timing, "ps": timing, "family": timing, "exit": timing, "revocation": null,
            "end": {"agents": 11_001, "answered_s": 300.0},
            "settled": {"seconds": 301.0, "kib_more": 4096, "daemon_kib": [20_000, 24_000]},
            "checks": [{"name": "nothing is left", "ok": gone, "observed": "1 agent"}],
        })
    }

    #[test]
    fn what_is_beyond_the_process_is_told() {
        let text = growth(&figures(true)).text();
        let row = text.lines().find(|line| line.starts_with("10,000")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["10,000", "1,100", "9.1", "1,234", "5,000", "250", "60", "100.0"]);
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        for table in tables(&figures(true)) {
            let text = table.text();
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }

    #[test]
    fn what_is_left_behind_fails_the_run_and_is_named() {
        assert!(summary::holds(&figures(true)));
        assert!(!summary::holds(&figures(false)));
        let text: String = tables(&figures(false)).iter().map(Table::text).collect();
        assert!(text.contains("DOES NOT HOLD: nothing is left: 1 agent"), "{text}");
    }
}
