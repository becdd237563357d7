"""The whole team, without Coconut, on this very folder: 31 take part and the report holds what they found."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME / "tests"))
import fake_openai  # noqa: E402


@unittest.skipUnless(os.environ.get("TREESCAN"), "TREESCAN must name the binary; `cargo test -p treescan` does that")
class Team(unittest.TestCase):
    def run_team(self, tree, out, **env):
        return subprocess.run([str(HOME / "run"), "--direct", "--input", str(tree), "--out", str(out)],
                              capture_output=True, text=True, env={**os.environ, **env})

    def test_31_agents_review_a_tree(self):
        server, url = fake_openai.serve()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "report"
            done = self.run_team(HOME, out, OPENAI_BASE_URL=url, OPENAI_API_KEY="x")
            self.assertEqual(done.returncode, 0, done.stderr)
            team = json.loads((out / "team.json").read_text())
            self.assertEqual(len(team["agents"]), 31)
            self.assertEqual(team["failed"], [])
            self.assertFalse(team["isolated"])
            html, text = (out / "report.html").read_text(), (out / "report.md").read_text()
            for agent in team["agents"]:
                self.assertIn(agent["name"], html)
                self.assertIn(agent["name"], text)
            self.assertIn("Made without Coconut", html)
            self.assertIn("written by model test-double", html)
            figures = {p.stem for p in (out / "figures").iterdir()}
            self.assertTrue({"languages", "sizes", "tests", "timeline"} <= figures, figures)
            # Shell, Rust and the coordinator always ask; Python does where the openai package is there.
            asked = [a for a in team["agents"] if a["model"] and a["model"]["text"]]
            self.assertGreaterEqual(len(asked), 24)

    def test_an_empty_tree_is_refused_with_a_hint(self):
        with tempfile.TemporaryDirectory() as place:
            empty = Path(place) / "empty"
            empty.mkdir()
            done = self.run_team(empty, Path(place) / "report", OPENAI_BASE_URL="")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("holds no source file", done.stderr)

    def test_a_tree_of_one_file_and_no_model(self):
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            tree.mkdir()
            (tree / "a.py").write_text("def a():\n    return 1\n")
            done = self.run_team(tree, Path(place) / "report", OPENAI_BASE_URL="")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("No model was asked", (Path(place) / "report" / "report.html").read_text())


if __name__ == "__main__":
    unittest.main()
