//! The figures of all parts as tables for people.

use super::scale;
use super::table::{Table, grouped};
use anyhow::Result;
use serde_json::Value;
use std::fs;

/// The tables of each part, in order; a part that failed says so.
pub fn tables(results: &[(&str, Result<Value>)]) -> Vec<Table> {
    results
        .iter()
        .flat_map(|(name, result)| match (*name, result) {
            ("kernel", Ok(figures)) => kernel(figures),
            ("audit", Ok(figures)) => vec![audit(figures)],
            ("vm", Ok(figures)) => vm(figures),
            ("broker", Ok(figures)) => broker(figures),
            ("scale", Ok(figures)) => scale::tables(figures),
            (name, Ok(_)) => vec![Table::new(name, &[])],
            (name, Err(error)) => vec![failed(name, error)],
        })
        .collect()
}

/// What a part checked beside its figures held; most check nothing.
pub fn holds(figures: &Value) -> bool {
    list(&figures["checks"]).iter().all(|check| check["ok"] == true)
}

/// On what this was measured.
pub fn machine(quick: bool) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    let quick = if quick { "; --quick" } else { "" };
    format!("{cpus} × {model}; load average at the end {load}{quick}")
}

fn failed(name: &str, error: &anyhow::Error) -> Table {
    let mut table = Table::new(&format!("{name}: not measured"), &[]);
    // The rest is the tail of a log, which has been shown already.
    table.notes.extend(format!("{error:#}").lines().take(1).map(str::to_owned));
    table
}

fn kernel(figures: &Value) -> Vec<Table> {
    let heads =
        ["kernel: guest instructions", "bare", "Landlock", "×", "non-agent", "×", "agent", "×"];
    let mut operations = Table::new("What the policy costs an operation", &heads);
    for row in list(&figures["operations"]) {
        let bare = number(&row["bare"]);
        let mut cells = vec![text(&row["name"]), grouped(bare)];
        for role in ["landlock", "non_agent", "agent"] {
            let count = number(&row[role]);
            cells.extend([grouped(count), format!("{:.2}", count / bare)]);
        }
        operations.rows.push(cells);
    }
    let heads = ["kernel: guest instructions", "min", "median", "max"];
    let mut latencies = Table::new("What a revocation and a launch cost", &heads);
    for row in list(&figures["latencies"]) {
        let cell = |name: &str| grouped(number(&row[name]));
        latencies.rows.push(vec![text(&row["name"]), cell("min"), cell("median"), cell("max")]);
    }
    vec![operations, latencies]
}

fn audit(figures: &Value) -> Table {
    let heads = ["audit: records/s, one core", "written", "checked", "bytes each"];
    let mut table = Table::new("What the sealed log costs", &heads);
    let mut row = |name: &str, keys: [&str; 3]| {
        let cells = keys.iter().map(|key| match figures[*key].as_f64() {
            Some(figure) => grouped(figure),
            None => "–".to_owned(),
        });
        table.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    };
    row(
        "plain lines of JSON, read and hashed",
        ["plain_append_per_second", "plain_hash_per_second", "plain_bytes_per_record"],
    );
    row(
        "the log alone: chained, in the tree, signed",
        ["append_per_second", "verify_per_second", "bytes_per_record"],
    );
    row(
        "the whole way: from the kernel's event",
        ["path_per_core_second", "", "path_bytes_per_record"],
    );
    table
}

fn vm(figures: &Value) -> Vec<Table> {
    let mut tables = Vec::new();
    for (key, title) in [
        ("spawn", "A process in its box"),
        ("burst", "Fifty at once"),
        ("revocation", "A revocation"),
    ] {
        let name = format!("vm: {key}, ms");
        let mut table = Table::new(title, &[&name, "runs", "p50", "p99", "max", "ratio"]);
        for row in list(&figures[key]) {
            let cell = |name: &str| format!("{:.2}", number(&row[name]));
            let ratio = row["ratio"].as_f64().map_or("–".to_owned(), |r| format!("{r:.2}"));
            let runs = grouped(number(&row["runs"]));
            let times = [cell("p50_ms"), cell("p99_ms"), cell("max_ms")];
            let cells = [text(&row["name"]), runs].into_iter().chain(times).chain([ratio]);
            table.rows.push(cells.collect());
        }
        tables.push(table);
    }
    let mut beside = Table::new("One median over the other", &["vm: this / that", "ratio", "goal"]);
    for row in list(&figures["ratios"]) {
        let goal = row["goal"].as_f64().map_or("–".to_owned(), |goal| format!("≤ {goal:.2}"));
        let ratio = format!("{:.2}", number(&row["value"]));
        beside.rows.push(vec![text(&row["name"]), ratio, goal]);
    }
    tables.push(beside);
    let boot = |key: &str| number(&figures["boot"][key]);
    let notes = format!(
        "boot: the daemon began {:.1} s after the kernel, the first agent had ended after {:.1} s",
        boot("daemon_ready_s"),
        boot("first_agent_s")
    );
    if let Some(last) = tables.last_mut() {
        last.notes.push(notes);
        last.notes.extend(missing(figures));
    }
    tables
}

