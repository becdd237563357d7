"""Who is in the team, what each is to do, and the least that each must be allowed to do it."""

from dataclasses import dataclass, field
from pathlib import Path

REVIEWERS = 9
SHELL_FOLDER = "programs"
# What the interpreters themselves try, whatever they run: bash looks for a terminal; the openai package asks
# uname for the processor.
TERMINAL = "/dev/tty"
UNAME = "/usr/bin/uname"
MEBIBYTE = {"rust": 96, "shell": 64, "python": 224}
# A list of exact files is the better right while it is short; beyond this the whole tree is given.
MOST_LISTED_FILES = 64


@dataclass
class Member:
    """One agent of the thirty."""

    name: str
    role: str
    title: str
    program: str
    command: list
    # What it may read, as absolute paths, and how that is called in the report.
    reads: list
    scope: str
    executes: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    profiles: list = field(default_factory=list)
    # Names of members that must have finished before.
    after: list = field(default_factory=list)
    weight: int = 100


@dataclass
class Site:
    """Where everything lies in this run."""

    source: Path
    work: Path
    home: Path
    treescan: Path
    model: str | None
    history: Path | None = None
    python_packages: Path | None = None

    def out(self, name):
        """The one file that a member writes."""
        return self.work / name / "result.json"

    def facts(self):
        """What the tree's Rust files say: parsed once, by the coordinator, for all who look at the whole tree."""
        return self.work / "coordinator" / "facts.json"


class Roster:
    """Builds the members one by one; each method adds what one kind of program needs."""

    def __init__(self, site):
        self.site = site
        self.members = []

    def add(self, name, title, program, argv, reads, scope, root=None, **more):
        """Adds a member with the arguments that every program of the team takes."""
        site = self.site
        command = [*argv, "--root", str(root or site.source), "--out", str(site.out(name)), "--agent", name]
        if site.model:
            command += ["--ask", site.model]
        member = Member(name=name, role=name.split("-")[0], title=title, program=program, command=command,
                        reads=[str(r) for r in reads], scope=scope, **more)
        self.members.append(member)
        return member

    def rust(self, name, title, analysis, reads, scope, arguments=(), **more):
        """Adds a member that is the Rust binary."""
        member = self.add(name, title, "rust", [str(self.site.treescan), analysis], reads, scope, **more)
        member.command += arguments
        return member

    def parsed(self, name, title, analysis, whole):
        """Adds a member that looks at the syntax of all Rust files."""
        facts = self.site.facts()
        return self.rust(name, title, analysis, [*whole, facts], "the whole tree", ["--facts", str(facts)])

    def shell(self, name, title, script, reads, scope, arguments=(), **more):
        """Adds a member that is a shell script with curl and jq."""
        folder = self.site.home / SHELL_FOLDER
        more.setdefault("profiles", ["shell"])
        more.setdefault("writes", [TERMINAL])
        member = self.add(name, title, "shell", [str(folder / script)], [*reads, folder, TERMINAL], scope, **more)
        member.command += arguments
        return member

    def python(self, name, title, analysis, reads, scope, arguments=(), **more):
        """Adds a member that is a Python script with the official openai package."""
        script = self.site.home / SHELL_FOLDER / "pyscan.py"
        packages = [self.site.python_packages] if self.site.python_packages else []
        more["executes"] = [*more.get("executes", []), UNAME]
        member = self.add(name, title, "python", [str(script), analysis], [*reads, *packages], scope,
                          profiles=["python"], **more)
        member.command += arguments
        return member


def share(modules, parts):
    """Deals modules out, largest first, each to whoever has the least; nobody goes empty-handed."""
    hands = [[] for _ in range(parts)]
    for module in modules:
        least = min(hands, key=lambda h: sum(m["lines"] for m in h))
        least.append(module)
    for hand in hands:
        # A small tree has fewer modules than the team has reviewers: the others give a second opinion.
        if not hand:
            hand.append(modules[0])
    return hands


def build(site, survey):
    """The thirty members for one tree, in the order in which they should start."""
    roster = Roster(site)
    whole = [site.source]
    specialists_in_python(roster, survey, whole)
    reviewers(roster, survey["modules"])
    auditors(roster, whole)
    testers(roster, survey, whole)
    documenters(roster, whole)
    surveyors(roster, whole)
    integrators(roster)
    editor(roster)
    return roster.members


def listed(site, names, whole):
    """Exact files as rights and arguments if they are few, else the whole tree."""
    if 0 < len(names) <= MOST_LISTED_FILES:
        return [site.source / n for n in names], f"{len(names)} files", list(names)
    return whole, "the whole tree", list(names)


