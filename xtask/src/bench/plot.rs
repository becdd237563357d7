//! The plot of `./x bench scale`: SVG by hand, in black and grey, told apart by marks and dashes.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;

const WIDTH: f64 = 780.0;
/// Of one panel, with what belongs to it.
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
/// Room for the lines' names.
const RIGHT: f64 = 210.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 40.0;
/// Least distance of two lines' names.
const LINE: f64 = 15.0;

/// How a line and its marks look.
struct Look {
    dashes: &'static str,
    mark: fn(f64, f64) -> String,
}

const LOOKS: [Look; 3] = [
    Look { dashes: "", mark: |x, y| format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#) },
    Look {
        dashes: "7 4",
        mark: |x, y| {
            let (x, y) = (x - 3.5, y - 3.5);
            format!(
                r#"<rect x="{x:.1}" y="{y:.1}" width="7" height="7" fill="white" stroke="black"/>"#
            )
        },
    },
    Look {
        dashes: "2 3",
        mark: |x, y| {
            let (top, low) = (y - 4.5, y + 3.5);
            let (left, right) = (x - 4.5, x + 4.5);
            format!(
                r#"<path d="M{x:.1} {top:.1} L{right:.1} {low:.1} L{left:.1} {low:.1} Z" fill="grey"/>"#
            )
        },
    },
];

/// One line: its name, its points.
type Line = (String, Vec<(f64, f64)>);

/// A panel: what its vertical axis says, and the lines.
struct Panel {
    title: String,
    lines: Vec<Line>,
}

/// Two panels over the number of agents: what a spawn takes, and what an agent holds.
pub fn scale(figures: &Value) -> Result<String> {
    let points: &[Value] = figures["checkpoints"].as_array().map_or(&[], Vec::as_slice);
    ensure!(!points.is_empty(), "there is nothing to plot: not one checkpoint");
    let line = |name: &str, value: &dyn Fn(&Value) -> f64| -> Line {
        let at = |point: &Value| (point["agents"].as_f64().unwrap_or(0.0), value(point));
        (name.to_owned(), points.iter().map(at).filter(|(_, y)| y.is_finite()).collect())
    };
    let of = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let first = of(&points[0]["memory"]["daemon"]) - of(&figures["daemon_kib"]);
    ensure!(first.is_finite(), "the figures do not say what coconutd holds");
    let daemon =
        |p: &Value| (of(&p["memory"]["daemon"]) - of(&figures["daemon_kib"])) / of(&p["agents"]);
    let process = process_kib(figures);
    let panels = [
        Panel {
            title: "Spawn: request to Active, ms".to_owned(),
            lines: vec![
                line("p50", &|p| of(&p["spawn"]["p50_ms"])),
                line("p99", &|p| of(&p["spawn"]["p99_ms"])),
            ],
        },
        Panel {
            title: "Memory of each agent, KiB".to_owned(),
            lines: vec![
                line("beyond a bare process", &|p| of(&p["kib_each"]) - process),
                line("with its process", &|p| of(&p["kib_each"])),
                line("coconutd's part", &daemon),
            ],
        },
    ];
    let most = points.iter().map(|p| of(&p["agents"])).fold(0.0, f64::max);
    Ok(document(&panels, most))
}

fn document(panels: &[Panel], most: f64) -> String {
    let height = HEIGHT * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (n, panel) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0 {})\">", HEIGHT * n as f64);
        draw(&mut svg, panel, most);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Writing to a text cannot fail.
fn draw(svg: &mut String, panel: &Panel, most: f64) {
    let (low_y, high_y, step_y) = range(panel);
    let step_x = step(most);
    let x = |agents: f64| LEFT + agents / most * (WIDTH - LEFT - RIGHT);
    let y =
        |value: f64| HEIGHT - BOTTOM - (value - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM);
    let title = escaped(&panel.title);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"30\" font-size=\"15\" font-weight=\"bold\">{title}</text>"
    );
    for tick in ticks(low_y, high_y, step_y) {
        let (at, right) = (y(tick), WIDTH - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1} H{right}\" stroke=\"#ccc\"/>");
        let (text, low) = (grouped(tick), at + 4.5);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{low:.1}\" text-anchor=\"end\">{text}</text>",
            LEFT - 8.0
        );
    }
    for tick in ticks(0.0, most, step_x) {
        let (at, low) = (x(tick), HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {low} v5\" stroke=\"black\"/>");
        let text = grouped(tick);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            low + 19.0
        );
    }
    let (low, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let _ =
        writeln!(svg, "<path d=\"M{LEFT} {TOP} V{low} H{right}\" fill=\"none\" stroke=\"black\"/>");
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">agents</text>", right + 34.0, low + 19.0);
    curves(svg, &panel.lines, x, y);
}

