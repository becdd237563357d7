"""What the report says, section by section, before it is known how it will look."""

from dataclasses import dataclass, field

from report.facts import number, percent, plural


class Code(str):
    """A path or a name, shown as such."""


@dataclass
class Table:
    """Rows under columns; a column's name that starts with `#` holds numbers."""

    caption: str
    columns: list
    rows: list
    # Long tables fold on the page; paper and Markdown show them whole.
    folded: bool = False
    key: str = ""


@dataclass
class Section:
    """A heading, sentences, at most one picture, tables, and who measured."""

    key: str
    heading: str
    text: list
    picture: str | None = None
    tables: list = field(default_factory=list)
    by: list = field(default_factory=list)


def place(row):
    """`file:line`, or the file alone."""
    return Code(f"{row['file']}:{row['line']}" if row.get("line") else row["file"] or "the whole tree")


def cards(facts):
    """The numbers on top: (value, what, remark, is it a concern)."""
    languages = facts.figures("surveyor-languages")
    totals = facts.figures("integrator-quality").get("totals", {})
    unsafe = facts.figures("auditor-unsafe")
    severities = {s["severity"]: s["findings"] for s in facts.figures("integrator-findings").get("severities", [])}
    team = facts.team
    found = []

    def card(value, what, remark="", concern=False):
        if value is not None:
            found.append((number(value), what, remark, concern))

    card(languages.get("files"), "source files", f"in {len(languages.get('languages', []))} languages")
    code = [row for row in languages.get("languages", []) if row["kind"] == "code"]
    card(sum(r["code"] for r in code) or None, "lines of code", f"and {number(sum(r['comment'] for r in code))} of comment")
    plain = totals.get("functions", 0) - totals.get("tests", 0)
    card(totals and plain or None, "functions", f"in {len(facts.figures('integrator-quality').get('packages', []))} packages")
    card(totals.get("tests"), "tests", f"{100 * totals.get('tests', 0) / max(plain, 1):.0f} per 100 functions")
    card(unsafe.get("places"), "unsafe places", f"{unsafe.get('unreasoned')} without a reason", bool(unsafe.get("unreasoned")))
    card(totals.get("marks"), "TODO marks", "TODO, FIXME, XXX, HACK")
    card(facts.figures("integrator-findings").get("total"), "findings",
         f"{severities.get('high', 0)} of them high", bool(severities.get("high")))
    if team["isolated"]:
        card(team["denials"], "denials", "refusals, of everything all agents tried", bool(team["denials"]))
    else:
        card(len(team["agents"]), "programs", "without Coconut: no isolation", True)
    return found


def build(facts):
    """All sections in order."""
    makers = [languages, sizes, churn, longest, unsafe, tests, documentation, dependencies, duplicates, supply, findings]
    return [make(facts) for make in makers]


def languages(facts):
    """What the tree is written in."""
    figures = facts.figures("surveyor-languages")
    return Section("languages", "Languages", [sentence(facts, "surveyor-languages"),
                   f"{plural(figures.get('other_files', 0), 'file')} of other kinds are not counted."],
                   "languages", by=["surveyor-languages"])


def sentence(facts, agent):
    """An agent's headline as a sentence, or that there is none."""
    headline = facts.headline(agent)
    return f"{headline[0].upper()}{headline[1:]}." if headline else f"{agent} gave no result, so nothing is said here."


def sizes(facts):
    """Packages."""
    rows = [[Code(p["name"]), number(p["files"]), number(p["code"]), f"{percent(p['comment'], p['code'] + p['comment'])} %",
             number(p["functions"] - p["tests"]), number(p["tests"]), number(p["unsafe"]), number(p["panics"]),
             number(p["marks"])] for p in facts.figures("integrator-quality").get("packages", [])]
    columns = ["package", "#files", "#code", "#comment", "#functions", "#tests", "#unsafe", "#panics", "#TODO"]
    return Section("sizes", "Size by package", [
        "Nine reviewers read the tree, each only the modules that it was given; an integrator joined their numbers."],
        "sizes", [Table("Packages, largest first", columns, rows, folded=len(rows) > 12)], ["integrator-quality"])


