#!/usr/bin/python3 -sBP
# -s -P: nothing of the user's and nothing beside this script is imported; -B: nothing is written there.
"""Looks at Python code with the standard library's own parser and asks a model with the official openai package.

    pyscan.py review|hazards|tests|docstrings --root DIR --out FILE --agent NAME [--ask MODEL] [PATH…]

An ordinary program: it reads the paths that it is given, talks to OPENAI_BASE_URL and writes one JSON file.
"""

import argparse
import ast
import gc
import json
import os
import subprocess
import sys
import tokenize
from pathlib import Path

SKIPPED = {"target", "node_modules", "__pycache__", "venv", ".git", ".cache", "vendor"}
MOST_FINDINGS = 40
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension,
            ast.BoolOp, ast.match_case)
COMPLEX = 12
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def finding(severity, rule, file, line, text):
    """One thing at one place, as every agent of the team writes it."""
    return {"severity": severity, "rule": rule, "file": file, "line": line, "text": text}


def python_files(root, paths):
    """Yields (name, tree, text) of each Python file below the paths; a file that does not parse has no tree."""
    for path in [root / p for p in paths] or [root]:
        for file in sorted(walk(path)):
            try:
                with tokenize.open(file) as stream:
                    text = stream.read()
            except (SyntaxError, UnicodeDecodeError):
                continue
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError):
                tree = None
            yield str(file.relative_to(root)), tree, text


def walk(path):
    """All Python files below a path, by their name or their first line."""
    if path.is_file():
        if is_python(path):
            yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = [f for f in folders if f not in SKIPPED]
        for file in (Path(folder, f) for f in files):
            if is_python(file):
                yield file


def is_python(path):
    if path.suffix:
        return path.suffix in (".py", ".pyi")
    with open(path, "rb") as stream:
        first = stream.read(64)
    return first.startswith(b"#!") and b"python" in first.splitlines()[0]


def call_name(node):
    """`subprocess.run` for a call of it; empty for a call of anything computed."""
    parts = []
    target = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if not isinstance(target, ast.Name):
        return ""
    return ".".join([target.id, *reversed(parts)])


def hazards(root, paths):
    """A security auditor: calls that run text as a program, and errors that are swallowed."""
    findings, files, calls = [], 0, 0
    for name, tree, _ in python_files(root, paths):
        files += 1
        if tree is None:
            findings.append(finding("high", "syntax", name, 0, "does not parse as Python"))
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                calls += 1
                findings += hazardous_call(name, node)
            elif isinstance(node, ast.ExceptHandler) and is_swallowed(node):
                findings.append(finding("low", "swallowed-error", name, node.lineno,
                                        "catches everything and does nothing"))
    figures = {"files": files, "calls": calls, "hits": len(findings)}
    headline = f"{calls} calls in {files} Python files: {len(findings)} hazards"
    question = f"{len(findings)} hazardous calls in {files} Python files. Which kind is worst?"
    return headline, figures, findings, question


def hazardous_call(name, node):
    called = call_name(node)
    keywords = {k.arg: k.value for k in node.keywords}
    if called in ("eval", "exec"):
        return [finding("high", "eval", name, node.lineno, f"`{called}` runs text as code")]
    if called in ("pickle.load", "pickle.loads", "marshal.loads"):
        return [finding("high", "unsafe-load", name, node.lineno, f"`{called}` runs what it reads")]
    if called == "yaml.load" and "Loader" not in keywords:
        return [finding("high", "unsafe-load", name, node.lineno, "`yaml.load` without a loader")]
    if called in ("os.system", "os.popen"):
        return [finding("medium", "shell", name, node.lineno, f"`{called}` goes through a shell")]
    shell = keywords.get("shell")
    if called.startswith("subprocess.") and isinstance(shell, ast.Constant) and shell.value is True:
        return [finding("medium", "shell", name, node.lineno, f"`{called}` goes through a shell")]
    if called == "tempfile.mktemp":
        return [finding("medium", "race", name, node.lineno, "`mktemp` names a file that another may make first")]
    return []


def is_swallowed(node):
    everything = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
    return everything and all(isinstance(n, ast.Pass) for n in node.body)


def tests(root, paths):
    """A test analyst: test functions, assertions in them, and code without any."""
    rows, findings, total, asserts, functions = [], [], 0, 0, 0
    for name, tree, text in python_files(root, paths):
        if tree is None:
            continue
        own = [n for n in ast.walk(tree) if isinstance(n, FUNCTIONS) and n.name.startswith("test_")]
        checks = sum(count_checks(n) for n in own)
        plain = sum(isinstance(n, FUNCTIONS) for n in ast.walk(tree)) - len(own)
        total, asserts, functions = total + len(own), asserts + checks, functions + plain
        rows.append({"file": name, "tests": len(own), "checks": checks, "functions": plain})
        for test in own:
            if count_checks(test) == 0:
                findings.append(finding("low", "test-without-check", name, test.lineno, f"`{test.name}` asserts nothing"))
    if functions >= 10 and total == 0:
        findings.append(finding("medium", "no-python-tests", "", 0, f"{functions} Python functions and no test"))
    figures = {"tests": total, "checks": asserts, "functions": functions, "files": rows[:60]}
    headline = f"{total} Python tests with {asserts} checks for {functions} functions"
    return headline, figures, findings, f"{total} tests for {functions} Python functions. What is a good next test?"


