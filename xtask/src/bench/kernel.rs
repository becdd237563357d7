//! What `acceptance/kernel/run bench` prints, as JSON.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The figures of a run that has come to its end.
pub fn parse(output: &str) -> Result<Value> {
    let ended = output.lines().find_map(|line| line.strip_prefix("status "));
    ensure!(ended == Some("0"), "the measurement in the guest broke off");
    let (mut operations, mut latencies) = (Vec::new(), Vec::new());
    for line in output.lines().filter_map(|line| line.strip_prefix("BENCH ")) {
        if line.starts_with("unit:") {
            continue;
        }
        let parsed = match line.contains(" bare ") {
            true => operation(line).map(|figures| operations.push(figures)),
            false => latency(line).map(|figures| latencies.push(figures)),
        };
        parsed.with_context(|| format!("this line is not understood: {line}"))?;
    }
    ensure!(!operations.is_empty(), "no figures in the output");
    Ok(json!({
        "schema": "coconut.bench-kernel/1",
        "unit": "guest instructions",
        "operations": operations,
        "latencies": latencies,
    }))
}

/// `NAME bare N Landlock N (N.NNx) non-agent N (N.NNx) agent N (N.NNx)`; the ratios follow from the counts.
fn operation(line: &str) -> Option<Value> {
    let (name, rest) = line.split_once(" bare ")?;
    let (bare, rest) = rest.split_once(" Landlock ")?;
    let (landlock, rest) = rest.split_once(" non-agent ")?;
    let (non_agent, agent) = rest.split_once(" agent ")?;
    let count = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
    Some(json!({
        "name": name.trim(),
        "bare": count(bare)?,
        "landlock": count(landlock)?,
        "non_agent": count(non_agent)?,
        "agent": count(agent)?,
    }))
}

/// `NAME, us: min N median N max N`. The guest's clock advances a nanosecond an instruction.
fn latency(line: &str) -> Option<Value> {
    let (name, figures) = line.split_once(", us:")?;
    let words: Vec<&str> = figures.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|w| *w == word)?;
        let microseconds: f64 = words.get(at + 1)?.parse().ok()?;
        Some((microseconds * 1000.0).round() as u64)
    };
    Some(json!({
        "name": name.trim(),
        "min": after("min")?,
        "median": after("median")?,
        "max": after("max")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    const OUTPUT: &str = "\
        noise of the kernel\n\
        BENCH unit: guest instructions per operation (median of 5)\n\
        BENCH open+close, 1 level    bare      1200  Landlock      1500 (1.25x)  non-agent      1320 (1.10x)  \
        agent      2400 (2.00x)\n\
        BENCH revocation to first refused read, us: min 10.5 median 12.0 max 40.1\n\
        status 0\n";

    #[test]
    fn lines_become_figures() {
        let figures = parse(OUTPUT).unwrap();
        let open = &figures["operations"][0];
        assert_eq!(open["name"], "open+close, 1 level");
        assert_eq!((&open["bare"], &open["agent"]), (&1200.into(), &2400.into()));
        assert_eq!((&open["landlock"], &open["non_agent"]), (&1500.into(), &1320.into()));
        let revocation = &figures["latencies"][0];
        assert_eq!(revocation["name"], "revocation to first refused read");
        assert_eq!((&revocation["min"], &revocation["max"]), (&10_500.into(), &40_100.into()));
    }

    #[test]
    fn a_run_that_breaks_off_is_an_error() {
        assert!(parse(&OUTPUT.replace("status 0\n", "")).is_err());
        assert!(parse(&OUTPUT.replace("status 0", "status 1")).is_err());
        assert!(parse("status 0\n").is_err());
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let error = parse(&OUTPUT.replace("bare      1200", "bare      many")).unwrap_err();
        assert!(error.to_string().contains("many"));
    }
}
