"""The report as Markdown, with its pictures as files beside it."""

from html import escape

from report import page, sections
from report.sections import Code


def render(facts, parts, pictures):
    """The whole document."""
    lines = [f"# Review of {facts.team['name']}", "", page.lead(facts), ""]
    if not facts.team["isolated"]:
        lines += ["> **Made without Coconut.** These programs ran as ordinary processes: nothing was isolated, limited or recorded.", ""]
    lines += table(sections.Table("", ["#value", "what", ""], [[v, w, r] for v, w, r, _ in sections.cards(facts)]))
    for part in parts:
        lines += [f"## {part.heading}", "", " ".join(part.text), ""]
        for key in page.picture_keys(part):
            if key in pictures:
                lines += [f"![{pictures[key].title}](figures/{key}.svg)", ""]
        for data in (t for t in part.tables if t.rows):
            lines += [f"**{data.caption}**", "", *table(data)]
        lines += [f"*{facts.byline(*part.by)}.*", ""]
    lines += model_words(facts)
    lines += ["## The team", "", " ".join(sections.team_words(facts)), "", *table(sections.team_table(facts))]
    if "timeline" in pictures:
        lines += ["![When each agent worked](figures/timeline.svg)", ""]
    return "\n".join([*lines, "", page.colophon(facts), ""])


def model_words(facts):
    """Quotes, each with its label."""
    answers = list(facts.words())
    if not answers:
        return ["## What the model said", "", "No model was asked: OPENAI_BASE_URL was not set.", ""]
    lines = ["## What the model said", "", page.about_model(facts), ""]
    for agent, answer in answers:
        said = answer["text"] or f"no answer: {answer.get('error') or 'empty'}"
        lines += [f"> *written by model {answer['model']} for {agent}; not reviewed*  ",
                  f"> Asked: {quoted(answer['prompt'])}  ", f"> {quoted(said)}", ""]
    return lines


def quoted(words):
    """Words of a model on one line, with nothing in them that Markdown or HTML would act on."""
    plain = escape(" ".join(words.split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#!|~" else c for c in plain)


def table(data):
    """A pipe table."""
    if not data.rows:
        return []
    head = "| " + " | ".join(c.lstrip("#") for c in data.columns) + " |"
    rule = "|" + "|".join("--:" if c.startswith("#") else "---" for c in data.columns) + "|"
    rows = ["| " + " | ".join(cell(v) for v in row) + " |" for row in data.rows]
    return [head, rule, *rows, ""]


def cell(value):
    """A cell; a bar would end it."""
    words = str(value).replace("|", "\\|").replace("\n", " ")
    if isinstance(value, Code):
        return f"`{words.replace('`', chr(39))}`"
    return escape(words, quote=False).replace("[", "\\[")
