"""Squarified treemap layout (Bruls, Huizing, van Wijk 2000): areas in proportion, tiles near to squares."""


def layout(sizes, x, y, w, h):
    """Rectangles (x, y, w, h) for sizes in descending order, filling the given one."""
    total = sum(sizes)
    if not sizes or total <= 0:
        return []
    scale = w * h / total
    areas = [s * scale for s in sizes]
    out = []
    while areas:
        row = [areas.pop(0)]
        side = min(w, h)
        while areas and worst([*row, areas[0]], side) <= worst(row, side):
            row.append(areas.pop(0))
        x, y, w, h = place(row, x, y, w, h, out)
    return out


def worst(row, side):
    """The largest ratio of sides in a row laid along `side`."""
    total = sum(row)
    return max(max(side * side * a / (total * total), total * total / (side * side * a)) for a in row)


def place(row, x, y, w, h, out):
    """Lays a row along the shorter side; returns what is left of the rectangle."""
    total = sum(row)
    if w >= h:
        thick = total / h
        at = y
        for area in row:
            out.append((x, at, thick, area / thick))
            at += area / thick
        return x + thick, y, w - thick, h
    thick = total / w
    at = x
    for area in row:
        out.append((at, y, area / thick, thick))
        at += area / thick
    return x, y + thick, w, h - thick
