"""Reads everybody's results. What is missing stays missing: a section without facts says so."""

import json
from pathlib import Path


class Facts:
    """Results by agent, and the books."""

    def __init__(self, work):
        self.work = Path(work)
        self.team = json.loads((self.work / "coordinator" / "team.json").read_text(encoding="utf-8"))
        self.results = {}
        for row in self.team["agents"]:
            try:
                text = (self.work / row["name"] / "result.json").read_text(encoding="utf-8")
                self.results[row["name"]] = json.loads(text)
            except (OSError, ValueError):
                continue

    def figures(self, agent):
        """An agent's numbers; empty if it gave none."""
        return self.results.get(agent, {}).get("figures") or {}

    def headline(self, agent):
        """An agent's result in one line."""
        return self.results.get(agent, {}).get("headline", "")

    def findings(self, agent):
        """An agent's findings."""
        return self.results.get(agent, {}).get("findings") or []

    def byline(self, *agents):
        """Who measured it and with what, for the line under a picture."""
        kinds = {"rust": "Rust", "shell": "shell", "python": "Python"}
        known = [a for a in agents if a in self.results]
        if not known:
            return f"{' and '.join(agents)} gave no result"
        names = [f"{a} ({kinds[self.results[a]['program']]})" for a in known]
        return "Measured by " + " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)

    def words(self):
        """What the model said, with who asked: (agent, answer)."""
        for row in self.team["agents"]:
            if row.get("model"):
                yield row["name"], row["model"]


def number(value):
    """Digits in groups of three, with a thin space."""
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else str(value)


def plural(count, one, many=None):
    """`1 file`, `2 files`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def percent(part, whole):
    """A share in whole percent; nothing of nothing is all."""
    return 100 if not whole else round(100 * part / whole)
