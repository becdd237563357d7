//! Times as people say them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds since the UNIX epoch, now.
pub fn now_ns() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}

/// `3s`, `5m`, `2h`, `4d`: one unit, rounded down.
pub fn span(ns: u64) -> String {
    match ns / NS_PER_S {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// `3s ago`.
pub fn ago(then_ns: u64, now_ns: u64) -> String {
    format!("{} ago", span(now_ns.saturating_sub(then_ns)))
}

/// `09:31:02` in the machine's time zone.
pub fn clock(ns: u64) -> String {
    let made = Timestamp::from_nanosecond(i128::from(ns));
    made.map(|t| t.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string())
        .unwrap_or_else(|_| ns.to_string())
}

/// `90s`, `10m`, `1h30m`, in nanoseconds.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let span: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no length of time: 30s, 10m, 2h"))?;
    u64::try_from(span.as_nanos()).map_err(|_| format!("{text:?} lies in the past"))
}

/// `10m` (ago) or an RFC 3339 time, in nanoseconds since the UNIX epoch.
pub fn parse_since(text: &str, now_ns: u64) -> Result<u64, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(now_ns.saturating_sub(span));
    }
    let at: Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no time: 10m, 2h, or 2026-11-23T09:00:00Z"))?;
    Ok(u64::try_from(at.as_nanosecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let seconds = [0, 59, 60, 3599, 3600, 86_399, 86_400 * 3];
        let shown: Vec<String> = seconds.iter().map(|s| span(s * NS_PER_S)).collect();
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "23h", "3d"]);
        assert_eq!(ago(10 * NS_PER_S, 5 * NS_PER_S), "0s ago");
    }

    #[test]
    fn since_takes_spans_and_times() {
        let now = 1_795_424_400 * NS_PER_S;
        assert_eq!(parse_since("10m", now).unwrap(), now - 600 * NS_PER_S);
        assert_eq!(parse_since("2026-11-23T09:00:00Z", now).unwrap(), now);
        assert!(parse_since("yesterdayish", now).unwrap_err().contains("10m"));
    }
}
