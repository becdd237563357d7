"""The pictures of the report, each from one or two agents' numbers. None: there is nothing to show."""

from report import treemap
from report.facts import number, percent, plural
from report.svg import WIDTH, Picture, legend, line, rect, shorten, text, width_of

ROW = 24
LABEL = 210


def bars(key, title, description, rows, kinds, top=26, label=LABEL):
    """Stacked horizontal bars. A row is (name, [numbers], text at the end, tip)."""
    tail = 16 + max((width_of(r[2]) for r in rows), default=0)
    room = WIDTH - label - tail
    most = max((sum(r[1]) for r in rows), default=0) or 1
    shapes = [legend(label, 12, kinds)] if len(kinds) > 1 else []
    start = top if len(kinds) > 1 else 4
    for index, (name, values, note, tip) in enumerate(rows):
        y = start + index * ROW
        shapes.append(text(label - 10, y + 15, shorten(name, label - 14), anchor="end"))
        shapes.append(rect(label, y + 3, room, ROW - 8, "svg-track"))
        x = label
        for value, (kind, _) in zip(values, kinds):
            if value:
                shapes.append(rect(x, y + 3, max(room * value / most, 1.5), ROW - 8, kind, tip))
                x += room * value / most
        shapes.append(text(label + room + 8, y + 15, note, "svg-soft"))
    return Picture(key, title, description, start + len(rows) * ROW + 4, shapes)


def languages(facts):
    """Lines by language."""
    rows = facts.figures("surveyor-languages").get("languages", [])[:12]
    if not rows:
        return None
    data = []
    for row in rows:
        total = row["code"] + row["comment"] + row["blank"]
        tip = f"{row['name']}: {number(row['code'])} code, {number(row['comment'])} comment, {number(row['blank'])} blank"
        data.append((row["name"], [row["code"], row["comment"], row["blank"]],
                     f"{number(total)} in {plural(row['files'], 'file')}", tip))
    kinds = [("c-a", "code"), ("c-b", "comment"), ("c-c", "blank")]
    return bars("languages", "Lines by language",
                "; ".join(f"{d[0]} {sum(d[1])} lines" for d in data), data, kinds, label=130)


def sizes(facts):
    """A treemap of packages: area is code, shade is tests per function."""
    packages = [p for p in facts.figures("integrator-quality").get("packages", []) if p["code"] > 0][:48]
    if not packages:
        return None
    height = 400
    shapes = []
    for package, (x, y, w, h) in zip(packages, treemap.layout([p["code"] for p in packages], 0, 0, WIDTH, height)):
        shade = density(package)
        tip = (f"{package['name']}: {number(package['code'])} lines of code, {plural(package['functions'], 'function')}, "
               f"{plural(package['tests'], 'test')}; read by {', '.join(package['agents'])}")
        shapes.append(rect(x + 1, y + 1, w - 2, h - 2, f"t-{shade}", tip, 3))
        ink = "svg-inverse" if shade >= 3 else "svg-text"
        if w > 54 and h > 22:
            shapes.append(text(x + 8, y + 18, tile_name(package["name"], w - 16), ink, weight=600))
        if w > 54 and h > 40:
            shapes.append(text(x + 8, y + 34, number(package["code"]), ink, size=12))
    steps = [("t-0", "no test"), ("t-1", "under 5"), ("t-2", "5 to 15"), ("t-3", "15 to 30"), ("t-4", "30 and more")]
    shapes.append(text(0, height + 21, "Tests per 100 functions:", "svg-soft", size=12))
    shapes.append(legend(150, height + 21, steps))
    words = "; ".join(f"{p['name']} {p['code']} lines" for p in packages[:12])
    return Picture("sizes", "Packages by lines of code", words, height + 30, shapes)


def tile_name(name, room):
    """The whole path, or its last part where that is all that fits."""
    # Bold letters are about a fifth wider.
    whole = width_of(name) * 1.2 <= room
    return name if whole else shorten(name.rsplit("/", 1)[-1], room / 1.2)


def density(package):
    """Step 0 to 4 of tests per 100 functions."""
    if not package["tests"]:
        return 0
    per_hundred = 100 * package["tests"] / max(package["functions"] - package["tests"], 1)
    return 1 + sum(per_hundred >= step for step in (5, 15, 30))