fn broker(figures: &Value) -> Vec<Table> {
    let mut tables = Vec::new();
    if !list(&figures["overhead"]).is_empty() {
        tables.push(overhead(figures));
    }
    tables.extend(list(&figures["scenarios"]).iter().map(scenario));
    if let Some(last) = tables.last_mut() {
        let (warmup, window) = (number(&figures["warmup_s"]), number(&figures["window_s"]));
        last.notes.push(format!("load on each server: {window} s, after {warmup} s uncounted"));
        last.notes.extend(missing(figures));
    }
    tables
}

fn overhead(figures: &Value) -> Table {
    let heads = ["broker: overhead", "p50 ms", "added ms", "requests/s", "MiB"];
    let mut table = Table::new("What stands before an engine that answers at once", &heads);
    for row in list(&figures["overhead"]) {
        table.rows.push(vec![
            text(&row["server"]),
            format!("{:.3}", number(&row["p50_ms"])),
            format!("{:.3}", number(&row["added_ms"])),
            grouped(number(&row["requests_per_second"])),
            row["memory_mib"].as_f64().map_or("–".to_owned(), grouped),
        ]);
    }
    table.notes.push("p50: one request after another; requests/s: 32 at once".to_owned());
    table
}

/// Where somebody is quiet, what the quiet ones see; else how evenly the tokens were shared.
fn scenario(scenario: &Value) -> Table {
    let rows = list(&scenario["rows"]);
    let name = format!("broker: {}", text(&scenario["name"]));
    if rows.iter().any(|row| row["jain"].is_number()) {
        let mut table = Table::new("All tenants backlogged", &[&name, "Jain", "tok/s"]);
        for row in rows {
            let jain = format!("{:.3}", number(&row["jain"]));
            let tokens = grouped(number(&row["phase"]["tokens_per_second"]));
            table.rows.push(vec![text(&row["server"]), jain, tokens]);
        }
        return table;
    }
    let heads = [&name, "p50 ms", "p99 ms", "answered", "tok/s"];
    let mut table = Table::new("Time to first token of quiet tenants", &heads);
    for row in rows {
        let phase = &row["phase"];
        let ms = |key: &str| phase["quiet"][key].as_f64().map_or("–".to_owned(), grouped);
        let quiet = list(&phase["tenants"]).iter().filter(|t| t["tenant"] != "flood");
        let (sent, answered) = quiet.fold((0.0, 0.0), |(sent, answered), tenant| {
            (sent + number(&tenant["sent"]), answered + number(&tenant["answered"]))
        });
        table.rows.push(vec![
            text(&row["server"]),
            ms("p50_ms"),
            ms("p99_ms"),
            format!("{answered} of {sent}"),
            grouped(number(&phase["tokens_per_second"])),
        ]);
    }
    table
}

fn missing(figures: &Value) -> Vec<String> {
    let words = |item: &Value| text(item).split_whitespace().collect::<Vec<_>>().join(" ");
    list(&figures["missing"]).iter().map(|m| format!("not measured: {}", words(m))).collect()
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
    use super::*;
    use serde_json::json;

    fn one(name: &str, figures: Value) -> String {
        let tables = tables(&[(name, Ok(figures))]);
        tables.iter().map(Table::text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn kernel_rows_have_ratios() {
        let row = json!({"name": "open", "bare": 1000, "landlock": 1200, "non_agent": 1100, "agent": 2500});
        let text = one("kernel", json!({"operations": [row], "latencies": []}));
        let row = text.lines().find(|line| line.starts_with("open")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["open", "1,000", "1,200", "1.20", "1,100", "1.10", "2,500", "2.50"]);
    }

    #[test]
    fn quiet_requests_are_counted_without_the_flood() {
        let tenants = json!([
            {"tenant": "quiet0", "sent": 30, "answered": 29},
            {"tenant": "flood", "sent": 900, "answered": 300},
        ]);
        let quiet = json!({"p50_ms": 30.4, "p99_ms": 1200.0});
        let phase = json!({"quiet": quiet, "tenants": tenants, "tokens_per_second": 780.0});
        let row = json!({"server": "coconut-broker", "jain": null, "phase": phase});
        let scenarios = json!([{"name": "two tenants", "rows": [row]}]);
        let figures =
            json!({"overhead": [], "scenarios": scenarios, "missing": ["kvwarden: no\nnetwork"]});
        let text = one("broker", figures);
        assert!(text.contains("30   1,200  29 of 30    780"), "{text}");
        assert!(text.contains("not measured: kvwarden: no network"), "{text}");
    }

    #[test]
    fn a_part_that_failed_says_why() {
        let error = anyhow::anyhow!("no such kernel\nlong log");
        let tables = tables(&[("kernel", Err(error))]);
        assert_eq!(tables[0].text(), "kernel: not measured\n  no such kernel\n");
    }
}