def churn(facts):
    """Changes, and where they meet size."""
    figures = facts.figures("surveyor-churn")
    words = [sentence(facts, "surveyor-churn")]
    days = figures.get("days", [])
    if len(days) == 1:
        words.append(f"All of it happened on {days[0]['day']}.")
    rows = [[Code(f["file"]), number(f["commits"]), f"+{number(f['added'])}", f"−{number(f['removed'])}"]
            for f in figures.get("files", [])[:12]]
    tables = [Table("Most changed files", ["file", "#commits", "#added", "#removed"], rows)] if rows else []
    if facts.figures("integrator-hotspots").get("files"):
        words.append("A file that is large and changes often is where a mistake is most likely and a split pays most.")
    return Section("hotspots", "Churn and hot files", words, "hotspots", tables, ["surveyor-churn", "integrator-hotspots"])


def longest(facts):
    """Longest functions and files."""
    figures = facts.figures("integrator-quality")
    functions = [[Code(f["name"]), place(f), number(f["lines"])] for f in figures.get("longest_functions", [])[:12]]
    files = [[Code(f["file"]), number(f["lines"])] for f in figures.get("longest_files", [])[:12]]
    return Section("longest", "Longest functions and files", ["Test code is not counted among the functions."], None, [
        Table("Longest functions", ["function", "place", "#lines"], functions),
        Table("Longest files", ["file", "#lines"], files)], ["integrator-quality"])


def unsafe(facts):
    """Unsafe code and panics."""
    words = [sentence(facts, "auditor-unsafe"), sentence(facts, "auditor-panics")]
    rows = [[place(f), f["text"]] for f in facts.findings("auditor-unsafe")[:15]]
    panics = [[place(f), f["text"]] for f in facts.findings("auditor-panics")[:15]]
    tables = [Table(name, ["place", "what"], r) for name, r in
              (("Unsafe without a reason", rows), ("Panics outside tests", panics)) if r]
    return Section("unsafe", "Unsafe code and panics", words, "unsafe", tables, ["auditor-unsafe", "auditor-panics"])


def tests(facts):
    """Tests per package and gaps."""
    words = [sentence(facts, a) for a in ("tester-density", "tester-python", "tester-gaps", "tester-shell")]
    rows = [[Code(f["file"]), number(f["code"])] for f in facts.figures("tester-gaps").get("files", [])[:12]]
    tables = [Table("Larger files without a test near them", ["file", "#code"], rows)] if rows else []
    return Section("tests", "Tests", words, "tests", tables,
                   ["integrator-quality", "tester-density", "tester-gaps", "tester-python", "tester-shell"])


def documentation(facts):
    """Missing documentation, prose, licences."""
    agents = ["documenter-rust", "documenter-python", "documenter-prose", "documenter-licences"]
    words = [sentence(facts, a) for a in agents]
    rust = facts.figures("documenter-rust")
    if rust.get("files"):
        words.append(f"{number(rust['files_documented'])} of {plural(rust['files'], 'Rust file')} begin with what they are for.")
    licences = [[Code(t["file"]), t["licence"]] for t in facts.figures("documenter-licences").get("texts", [])]
    dead = [[place(f), f["text"]] for f in facts.findings("documenter-prose") if f["rule"] == "dead-link"][:12]
    tables = [Table(n, c, r) for n, c, r in (("Licence texts", ["file", "licence"], licences),
                                            ("Links that lead nowhere", ["place", "what"], dead)) if r]
    return Section("documented", "Documentation and licences", words, "documented", tables, agents)


def dependencies(facts):
    """The graph."""
    outside = facts.figures("surveyor-dependencies").get("outside", [])[:14]
    rows = [[Code(name), number(count)] for name, count in outside]
    tables = [Table("Packages from outside, by how many modules name them", ["package", "#modules"], rows, folded=True)] if rows else []
    return Section("dependencies", "Dependencies between modules", [
        sentence(facts, "surveyor-dependencies"),
        "Rows and columns stand in order of use, the most used first: filled cells to the left of the diagonal are layers "
        "that rest on what is below them."], "dependencies", tables, ["surveyor-dependencies"])


