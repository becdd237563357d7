"""The shell and Python programs on a small tree with known faults."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PROGRAMS = HOME / "programs"
sys.path.insert(0, str(HOME / "tests"))
import fake_openai  # noqa: E402

FILES = {
    "README.md": "# Tree\n[good](src/a.py) [bad](gone.md) [far](https://example.test)\n",
    "LICENSE": "Apache License\nVersion 2.0, January 2004\n",
    "Cargo.toml": '[package]\nname = "x"\n',
    "src/a.py": '"""A."""\nimport subprocess\n\n\ndef run(text):\n    eval(text)\n    subprocess.run(text, shell=True)\n'
                "    try:\n        pass\n    except Exception:\n        pass\n",
    "src/test_a.py": '"""Tests."""\n\n\ndef test_nothing():\n    pass\n\n\ndef test_one():\n    assert 1\n',
    "src/broken.py": "def (:\n",
    "key.txt": "-----BEGIN " + "PRIVATE KEY-----\n",
    "good.sh": "#!/bin/sh\nset -eu\necho hi\n",
    "bad.sh": "#!/bin/sh\nif true; then\n",
    "Cargo.lock": '[[package]]\nname = "b"\nversion = "1.0.0"\nsource = "registry+x"\n\n[[package]]\nname = "b"\n'
                  'version = "2.0.0"\nsource = "git+x#1"\n',
    "requirements.txt": "a==1.0\nb>=2\n",
}
HISTORY = "commit aa 2026-01-02\n\n3\t1\tsrc/a.py\n-\t-\tlogo.png\n\ncommit bb 2026-01-01\n\n10\t0\tsrc/a.py\n"


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.root = Path(cls.place.name) / "tree"
        for name, text in FILES.items():
            path = cls.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        cls.out = Path(cls.place.name) / "result.json"

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    def run_program(self, *argv, env=None):
        command = [str(PROGRAMS / argv[0]), *argv[1:]]
        if argv[0].endswith(".py"):
            command = [sys.executable, "-sB", *command]
        command += ["--root", str(self.root), "--out", str(self.out), "--agent", "tester"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(self.out.read_text())
        for key in ("schema", "agent", "program", "analysis", "headline", "figures", "findings", "question", "model"):
            self.assertIn(key, result)
        return result

    def rules(self, result):
        return sorted((f["rule"], f["file"], f["line"]) for f in result["findings"])

    def test_secrets(self):
        self.assertIn(("private-key", "key.txt", 1), self.rules(self.run_program("secrets.sh")))

    def test_supply(self):
        result = self.run_program("supply.sh")
        figures = result["figures"]
        self.assertEqual((figures["packages"], figures["in_two_versions"], figures["from_git"]), (2, 1, 1))
        self.assertEqual((figures["python_pinned"], figures["python_loose"]), (1, 1))
        self.assertIn(("unpinned", "requirements.txt", 2), self.rules(result))

    def test_scripts(self):
        result = self.run_program("scripts.sh", "good.sh", "bad.sh")
        self.assertEqual(result["figures"]["syntax_errors"], 1)
        self.assertEqual(self.rules(result), [("no-set-e", "bad.sh", 1), ("syntax", "bad.sh", 0)])

    def test_prose(self):
        result = self.run_program("prose.sh")
        self.assertEqual(self.rules(result), [("dead-link", "README.md", 2)])
        self.assertEqual(result["figures"]["links"], 2)

    def test_licences(self):
        result = self.run_program("licences.sh")
        self.assertEqual(result["figures"]["texts"], [{"file": "LICENSE", "licence": "Apache-2.0"}])
        self.assertEqual(self.rules(result), [("package-without-licence", "Cargo.toml", 0)])

    def test_churn_from_a_shipped_history(self):
        history = Path(self.place.name) / "history"
        history.write_text(HISTORY)
        figures = self.run_program("churn.sh", "--history", str(history))["figures"]
        self.assertEqual(figures["commits"], 2)
        self.assertEqual([d["day"] for d in figures["days"]], ["2026-01-01", "2026-01-02"])
        self.assertEqual(figures["files"][0], {"file": "src/a.py", "commits": 2, "added": 13, "removed": 1})

    def test_churn_from_git_and_from_nothing(self):
        self.assertEqual(self.run_program("churn.sh")["figures"]["source"], "none")
        git = ["git", "-C", str(self.root), "-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run([*git, "init", "-q"], check=True)
        try:
            subprocess.run([*git, "add", "good.sh"], check=True)
            subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
            figures = self.run_program("churn.sh")["figures"]
        finally:
            subprocess.run(["rm", "-rf", str(self.root / ".git")], check=True)
        self.assertEqual((figures["source"], figures["commits"]), ("git", 1))
        self.assertEqual(figures["files"][0]["file"], "good.sh")

    def test_python_hazards(self):
        found = [r[0] for r in self.rules(self.run_program("pyscan.py", "hazards"))]
        self.assertEqual(found, ["eval", "shell", "swallowed-error", "syntax"])

    def test_python_tests_and_docstrings(self):
        figures = self.run_program("pyscan.py", "tests")["figures"]
        self.assertEqual((figures["tests"], figures["checks"], figures["functions"]), (2, 1, 1))
        self.assertEqual(self.run_program("pyscan.py", "docstrings")["figures"]["undocumented"], 1)

    def test_shell_asks_the_model_with_curl(self):
        server, url = fake_openai.serve()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        result = self.run_program("secrets.sh", "--ask", "test-double", env={"OPENAI_BASE_URL": url})
        self.assertEqual(result["model"]["text"], "These words come from a test double.")
        self.assertEqual(result["model"]["completion_tokens"], 7)
        self.assertIn(result["question"], fake_openai.Handler.questions)

    def test_a_dead_engine_is_told_and_does_not_fail_the_analysis(self):
        result = self.run_program("secrets.sh", "--ask", "m", env={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
        self.assertTrue(result["model"]["error"])
        self.assertEqual(result["model"]["text"], "")


if __name__ == "__main__":
    unittest.main()
