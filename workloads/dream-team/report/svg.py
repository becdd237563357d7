"""Small SVG pieces. Colours are classes, so that one picture serves light, dark and paper."""

from html import escape

WIDTH = 820
FONT = 12.5
# Mean width of a letter in the interface's font, as a part of its size; measured wide enough for capitals.
LETTER = 0.56

STYLE = """
.svg-text{fill:#24292e}.svg-soft{fill:#646c75}.svg-inverse{fill:#fff}.svg-line{stroke:#d9dee3}.svg-track{fill:#eef1f3}
.c-a{fill:#0b6e69}.c-b{fill:#5fb3a8}.c-c{fill:#cfe5e1}.c-warm{fill:#c2571a}.c-gold{fill:#d9a03f}.c-grey{fill:#98a2ab}
.t-0{fill:#e3eeec}.t-1{fill:#bfdcd7}.t-2{fill:#8cc3ba}.t-3{fill:#3e968c}.t-4{fill:#0b6e69}
.p-rust{fill:#c2571a}.p-shell{fill:#0b6e69}.p-python{fill:#4a67b0}
"""
DARK = """
.svg-text{fill:#e6e9ec}.svg-soft{fill:#a3acb5}.svg-inverse{fill:#fff}.svg-line{stroke:#3a424a}.svg-track{fill:#262c32}
.c-a{fill:#3fb8aa}.c-b{fill:#23786f}.c-c{fill:#1f4a46}.c-warm{fill:#e8884e}.c-gold{fill:#d9a945}.c-grey{fill:#6d7780}
.t-0{fill:#223331}.t-1{fill:#21504b}.t-2{fill:#217068}.t-3{fill:#259186}.t-4{fill:#2fb1a3}
.p-rust{fill:#e8884e}.p-shell{fill:#3fb8aa}.p-python{fill:#8ea6e6}
"""


def width_of(text, size=FONT):
    """About how wide a text is."""
    return len(text) * size * LETTER


def shorten(text, room, size=FONT):
    """Cuts a path in its middle, so that its beginning and its end stay readable."""
    fits = max(4, int(room / (size * LETTER)))
    if len(text) <= fits:
        return text
    tail = (fits - 1) * 2 // 3
    return f"{text[: fits - 1 - tail]}…{text[-tail:]}"


def text(x, y, words, kind="svg-text", anchor="start", size=FONT, weight=None, turn=None):
    """A line of text."""
    extra = f' font-weight="{weight}"' if weight else ""
    extra += f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" font-size="{size}" text-anchor="{anchor}"{extra}>'
            f"{escape(words)}</text>")


def rect(x, y, w, h, kind, tip=None, round_by=2):
    """A rectangle, with a tip that says what it stands for."""
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{max(h, 0):.1f}" rx="{round_by}" '
            f'class="{kind}">{inner}</rect>')


def line(x1, y1, x2, y2):
    """A thin rule."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="svg-line"/>'


def legend(x, y, entries):
    """Squares with names, from left to right."""
    parts = []
    for kind, name in entries:
        parts += [rect(x, y - 9, 11, 11, kind), text(x + 16, y, name, "svg-soft", size=12)]
        x += 34 + width_of(name, 12)
    return "".join(parts)


class Picture:
    """One drawing: what it shows in words, its height, its shapes."""

    def __init__(self, key, title, description, height, shapes):
        self.key = key
        self.title = title
        self.description = description
        self.height = height
        self.shapes = shapes

    def body(self, attributes=""):
        """The drawing as an element; `attributes` are put into its opening tag."""
        return (f'<svg {attributes}viewBox="0 0 {WIDTH} {self.height:.0f}" role="img" '
                f'aria-labelledby="{self.key}-title {self.key}-desc" font-family="system-ui, sans-serif">'
                f'<title id="{self.key}-title">{escape(self.title)}</title>'
                f'<desc id="{self.key}-desc">{escape(self.description)}</desc>{"".join(self.shapes)}</svg>')

    def file(self):
        """The drawing as a file of its own, for the Markdown report."""
        style = f"<style>{STYLE}@media (prefers-color-scheme:dark){{{DARK}}}</style>"
        element = self.body(f'xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height:.0f}" ')
        return element.replace("<title", style + "<title", 1)