def duplicates(facts):
    """Copies."""
    figures = facts.figures("surveyor-duplicates")
    rows = [[place(d), Code(f"{d['other_file']}:{d['other_line']}"), number(d["lines"])] for d in figures.get("largest", [])[:12]]
    words = [sentence(facts, "surveyor-duplicates")]
    if figures:
        words.append(f"A block counts from {figures['window']} equal lines on; blank lines, comments and indent do not count.")
    tables = [Table("Largest copies", ["first", "second", "#lines"], rows)] if rows else []
    return Section("duplicates", "Duplicate blocks", words, None, tables, ["surveyor-duplicates"])


def supply(facts):
    """What comes from outside, secrets, hazards."""
    agents = ["auditor-supply", "auditor-secrets", "auditor-python"]
    words = [sentence(facts, a) for a in agents]
    rows = [[f["severity"], place(f), f["text"]] for a in agents for f in facts.findings(a)]
    rows.sort(key=lambda r: ["high", "medium", "low"].index(r[0]))
    tables = [Table("What the auditors found", ["severity", "place", "what"], rows[:40], folded=len(rows) > 12)] if rows else []
    return Section("security", "Supply chain, secrets, hazards", words, None, tables, agents)


def findings(facts):
    """Everything in one list."""
    figures = facts.figures("integrator-findings")
    rows = [[f["severity"], f["rule"], place(f), f["text"], f["agent"]] for f in figures.get("list", [])[:120]]
    words = [sentence(facts, "integrator-findings")]
    if figures.get("total", 0) > len(rows):
        words.append(f"The first {len(rows)} are listed; each agent's own file holds its own.")
    tables = [Table("Findings, most severe first", ["severity", "rule", "place", "what", "by"], rows, folded=True)] if rows else []
    return Section("findings", "All findings", words, "findings", tables, ["integrator-findings"])


def team_table(facts):
    """The table of the 31."""
    kinds = {"rust": "Rust", "shell": "shell", "python": "Python"}
    rows = []
    for agent in facts.team["agents"]:
        tokens = agent.get("tokens")
        spent = f"{number(tokens['prompt'])} + {number(tokens['completion'])}" if tokens else "–"
        denials = "–" if agent.get("denials") is None else number(agent["denials"])
        done = {None: "at work", 0: "done"}.get(agent.get("exit"), f"failed: {agent.get('exit')}")
        rows.append([Code(agent["name"]), agent["title"], kinds[agent["program"]], agent["scope"], spent, denials,
                     "–" if agent.get("seconds") is None else f"{agent['seconds']:.0f} s", done])
    return Table("The team", ["agent", "task", "program", "could read", "#tokens", "#denials", "#time", "state"], rows, key="team")


def team_words(facts):
    """What the table says, in sentences; honest about what was not enforced."""
    team = facts.team
    words = []
    if team["isolated"]:
        words.append("Each was an agent of Coconut: its rights were checked by the kernel at every use. The coordinator spawned "
                     "the others with a part of its own rights; each could write only its own folder.")
        words.append("No agent was refused anything: each asked only for what it had." if not team["denials"] else
                     f"{plural(team['denials'], 'operation')} were refused; `coconut explain AGENT` says which and why.")
    else:
        words.append("This run was made without Coconut, for a test: the programs ran as ordinary processes of one user. "
                     "Nothing kept them from each other, and nobody counted what they did.")
    if team["failed"]:
        words.append(f"{plural(len(team['failed']), 'agent')} failed: {', '.join(team['failed'])}.")
    counted = {a["counted_by"] for a in team["agents"] if a.get("tokens")}
    if counted:
        words.append(f"Tokens are prompt + completion, counted by {' and '.join(sorted(counted))}.")
    return words
