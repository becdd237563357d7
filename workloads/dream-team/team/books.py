"""The books: who did what with which rights, at what cost; the editor's table and the demo's proof."""

import datetime
import json
import time

from team.launch import read_result


class Books:
    """Collects one row per agent and writes team.json."""

    def __init__(self, site, name, members, crew, answer, begun):
        self.site = site
        self.name = name
        self.members = members
        self.crew = crew
        self.answer = answer
        self.begun = begun
        self.started = datetime.datetime.now(datetime.timezone.utc)

    def rows(self):
        """The coordinator's row, then one per member in the order of the plan."""
        accounts = self.crew.launcher.accounts()
        yield {
            "name": "coordinator", "role": "coordinator", "title": "plans, spawns, keeps the books",
            "program": "python", "scope": "the whole tree, all results", "exit": None, "began": 0, "seconds": self.elapsed(),
            "headline": f"{len(self.members)} agents planned and spawned", "model": self.answer or None,
            "tokens": spoken(self.answer), "counted_by": "the endpoint", "denials": None, "uses": None, "aid": None,
            "state": None,
        }
        for member in self.members:
            state = self.crew.status.get(member.name, {})
            model = read_result(self.site, member.name).get("model")
            account = accounts.get(member.name, {})
            yield {
                "name": member.name, "role": member.role, "title": member.title, "program": member.program,
                "scope": member.scope, "reads": member.reads, "exit": state.get("exit"),
                "began": state.get("began"), "seconds": state.get("seconds"), "headline": state.get("headline", ""), "model": model,
                "tokens": account.get("tokens") or spoken(model),
                "counted_by": "the audit log" if account.get("tokens") else "the endpoint",
                "denials": account.get("denials"), "uses": account.get("uses"), "aid": account.get("aid"),
                "state": account.get("state"),
            }

    def elapsed(self):
        """Seconds since the coordinator began."""
        return round(time.monotonic() - self.begun, 1)

    def write(self, path):
        """Writes team.json; called before the editor, which reads it, and again after."""
        rows = list(self.rows())
        document = {
            "schema": 1, "input": str(self.site.source), "name": self.name,
            "started": self.started.isoformat(timespec="seconds"), "seconds": self.elapsed(),
            "isolated": self.crew.launcher.isolated, "model": self.site.model, "agents": rows,
            "failed": [r["name"] for r in rows if r["exit"] not in (0, None)],
            "denials": sum(r["denials"] or 0 for r in rows) if self.crew.launcher.isolated else None,
        }
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def spoken(model):
    """Tokens of one answer, as its endpoint counted."""
    if not model:
        return None
    return {"prompt": model.get("prompt_tokens", 0), "completion": model.get("completion_tokens", 0)}
