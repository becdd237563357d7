"""The plan: exactly thirty members, each with the least that it needs; all of it within the coordinator's rights."""

import sys
import tomllib
import unittest
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))
from team import manifests, plan  # noqa: E402

INSTALLED = Path("/usr/lib/coconut/dream-team")


def module(name, lines):
    return {"name": name, "package": name, "paths": [name], "files": 1, "lines": lines, "code": lines}


def site(**more):
    facts = {"source": Path("/usr/share/coconut/src"), "work": Path("/var/lib/coconut-dream-team/run-1"), "home": INSTALLED,
             "treescan": INSTALLED / "treescan", "model": "m", "python_packages": Path("/opt/coconut/python"),
             "history": Path("/usr/share/coconut/src/.coconut/git-log-numstat.txt")}
    return plan.Site(**{**facts, **more})


def survey(count):
    modules = [module(f"crates/m{i}", 100 + i) for i in range(count)]
    return {"modules": modules, "python": ["a.py"], "shell": ["a.sh"], "files": count}


class Plan(unittest.TestCase):
    def setUp(self):
        self.site = site()
        self.members = plan.build(self.site, survey(20))
        self.parsed = {m.name: tomllib.loads(manifests.manifest(m, self.site)) for m in self.members}

    def test_thirty_members_with_thirty_names(self):
        for modules in (1, 5, 9, 20, 200):
            members = plan.build(self.site, survey(modules))
            self.assertEqual(len(members), 30)
            self.assertEqual(len({m.name for m in members}), 30)

    def test_three_kinds_of_program(self):
        self.assertEqual({m.program for m in self.members}, {"rust", "shell", "python"})

    def test_every_module_has_exactly_one_reviewer(self):
        given = [a for m in self.members if m.role == "reviewer" for f, a in zip(m.command, m.command[1:]) if f == "--module"]
        self.assertEqual(sorted(given), sorted(f"crates/m{i}:crates/m{i}" for i in range(20)))

    def test_a_small_tree_leaves_no_reviewer_without_work(self):
        for hand in plan.share([module("a", 5), module("b", 3)], 9):
            self.assertTrue(hand)

    def test_the_load_is_shared_evenly(self):
        loads = [sum(m["lines"] for m in hand) for hand in plan.share([module(str(n), n) for n in range(100, 0, -1)], 9)]
        self.assertLess(max(loads) - min(loads), 30)

    def test_each_writes_only_its_own_folder(self):
        for name, parsed in self.parsed.items():
            written = [p for p in parsed["capabilities"]["fs.write"] if p != plan.TERMINAL]
            self.assertEqual(written, [f"/var/lib/coconut-dream-team/run-1/{name}"])

    def test_reviewers_read_their_modules_and_nothing_else_of_the_tree(self):
        for member in self.members:
            if member.role == "reviewer":
                reads = self.parsed[member.name]["capabilities"]["fs.read"]
                inside = [r for r in reads if r.startswith("/usr/share/coconut/src")]
                self.assertTrue(inside)
                self.assertNotIn("/usr/share/coconut/src", inside)

    def test_who_takes_the_facts_may_read_them_and_only_who_may_read_the_whole_tree_does(self):
        takers = [m for m in self.members if "--facts" in m.command]
        self.assertEqual(len(takers), 5)
        for member in takers:
            facts = member.command[member.command.index("--facts") + 1]
            self.assertEqual(member.reads, [str(self.site.source), facts])

    def test_integrators_and_editor_read_no_source(self):
        for member in self.members:
            if member.role in ("integrator", "editor"):
                reads = self.parsed[member.name]["capabilities"]["fs.read"]
                self.assertFalse([r for r in reads if r.startswith("/usr/share/coconut/src")], member.name)

    def test_a_list_of_too_many_files_becomes_the_tree(self):
        found = {**survey(9), "python": [f"{i}.py" for i in range(plan.MOST_LISTED_FILES + 1)]}
        auditor = next(m for m in plan.build(self.site, found) if m.name == "auditor-python")
        self.assertIn(str(self.site.source), auditor.reads)

    def test_names_with_quotes_stay_inside_their_string(self):
        odd = Path('/srv/a"b\\c\n')
        parsed = tomllib.loads(manifests.manifest(self.members[0], site(work=odd)))
        self.assertEqual(parsed["capabilities"]["fs.write"], [str(odd / self.members[0].name)])


class WithinTheCoordinatorsRights(unittest.TestCase):
    def setUp(self):
        self.parent = tomllib.loads((HOME / "coordinator.toml").read_text(encoding="utf-8"))["capabilities"]
        self.site = site()
        self.members = plan.build(self.site, survey(20))

    def below(self, path, trees):
        return any(path == t or path.startswith(t + "/") for t in trees)

    def test_what_a_child_gets_its_parent_holds(self):
        for member in self.members:
            child = tomllib.loads(manifests.manifest(member, self.site))["capabilities"]
            for right in ("fs.read", "fs.write", "fs.exec"):
                for entry in child.get(right, []):
                    held = self.parent[right] + (self.parent["fs.exec"] if right == "fs.read" else [])
                    if entry == plan.UNAME and "@shell" in self.parent["fs.read"]:
                        continue  # the profile holds it
                    self.assertTrue(entry in held or self.below(entry, held), f"{member.name}: {right} {entry}")
            self.assertLessEqual(child.get("infer", {}).get("tokens_per_minute", 0), self.parent["infer"]["tokens_per_minute"])
            self.assertTrue(set(child) <= {"fs.read", "fs.write", "fs.exec", "infer"}, member.name)

    def test_a_child_may_not_spawn_and_the_parent_may_spawn_just_these(self):
        self.assertEqual(self.parent["agent.spawn"], {"count": len(self.members)})


if __name__ == "__main__":
    unittest.main()