def churn(facts):
    """Lines added and removed by day."""
    days = facts.figures("surveyor-churn").get("days", [])[-90:]
    if len(days) < 2:
        return None
    most = max(max(d["added"], d["removed"]) for d in days) or 1
    height, middle, left = 190, 110, 70
    step = (WIDTH - left) / len(days)
    shapes = [legend(left, 12, [("c-a", "lines added"), ("c-warm", "lines removed")]), line(left, middle, WIDTH, middle)]
    for index, day in enumerate(days):
        x, wide = left + index * step + 1, max(min(step - 2, 46), 1)
        tip = f"{day['day']}: {plural(day['commits'], 'commit')}, +{number(day['added'])} −{number(day['removed'])}"
        up, down = 80 * day["added"] / most, 60 * day["removed"] / most
        shapes += [rect(x, middle - up, wide, up, "c-a", tip), rect(x, middle, wide, down, "c-warm", tip)]
    shapes += [text(left - 8, middle - 72, f"+{number(most)}", "svg-soft", "end", 11),
               text(left, height - 4, days[0]["day"], "svg-soft", size=11),
               text(WIDTH, height - 4, days[-1]["day"], "svg-soft", "end", 11)]
    return Picture("churn", "Lines added and removed by day", f"{len(days)} days, at most {most} lines a day", height, shapes)


def hotspots(facts):
    """Files by commits times lines of code."""
    files = facts.figures("integrator-hotspots").get("files", [])[:14]
    if not files:
        return None
    rows = [(f["file"], [f["heat"]], f"{f['commits']} × {number(f['code'])}",
             f"{f['file']}: {plural(f['commits'], 'commit')}, {plural(f['code'], 'line')} of code") for f in files]
    return bars("hotspots", "Hot files: commits × lines of code",
                "; ".join(f"{r[0]} {r[2]}" for r in rows[:8]), rows, [("c-warm", "")], label=330)


def unsafe(facts):
    """Unsafe places by module, reasoned or not."""
    modules = sorted(facts.figures("auditor-unsafe").get("modules", []), key=lambda m: -m["places"])[:14]
    if not modules:
        return None
    rows = [(m["name"], [m["places"] - m["unreasoned"], m["unreasoned"]], number(m["places"]),
             f"{m['name']}: {m['places']} places, {m['unreasoned']} without a reason") for m in modules]
    return bars("unsafe", "Unsafe places by module", "; ".join(r[3] for r in rows), rows,
                [("c-gold", "with a reason"), ("c-warm", "without a reason")])


def tests(facts):
    """Tests per 100 functions by package."""
    rows = []
    for package in facts.figures("integrator-quality").get("packages", []):
        plain = package["functions"] - package["tests"]
        if plain >= 3:
            ratio = 100 * package["tests"] / plain
            rows.append((package["name"], [ratio], f"{ratio:.0f}  ({package['tests']} for {plain})",
                         f"{package['name']}: {plural(package['tests'], 'test')} for {plural(plain, 'function')}"))
    if not rows:
        return None
    rows = sorted(rows, key=lambda r: -r[1][0])[:20]
    return bars("tests", "Tests per 100 functions", "; ".join(r[3] for r in rows[:10]), rows, [("c-a", "")])


def documented(facts):
    """Share of public Rust items with documentation."""
    modules = [m for m in facts.figures("documenter-rust").get("modules", []) if m["public"]]
    if not modules:
        return None
    rows = []
    for m in sorted(modules, key=lambda m: (percent(m["public"] - m["undocumented"], m["public"]), -m["public"]))[:16]:
        share = percent(m["public"] - m["undocumented"], m["public"])
        rows.append((m["name"], [share, 100 - share], f"{share} % of {m['public']}",
                     f"{m['name']}: {m['undocumented']} of {m['public']} without documentation"))
    return bars("documented", "Public items with documentation", "; ".join(r[3] for r in rows[:10]), rows,
                [("c-a", "documented"), ("c-warm", "not documented")])


