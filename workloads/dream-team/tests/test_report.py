"""The report: complete with all facts, honest with few, and deaf to what a model or a file name tries to inject."""

import json
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))
from report import charts, markdown, page, sections, treemap  # noqa: E402
from report.facts import Facts  # noqa: E402

EVIL = '<script>alert(1)</script> `x` | [a](javascript:1) <img src=x>'


def row(name, program="shell", **more):
    facts = {"name": name, "role": name.split("-")[0], "title": "t", "program": program, "scope": "the tree", "exit": 0,
             "began": 1.0, "seconds": 2.0, "headline": "h", "model": None, "tokens": None, "counted_by": "the endpoint",
             "denials": 0, "uses": 1, "aid": None, "state": "terminated-clean"}
    return {**facts, **more}


OPEN = []


class Folder:
    """A work folder with a team and results."""

    def __init__(self, rows, results, **team):
        self.place = tempfile.TemporaryDirectory()
        work = Path(self.place.name)
        (work / "coordinator").mkdir()
        book = {"schema": 1, "input": "/src", "name": "tree", "started": "2026-01-01T00:00:00+00:00", "seconds": 9.0,
                "isolated": True, "model": "m", "agents": rows, "failed": [], "denials": 0, **team}
        (work / "coordinator" / "team.json").write_text(json.dumps(book))
        for name, result in results.items():
            (work / name).mkdir(exist_ok=True)
            (work / name / "result.json").write_text(json.dumps(result))
        self.facts = Facts(work)
        OPEN.append(self.place)

    def page(self):
        pictures = charts.draw(self.facts)
        return page.render(self.facts, sections.build(self.facts), pictures)

    def markdown(self):
        return markdown.render(self.facts, sections.build(self.facts), charts.draw(self.facts))


LANGUAGES = {"program": "rust", "headline": "2 files", "findings": [], "figures": {
    "files": 2, "other_files": 1, "bytes": 9, "lines": {"code": 5, "comment": 1, "blank": 0},
    "languages": [{"name": "Rust", "kind": "code", "files": 2, "code": 5, "comment": 1, "blank": 0}], "file_sizes": []}}


class Report(unittest.TestCase):
    def tearDown(self):
        while OPEN:
            OPEN.pop().cleanup()

    def test_without_any_result_every_section_says_so(self):
        text = Folder([row("coordinator", "python")], {}).page()
        self.assertIn("surveyor-languages gave no result", text)
        self.assertNotIn("Traceback", text)

    def test_model_text_is_labelled_and_cannot_inject(self):
        answer = {"model": "coconut-tiny-bigram", "prompt": "Q", "text": EVIL, "prompt_tokens": 1, "completion_tokens": 2}
        folder = Folder([row("coordinator", "python", model=answer)], {}, model="coconut-tiny-bigram")
        html, text = folder.page(), folder.markdown()
        self.assertNotIn("<script", html)
        self.assertNotIn("<img", html)
        self.assertIn("written by model coconut-tiny-bigram for coordinator; not reviewed", html)
        self.assertIn("understands nothing", html)
        self.assertNotIn("<script", text)
        self.assertNotIn("[a](", text)
        self.assertIn("written by model coconut-tiny-bigram for coordinator; not reviewed", text)

    def test_a_finding_cannot_inject(self):
        found = {"program": "shell", "headline": "1 finding", "findings": [], "figures": {"total": 1, "severities": [
            {"severity": "high", "findings": 1}], "rules": [{"rule": EVIL, "severity": "high", "findings": 1}],
            "list": [{"severity": "high", "rule": EVIL, "file": EVIL, "line": 1, "text": EVIL, "agent": "a"}]}}
        folder = Folder([row("integrator-findings")], {"integrator-findings": found})
        self.assertNotIn("<script", folder.page())
        self.assertNotIn("<script", re.sub("`[^`]*`", "", folder.markdown()))
        ET.fromstring(charts.draw(folder.facts)["findings"].file())

    def test_a_run_without_isolation_says_so_first(self):
        folder = Folder([row("coordinator", "python")], {}, isolated=False, denials=None)
        self.assertIn("Made without Coconut", folder.page())
        self.assertIn("Made without Coconut", folder.markdown())
        self.assertNotIn("Made without Coconut", Folder([row("coordinator", "python")], {}).page())

    def test_denials_and_failures_are_told(self):
        text = Folder([row("a", denials=3)], {}, denials=3, failed=["a"]).page()
        self.assertIn("3 operations were refused", text)
        self.assertIn("1 agent failed: a", text)

    def test_pictures_are_well_formed_and_described(self):
        folder = Folder([row("a"), row("surveyor-languages", "rust")], {"surveyor-languages": LANGUAGES})
        pictures = charts.draw(folder.facts)
        self.assertEqual(set(pictures), {"languages", "timeline"})
        for picture in pictures.values():
            root = ET.fromstring(picture.file())
            self.assertEqual(root.get("role"), "img")
            self.assertTrue(root.find("{http://www.w3.org/2000/svg}title").text)

    def test_the_page_needs_no_network_and_no_script(self):
        text = Folder([row("surveyor-languages", "rust")], {"surveyor-languages": LANGUAGES}).page()
        for word in ("<script", "http://", "https://", "<link", "url("):
            self.assertNotIn(word, text)


class Treemap(unittest.TestCase):
    def test_areas_are_in_proportion_and_inside(self):
        sizes = [60, 25, 10, 4, 1]
        tiles = treemap.layout(sizes, 0, 0, 200, 100)
        self.assertEqual(len(tiles), len(sizes))
        for size, (x, y, w, h) in zip(sizes, tiles):
            self.assertAlmostEqual(w * h, 20000 * size / 100, places=3)
            self.assertTrue(x >= -1e-6 and y >= -1e-6 and x + w <= 200 + 1e-6 and y + h <= 100 + 1e-6)

    def test_tiles_do_not_overlap(self):
        tiles = treemap.layout([9, 7, 5, 3, 3, 2, 1, 1], 0, 0, 300, 200)
        for i, (ax, ay, aw, ah) in enumerate(tiles):
            for bx, by, bw, bh in tiles[i + 1:]:
                wide = min(ax + aw, bx + bw) - max(ax, bx)
                high = min(ay + ah, by + bh) - max(ay, by)
                self.assertFalse(wide > 1e-6 and high > 1e-6)


if __name__ == "__main__":
    unittest.main()