def count_checks(node):
    named = (n for n in ast.walk(node) if isinstance(n, ast.Call))
    return sum(isinstance(n, ast.Assert) for n in ast.walk(node)) + sum(
        (call_name(n).split(".")[-1] or "").startswith(("assert", "raises", "fail")) for n in named)


def docstrings(root, paths):
    """A documenter: public functions and classes without a docstring."""
    findings, public, silent, files = [], 0, 0, 0
    for name, tree, text in python_files(root, paths):
        if tree is None or not text.strip():
            continue
        files += 1
        if ast.get_docstring(tree) is None:
            findings.append(finding("low", "file-without-purpose", name, 1, "the file does not say what it is for"))
        for node in ast.walk(tree):
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith(("_", "test_")):
                continue
            public += 1
            if ast.get_docstring(node) is None:
                silent += 1
                findings.append(finding("low", "missing-doc", name, node.lineno, f"`{node.name}` has no docstring"))
    figures = {"files": files, "public": public, "undocumented": silent}
    headline = f"{silent} of {public} Python functions and classes have no docstring"
    question = f"{silent} of {public} Python functions lack a docstring. Which need one first?"
    return headline, figures, findings, question


def review(root, modules):
    """A reviewer: treescan's figures of its modules, and the complexity of the Python functions in them."""
    here = Path(__file__).resolve().parent
    tool = os.environ.get("TREESCAN", str(here.parent / "treescan"))
    command = [tool, "review", "--root", str(root)]
    for module in modules:
        command += ["--module", module]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    paths = [p for m in modules for p in m.split(":", 1)[1].split(",")]
    hardest = []
    for name, tree, _ in python_files(root, paths):
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, FUNCTIONS):
                branches = 1 + sum(isinstance(n, BRANCHES) for n in ast.walk(node))
                hardest.append({"file": name, "line": node.lineno, "name": node.name, "branches": branches})
                if branches > COMPLEX:
                    result["findings"].append(finding("low", "complex-function", name, node.lineno,
                                                      f"`{node.name}` has {branches} branches"))
    result["figures"]["most_branches"] = sorted(hardest, key=lambda f: -f["branches"])[:10]
    return result["headline"], result["figures"], result["findings"], result["question"]


def ask(model, question):
    """Asks the model; what goes wrong is told in the answer and is no failure of the analysis."""
    answer = {"model": model, "prompt": question, "text": "", "prompt_tokens": 0, "completion_tokens": 0, "error": None}
    try:
        import openai

        client = openai.OpenAI(timeout=1800, max_retries=1)
        reply = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=24, temperature=0.7)
    except ImportError as error:
        answer["error"] = f"the openai package is not installed: {error}"
    except openai.OpenAIError as error:
        answer["error"] = str(error)
    else:
        answer["model"] = reply.model
        answer["text"] = (reply.choices[0].message.content or "").strip()
        if reply.usage:
            answer["prompt_tokens"] = reply.usage.prompt_tokens
            answer["completion_tokens"] = reply.usage.completion_tokens
    return answer


ANALYSES = {"hazards": hazards, "tests": tests, "docstrings": docstrings}


def main():
    """Runs one analysis and writes its result."""
    # Importing openai makes objects that all stay; looking again and again which of them are garbage takes a
    # fifth of the time.
    gc.disable()
    parser = argparse.ArgumentParser(description="Measures Python code and writes figures and findings as JSON")
    parser.add_argument("analysis", choices=["review", *ANALYSES])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--ask", metavar="MODEL")
    parser.add_argument("--module", action="append", default=[], metavar="NAME:PATH,PATH")
    parser.add_argument("paths", nargs="*")
    args = parser.parse_intermixed_args()
    if args.analysis == "review":
        headline, figures, findings, question = review(args.root, args.module)
    else:
        headline, figures, findings, question = ANALYSES[args.analysis](args.root, args.paths)
    order = ["high", "medium", "low"]
    findings.sort(key=lambda f: order.index(f["severity"]))
    result = {
        "schema": 1, "agent": args.agent, "program": "python", "analysis": args.analysis, "headline": headline,
        "figures": figures, "findings": findings[:MOST_FINDINGS], "question": question,
        "model": ask(args.ask, question) if args.ask else None,
    }
    args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(headline)


if __name__ == "__main__":
    main()
    # Everything is written. The system takes the memory back at once; the interpreter would take it apart piece by piece.
    sys.stdout.flush()
    os._exit(0)
