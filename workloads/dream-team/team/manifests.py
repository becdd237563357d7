"""A child's manifest: exactly what one member needs, written by the coordinator."""

import json

from team.plan import MEBIBYTE

TENANT = "dream-team"


def text(value):
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value), ensure_ascii=False)


def array(values):
    """A TOML array of strings, one a line."""
    if not values:
        return "[]"
    return "[\n" + "".join(f"    {text(v)},\n" for v in values) + "]"


def manifest(member, site):
    """The member's manifest. Every right in it is one that the coordinator holds."""
    own = site.work / member.name
    reads = [*(f"@{p}" for p in member.profiles), *member.reads, str(own)]
    lines = [
        f"# {member.name}: {member.title}. Written by the coordinator; a child may hold only what its parent holds.",
        "[agent]",
        f"name = {text(member.name)}",
        f"tenant = {text(TENANT)}",
        f"command = {array(member.command)}",
        f"cwd = {text(own)}",
        f'env = {{ LC_ALL = "C.UTF-8", HOME = {text(own)} }}',
        "",
        "[capabilities]",
        f'"fs.read" = {array(reads)}',
        f'"fs.write" = {array([own, *member.writes])}',
    ]
    if member.executes:
        lines.append(f'"fs.exec" = {array(member.executes)}')
    if "--ask" in member.command:
        lines.append('infer = { models = ["*"], tokens_per_minute = 6000, concurrency = 1 }')
    lines += ["", "[lane]", f"weight = {member.weight}", "", "[memory]",
              f'ram = "{MEBIBYTE[member.program]}MiB"', ""]
    return "\n".join(lines)