/// The vertical axis: from nothing, or lower where a figure is, to a round number above all.
fn range(panel: &Panel) -> (f64, f64, f64) {
    let values = || panel.lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y);
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    let step = step(high - low);
    ((low / step).floor() * step, (high / step).ceil().max(1.0) * step, step)
}

fn curves(svg: &mut String, lines: &[Line], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let mut names: Vec<(f64, &str, f64)> = Vec::new();
    for ((name, points), look) in lines.iter().zip(&LOOKS) {
        let path: Vec<String> =
            points.iter().map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1))).collect();
        let (path, dashes) = (path.join(" L"), look.dashes);
        let _ = writeln!(
            svg,
            "<path d=\"M{path}\" fill=\"none\" stroke=\"black\" stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"/>"
        );
        for point in points {
            let _ = writeln!(svg, "{}", (look.mark)(x(point.0), y(point.1)));
        }
        if let Some(last) = points.last() {
            names.push((y(last.1), name, last.1));
        }
    }
    // From the top, each at least a line below the one before.
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0_f64;
    for (at, name, value) in names {
        let at = at.max(free);
        free = at + LINE;
        let (left, low, name, value) =
            (WIDTH - RIGHT + 10.0, at + 4.5, escaped(name), grouped(value));
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"{low:.1}\">{name}: {value}</text>");
    }
}

/// 1, 2 or 5 of a power of ten, so that there are about five.
fn step(most: f64) -> f64 {
    let raw = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| raw <= f * power);
    factor.unwrap_or(10.0) * power
}

fn ticks(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let many = ((high - low) / step + 1e-9).floor() as u32;
    (0..=many).map(move |n| low + f64::from(n) * step)
}

/// A figure as people read it: whole from ten on.
fn grouped(value: f64) -> String {
    let small = value != value.round() && value.abs() < 10.0;
    if small { format!("{value:.1}") } else { super::table::grouped(value) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// KiB of the same program alone.
pub fn process_kib(figures: &Value) -> f64 {
    figures["beside"][0]["kib_each"].as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures(points: &[(u32, f64)]) -> Value {
        let point = |(agents, ms): &(u32, f64)| {
            json!({"agents": agents, "kib_each": 500.0, "spawn": {"p50_ms": ms, "p99_ms": ms * 3.0},
                   "memory": {"daemon": 30_000}})
        };
        let points: Vec<Value> = points.iter().map(point).collect();
        json!({"checkpoints": points, "daemon_kib": 20_000, "beside": [{"kib_each": 450.0}]})
    }

    #[test]
    fn every_line_is_named_with_its_last_value() {
        let svg = scale(&figures(&[(100, 60.0), (200, 75.0)])).unwrap();
        for text in ["p50: 75", "p99: 225", "beyond a bare process: 50", "coconutd's part: 50"] {
            assert!(svg.contains(&format!(">{text}<")), "no {text} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        // With 200 agents both figures are 50.
        let svg = scale(&figures(&[(100, 60.0), (200, 75.0)])).unwrap();
        let height = |name: &str| -> f64 {
            let before = svg.split(&format!("\">{name}: ")).next().unwrap();
            before.rsplit("y=\"").next().unwrap().parse().unwrap()
        };
        assert!((height("coconutd's part") - height("beyond a bare process")).abs() >= LINE - 0.1);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([7.0, 250.0, 10_000.0, 90.0].map(step), [2.0, 50.0, 2000.0, 20.0]);
        assert_eq!(ticks(-5.0, 6.0, 5.0).collect::<Vec<_>>(), [-5.0, 0.0, 5.0]);
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(scale(&json!({"checkpoints": []})).is_err());
    }
}
