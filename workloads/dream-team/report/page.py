"""The report as one HTML file: no network, no script, light and dark, screen and paper."""

from html import escape

from report import sections
from report.facts import plural
from report.sections import Code
from report.svg import DARK, STYLE

CSS = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2227;--soft:#59636c;--rule:#e2e6ea;--panel:#f6f8f9;--accent:#0b6e69;
--warn:#a8470f;--gold:#8a6100;--model:#f0f1f2;--model-rule:#b9c0c6}
@media (prefers-color-scheme:dark){:root{--page:#14181b;--ink:#e6e9ec;--soft:#a3acb5;--rule:#2c3339;--panel:#1b2025;
--accent:#4cc4b6;--warn:#f0955f;--gold:#e0b45a;--model:#22272c;--model-rule:#4a535b}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header>div,footer{max-width:960px;margin:0 auto;padding:0 24px}
header{background:var(--panel);border-bottom:1px solid var(--rule);padding:44px 0 26px}
h1{font-size:2.1rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em;overflow-wrap:anywhere}
.lead{color:var(--soft);margin:0 0 26px;max-width:66ch}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:0;padding:0}
.card{background:var(--page);border:1px solid var(--rule);border-radius:10px;padding:12px 16px 11px}
.card dt{color:var(--soft);font-size:.86rem}.card dd{margin:0}
.card .value{font-size:1.75rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.card .remark{color:var(--soft);font-size:.82rem}.card.concern .value,.card.concern .remark{color:var(--warn)}
nav{padding-top:20px;font-size:.9rem}nav a{display:inline-block;margin:0 14px 4px 0}
a{color:var(--accent);text-decoration:none}a:hover,a:focus{text-decoration:underline}
section{margin:46px 0 0;scroll-margin-top:16px}
h2{font-size:1.35rem;margin:0 0 8px;letter-spacing:-.005em}section>p{margin:0 0 8px;max-width:72ch}
figure{margin:18px 0 6px;overflow-x:auto}figure svg{display:block;width:100%;min-width:620px;height:auto}
figcaption,.by{color:var(--soft);font-size:.82rem;margin-top:8px}
.table{overflow-x:auto;margin-top:18px}table{border-collapse:collapse;width:100%;font-size:.88rem}
caption,summary{text-align:left;font-weight:600;padding:0 0 6px}summary{cursor:pointer;margin-top:18px;color:var(--accent)}
details .table{margin-top:2px}details caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{text-align:left;vertical-align:top;padding:6px 14px 6px 0;border-bottom:1px solid var(--rule)}
th{font-weight:600;color:var(--soft);white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th.n,td.n{padding-right:16px}tr>:last-child{padding-right:0}
.team td:first-child code{white-space:nowrap}code{font:.86em ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere}
.high{color:var(--warn);font-weight:650}.medium{color:var(--gold);font-weight:600}.low{color:var(--soft)}
.words{display:grid;grid-template-columns:repeat(2,1fr);gap:12px;margin-top:16px}
.model{background:var(--model);border:1px dashed var(--model-rule);border-radius:8px;padding:10px 14px;font-size:.88rem;break-inside:avoid}
.model .label{color:var(--soft);font-size:.76rem;margin:0 0 4px}.model .asked{margin:0 0 4px;color:var(--soft)}
.model blockquote{margin:0;font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.84em;overflow-wrap:anywhere}
.notice{border-left:4px solid var(--warn);background:var(--panel);padding:10px 16px;margin:0 0 18px}
footer{color:var(--soft);font-size:.82rem;margin-top:56px;padding-top:16px;padding-bottom:48px;border-top:1px solid var(--rule)}
@media (max-width:760px){.cards,.words{grid-template-columns:repeat(2,1fr)}.words{grid-template-columns:1fr}h1{font-size:1.6rem}}
@media print{:root{color-scheme:light;--page:#fff;--ink:#000;--soft:#444;--rule:#ccc;--panel:#fff;--accent:#0b6e69;--warn:#8a3a0c;
--gold:#6b4b00;--model:#f3f3f3;--model-rule:#999}body{font-size:10.5pt}nav{display:none}section{margin-top:26px}
figure,tr,.card{break-inside:avoid}h2{break-after:avoid}header{padding-top:0}}
"""


def render(facts, parts, pictures):
    """The whole page."""
    team = facts.team
    title = f"Review of {team['name']}"
    body = "".join(section(facts, part, pictures) for part in parts)
    links = [(p.key, p.heading) for p in parts] + [("words", "What the model said"), ("team", "The team")]
    nav = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in links)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{STYLE}@media screen and (prefers-color-scheme:dark){{{DARK}}}</style></head><body>"
        f"<header><div><h1>{escape(title)}</h1><p class=\"lead\">{escape(lead(facts))}</p>{cards(facts)}"
        f'<nav aria-label="Sections">{nav}</nav></div></header><main>{notice(facts)}{body}{words(facts)}{the_team(facts, pictures)}</main>'
        f"<footer>{escape(colophon(facts))}</footer></body></html>\n")


def lead(facts):
    """Who, what, when."""
    team = facts.team
    return (f"{plural(len(team['agents']), 'agent')} read {team['input']} on {team['started'][:10]} and took {team['seconds']:.0f} seconds. "
            "Every number comes from a tool that an agent ran; words of a language model stand apart, in grey.")


def colophon(facts):
    """How it was made."""
    return (f"Begun {facts.team['started']} · written by the agent editor from the results of the others · "
            "figures by treescan, grep, awk, git and Python's ast · no script, no network.")


def notice(facts):
    """A run without isolation says so before anything else."""
    if facts.team["isolated"]:
        return ""
    return ('<p class="notice" style="margin-top:32px"><strong>Made without Coconut.</strong> '
            "These programs ran as ordinary processes: nothing was isolated, limited or recorded.</p>")


def cards(facts):
    """The numbers on top."""
    parts = []
    for value, what, remark, concern in sections.cards(facts):
        kind = "card concern" if concern else "card"
        parts.append(f'<div class="{kind}"><dt>{escape(what)}</dt><dd class="value">{escape(value)}</dd>'
                     f'<dd class="remark">{escape(remark)}</dd></div>')
    return f'<dl class="cards">{"".join(parts)}</dl>'


def section(facts, part, pictures):
    """One section with its pictures and tables."""
    shown = [pictures[k] for k in picture_keys(part) if k in pictures]
    text = "".join(f"<p>{inline(p)}</p>" for p in part.text)
    figures = "".join(f"<figure>{p.body()}<figcaption>{escape(p.title)}</figcaption></figure>" for p in shown)
    tables = "".join(table(t) for t in part.tables if t.rows)
    by = f'<p class="by">{escape(facts.byline(*part.by))}.</p>'
    return f'<section id="{part.key}"><h2>{escape(part.heading)}</h2>{text}{figures}{tables}{by}</section>'


def picture_keys(part):
    """Churn has two pictures: over time, and by file."""
    return ["churn", "hotspots"] if part.key == "hotspots" else [part.picture]


def inline(words):
    """Text with `code`."""
    pieces = escape(words).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))


def table(data):
    """A table with a caption and scoped heads; long ones fold."""
    number = [c.startswith("#") for c in data.columns]
    head = "".join(f'<th scope="col"{attribute(n)}>{escape(c.lstrip("#"))}</th>' for c, n in zip(data.columns, number))
    rows = "".join("<tr>" + "".join(cell(v, n) for v, n in zip(row, number)) + "</tr>" for row in data.rows)
    kind = f' class="{data.key}"' if data.key else ""
    inner = (f'<div class="table"><table{kind}><caption>{escape(data.caption)}</caption><thead><tr>{head}</tr></thead>'
             f"<tbody>{rows}</tbody></table></div>")
    if data.folded:
        return f"<details><summary>{escape(data.caption)} ({len(data.rows)})</summary>{inner}</details>"
    return inner


def attribute(is_number):
    return ' class="n"' if is_number else ""


def cell(value, is_number):
    """One cell; severities have their colour and their word."""
    if isinstance(value, Code):
        return f"<td{attribute(is_number)}><code>{escape(value)}</code></td>"
    if value in ("high", "medium", "low"):
        return f'<td class="{value}">{value}</td>'
    return f"<td{attribute(is_number)}>{inline(str(value))}</td>"


def words(facts):
    """Everything that a model wrote, in one place, named for what it is."""
    boxes = []
    for agent, answer in facts.words():
        said = escape(answer["text"]) if answer.get("text") else f"no answer: {escape(str(answer.get('error') or 'empty'))}"
        boxes.append(f'<div class="model"><p class="label">written by model {escape(answer["model"])} for {escape(agent)}; not reviewed</p>'
                     f'<p class="asked">Asked: {escape(answer["prompt"])}</p><blockquote>{said}</blockquote></div>')
    if not boxes:
        return ('<section id="words"><h2>What the model said</h2><p>No model was asked: OPENAI_BASE_URL was not set.</p></section>')
    return (f'<section id="words"><h2>What the model said</h2><p>{escape(about_model(facts))}</p>'
            f'<div class="words">{"".join(boxes)}</div></section>')


def about_model(facts):
    """The toy that the image ships is no authority, and the page says so."""
    model = facts.team.get("model") or ""
    if model.startswith("coconut-tiny"):
        return (f"The model is {model}, the toy that Coconut ships for trying things out: it strings words together and "
                "understands nothing, so its words mean nothing. They show that every agent could ask. With a real model, "
                "or any OpenAI-compatible URL, they would be remarks on the review.")
    return f"Remarks by the model {model}, one for each agent that asked. Nobody checked them; no number in this report depends on them."


def the_team(facts, pictures):
    """The table of agents and their timeline."""
    text = "".join(f"<p>{inline(p)}</p>" for p in sections.team_words(facts))
    picture = pictures.get("timeline")
    figure = f"<figure>{picture.body()}<figcaption>{escape(picture.title)}</figcaption></figure>" if picture else ""
    return f'<section id="team"><h2>The team</h2>{text}{table(sections.team_table(facts))}{figure}</section>'
