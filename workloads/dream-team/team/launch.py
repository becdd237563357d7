"""How members are started and waited for: as Coconut's agents, or in tests as ordinary processes."""

import json
import os
import subprocess
import sys
import time


class Coconut:
    """Children of the coordinator, through the local API; every right is checked by the daemon."""

    isolated = True

    def __init__(self):
        self.aids = {}

    def start(self, member, manifest, log):
        """Spawns an agent; returns the process that waits for its end."""
        done = subprocess.run(["coconut", "spawn", str(manifest)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"coconut spawn ended with {done.returncode}")
        aid = done.stdout.split()[-1]
        self.aids[member.name] = aid
        return subprocess.Popen(["coconut", "wait", aid], stdout=log, stderr=subprocess.STDOUT)

    def stop(self, name):
        """Ends an agent that takes too long."""
        subprocess.run(["coconut", "kill", self.aids[name]], capture_output=True, check=False)

    def accounts(self):
        """What the daemon knows of each agent by its AID: state, denials, uses, and tokens from the log."""
        done = subprocess.run(["coconut", "ps", "--all", "--json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return {}
        rows = {a["aid"]: dict(a) for a in json.loads(done.stdout)["agents"]}
        for aid, tokens in self.tokens().items():
            if aid in rows:
                rows[aid]["tokens"] = tokens
        return {name: rows[aid] for name, aid in self.aids.items() if aid in rows}

    @staticmethod
    def tokens():
        """Tokens by AID as the audit log's inference records say; empty where they cannot be read."""
        done = subprocess.run(["coconut", "audit", "query", "--kind", "inference", "--json"],
                              capture_output=True, text=True, check=False)
        sums = {}
        if done.returncode != 0:
            return sums
        for record in json_records(done.stdout):
            entry = record.get("entry", record)
            words = dict(w.split("=", 1) for w in entry.get("detail", "").split() if "=" in w)
            if "prompt_tokens" in words or "completion_tokens" in words:
                tokens = sums.setdefault(entry.get("agent"), {"prompt": 0, "completion": 0})
                tokens["prompt"] += int(words.get("prompt_tokens", 0))
                tokens["completion"] += int(words.get("completion_tokens", 0))
        return sums


def json_records(text):
    """Records from one JSON document with a `records` list, or from one document a line."""
    try:
        document = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return document.get("records", [document]) if isinstance(document, dict) else document


class WithoutCoconut:
    """For tests only: the same programs as ordinary processes, with no isolation at all."""

    isolated = False

    def __init__(self):
        self.processes = {}

    def start(self, member, manifest, log):
        """Starts the program as a process of this user."""
        interpreter = [sys.executable, "-sB"] if member.program == "python" else []
        process = subprocess.Popen([*interpreter, *member.command], stdout=log, stderr=subprocess.STDOUT,
                                   cwd=os.path.dirname(log.name), env={**os.environ, "LC_ALL": "C.UTF-8"})
        self.processes[member.name] = process
        return process

    def stop(self, name):
        """Ends a process that takes too long."""
        self.processes[name].kill()

    def accounts(self):
        """Nobody counts without Coconut."""
        return {}


class Crew:
    """Runs members as soon as those before them have finished, at most `width` at a time."""

    def __init__(self, launcher, site, width, patience, tell):
        self.launcher = launcher
        self.site = site
        self.width = width
        self.patience = patience
        self.tell = tell
        self.begun = time.monotonic()
        self.status = {}

    def run(self, members, write_manifest):
        """Runs them all; a member that fails is recorded and the others go on."""
        waiting, running = list(members), {}
        names = {m.name for m in members}
        while waiting or running:
            for member in list(waiting):
                before = [n for n in member.after if n in names]
                if len(running) < self.width and all(self.ended(n) for n in before):
                    waiting.remove(member)
                    self.start(member, write_manifest(member), running)
            time.sleep(0.1)
            for name, (process, log, since) in list(running.items()):
                if process.poll() is not None:
                    log.close()
                    del running[name]
                    self.finish(name, process.returncode, since)
                elif time.monotonic() - since > self.patience:
                    self.launcher.stop(name)

    def ended(self, name):
        return self.status.get(name, {}).get("ended", False)

    def start(self, member, manifest, running):
        """Starts one member; a refusal by the daemon is the member's failure."""
        since = time.monotonic()
        log = open(self.site.work / "coordinator" / f"{member.name}.log", "w", encoding="utf-8")
        self.status[member.name] = {"ended": False, "began": round(since - self.begun, 1)}
        try:
            running[member.name] = (self.launcher.start(member, manifest, log), log, since)
            self.tell("started", agent=member.name, role=member.role, program=member.program)
        except (OSError, RuntimeError) as error:
            log.write(f"{error}\n")
            log.close()
            self.status[member.name]["refused"] = str(error)
            self.finish(member.name, 127, since)

    def finish(self, name, code, since):
        """Records how a member ended and what it says of itself."""
        state = self.status[name]
        state.update(ended=True, exit=code, seconds=round(time.monotonic() - since, 1))
        headline = state.get("refused") or read_result(self.site, name).get("headline", "")
        state["headline"] = headline
        self.tell("finished", agent=name, exit=code, seconds=state["seconds"], headline=headline)


def read_result(site, name):
    """A member's result; empty if it wrote none."""
    try:
        return json.loads(site.out(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