def dependencies(facts):
    """A matrix: a row depends on a column. Below the diagonal only means that there are layers."""
    figures = facts.figures("surveyor-dependencies")
    edges = {(e["from"], e["to"]) for e in figures.get("edges", [])}
    modules = sorted(figures.get("modules", []), key=lambda m: (-m["fan_in"], m["fan_out"], m["name"]))[:28]
    if not edges or not modules:
        return None
    names = [m["name"] for m in modules]
    cell, left, top = min(26, (WIDTH - 330) / len(names)), 200, 132
    shapes = []
    for i, module in enumerate(modules):
        middle = top + i * cell + cell / 2 + 4
        shapes.append(text(left - 8, middle, shorten(module["name"], left - 12), anchor="end"))
        shapes.append(text(left + len(names) * cell + 10, middle,
                           f"used by {module['fan_in']}, uses {module['fan_out']}", "svg-soft", size=12))
        shapes.append(text(left + i * cell + cell / 2 + 3, top - 8, shorten(module["name"], 145), turn=-55))
    for i, user in enumerate(names):
        for j, used in enumerate(names):
            kind, tip = ("svg-track", None)
            if i == j:
                kind = "c-grey"
            elif (user, used) in edges:
                # With the most used first, an edge to the right of the diagonal runs against the layers.
                kind, tip = ("c-a" if j < i else "c-warm"), f"{user} depends on {used}"
            shapes.append(rect(left + j * cell + 1, top + i * cell + 1, cell - 2, cell - 2, kind, tip))
    height = top + len(names) * cell + 30
    shapes.append(legend(left, height - 6, [("c-a", "row uses column"), ("c-warm", "uses one that is used less")]))
    words = "; ".join(f"{a} uses {b}" for a, b in sorted(edges)[:30])
    return Picture("dependencies", "Who depends on whom", words, height, shapes)


def findings(facts):
    """Findings by rule."""
    rules = facts.figures("integrator-findings").get("rules", [])[:16]
    if not rules:
        return None
    kinds = [("c-warm", "high"), ("c-gold", "medium"), ("c-grey", "low")]
    place = {"high": 0, "medium": 1, "low": 2}
    rows = []
    for rule in rules:
        values = [0, 0, 0]
        values[place.get(rule["severity"], 2)] = rule["findings"]
        rows.append((rule["rule"], values, number(rule["findings"]), f"{rule['rule']}: {rule['findings']} ({rule['severity']})"))
    return bars("findings", "Findings by rule", "; ".join(r[3] for r in rows), rows, kinds, label=180)


def timeline(facts):
    """When each agent worked."""
    agents = [a for a in facts.team["agents"] if a.get("began") is not None and a.get("seconds")]
    if len(agents) < 2:
        return None
    end = max(a["began"] + a["seconds"] for a in agents) or 1
    left, row, top = 165, 17, 26
    room = WIDTH - left - 10
    shapes = [legend(left, 12, [("p-python", "Python"), ("p-shell", "shell"), ("p-rust", "Rust")])]
    height = top + len(agents) * row + 22
    step = next(s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 3600) if end / s <= 9)
    for tick in range(0, int(end) + 1, step):
        x = left + room * tick / end
        shapes += [line(x, top, x, height - 20), text(x, height - 6, f"{tick} s", "svg-soft", "middle", 11)]
    for index, agent in enumerate(sorted(agents, key=lambda a: (a["role"] != "coordinator", a["began"]))):
        y = top + index * row
        tip = f"{agent['name']}: from {agent['began']} s for {agent['seconds']} s"
        shapes.append(text(left - 8, y + 12, agent["name"], anchor="end", size=11.5))
        shapes.append(rect(left + room * agent["began"] / end, y + 3, max(room * agent["seconds"] / end, 2), row - 6,
                           f"p-{agent['program']}", tip))
    return Picture("timeline", "When each agent worked", f"{len(agents)} agents within {end:.0f} seconds", height, shapes)


ALL = [languages, sizes, churn, hotspots, unsafe, tests, documented, dependencies, findings, timeline]


def draw(facts):
    """All pictures that have something to show, by key."""
    pictures = [chart(facts) for chart in ALL]
    return {p.key: p for p in pictures if p}