def specialists_in_python(roster, survey, whole):
    """Three that parse Python; they start first, because importing openai takes longest."""
    reads, scope, names = listed(roster.site, survey["python"], whole)
    arguments = names if reads is not whole else []
    roster.python("auditor-python", "hazardous calls in Python", "hazards", reads, scope, arguments)
    roster.python("tester-python", "tests and checks in Python", "tests", reads, scope, arguments)
    roster.python("documenter-python", "docstrings", "docstrings", reads, scope, arguments)


def reviewers(roster, modules):
    """Nine that read only the modules given to them: one in Python, four in shell, four in Rust."""
    for number, hand in enumerate(share(modules, REVIEWERS), start=1):
        name = f"reviewer-{number}"
        arguments = []
        for module in hand:
            arguments += ["--module", f"{module['name']}:{','.join(module['paths'])}"]
        reads = [roster.site.source / p for m in hand for p in m["paths"]]
        scope = ", ".join(m["name"] for m in hand)
        title = "reviews its modules"
        tool = [str(roster.site.treescan)]
        if number == 9:
            roster.python(name, title, "review", reads, scope, arguments, executes=tool)
        elif number in (5, 6, 7, 8):
            roster.shell(name, title, "review.sh", reads, scope, arguments, executes=tool)
        else:
            roster.rust(name, title, "review", reads, scope, arguments)


def auditors(roster, whole):
    """Security auditors of the whole tree."""
    roster.parsed("auditor-unsafe", "unsafe code and its reasons", "unsafe", whole)
    roster.parsed("auditor-panics", "panics outside tests", "panics", whole)
    roster.shell("auditor-secrets", "keys, tokens, writable files", "secrets.sh", whole, "the whole tree")
    roster.shell("auditor-supply", "what comes from outside", "supply.sh", whole, "the whole tree")


def testers(roster, survey, whole):
    """Test analysts."""
    roster.parsed("tester-density", "tests per module", "tests", whole)
    roster.parsed("tester-gaps", "larger files without tests", "gaps", whole)
    reads, scope, names = listed(roster.site, survey["shell"], whole)
    roster.shell("tester-shell", "shell scripts", "scripts.sh", reads, scope, names)


def documenters(roster, whole):
    """Documenters."""
    roster.parsed("documenter-rust", "public items without documentation", "docs", whole)
    roster.shell("documenter-prose", "documents and dead links", "prose.sh", whole, "the whole tree")
    roster.shell("documenter-licences", "licences", "licences.sh", whole, "the whole tree")


def surveyors(roster, whole):
    """Those who look at the tree as one thing."""
    site = roster.site
    roster.rust("surveyor-languages", "languages and sizes", "languages", whole, "the whole tree")
    roster.rust("surveyor-duplicates", "code that stands twice", "duplicates", whole, "the whole tree")
    roster.rust("surveyor-dependencies", "who depends on whom", "dependencies", whole, "the whole tree")
    if site.history:
        roster.shell("surveyor-churn", "what changes how often", "churn.sh", [site.history], "the history",
                     ["--history", str(site.history)])
    elif (site.source / ".git").is_dir():
        roster.shell("surveyor-churn", "what changes how often", "churn.sh", [site.source / ".git"], "the history",
                     profiles=["shell", "git"])
    else:
        roster.shell("surveyor-churn", "what changes how often", "churn.sh", [], "nothing: no history was given")


def result(name):
    """A member's result below the work folder."""
    return f"{name}/result.json"


def integrators(roster):
    """Those who read others' results, and no source."""
    work = roster.site.work
    by_role = [m.name for m in roster.members if m.role == "reviewer"]
    roster.shell("integrator-quality", "joins the reviewers' numbers", "quality.sh",
                 [work / "coordinator" / "plan.json", *(work / n for n in by_role)], "the plan, 9 reviewers' results",
                 ["coordinator/plan.json", *map(result, by_role)], root=work, after=by_role)
    pair = ["surveyor-churn", "surveyor-languages"]
    roster.shell("integrator-hotspots", "hot files: churn × size", "hotspots.sh", [work / n for n in pair],
                 "2 surveyors' results", [result(n) for n in pair], root=work, after=pair)
    everybody = [m.name for m in roster.members if m.role != "integrator"]
    roster.shell("integrator-findings", "one list of findings", "findings.sh", [work / n for n in everybody],
                 f"{len(everybody)} agents' results", [result(n) for n in everybody], root=work, after=everybody)


def editor(roster):
    """The one who writes the report; it reads results and never a source."""
    site = roster.site
    names = [m.name for m in roster.members]
    member = Member(
        name="editor", role="editor", title="this report", program="python",
        command=[str(site.home / "editor"), "--work", str(site.work), "--out", str(site.work / "editor")],
        reads=[str(site.home), *(str(site.work / n) for n in ["coordinator", *names])],
        scope=f"{len(names) + 1} agents' results", profiles=["python"], after=names)
    roster.members.append(member)
