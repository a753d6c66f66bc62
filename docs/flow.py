"""Draws docs/pictures/flow.svg: `python docs/flow.py`. The boxes are the stages and their files."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

BOXES = [  # column, row, title, what it does, colour
    (0, 0, "corpus", "folder, tars or manifest;\nlocal or object store", "#e8eef7"),
    (1, 0, "prepare", "CPU: sparse decode, faces,\nidentities, references", "#dff0e0"),
    (2, 0, "synthesize", "GPU or CPU: seven views\nof each identity", "#dff0e0"),
    (3, 0, "score", "sharpness · aesthetic ·\nidentity · head pose", "#dff0e0"),
    (2, 1, "candidates/", "one immutable tar each,\nput before it goes on", "#fdf3d8"),
    (3, 1, "ledger/ views/", "every video once, every\nscore, Parquet", "#fdf3d8"),
    (4, 1, "pack", "rules applied to stored\nscores: no GPU", "#f6e3ef"),
    (5, 1, "shards/", "WebDataset tars and a\nhashed manifest", "#e8eef7"),
    (5, 0, "train", "PVC trainer, four phases", "#eeeeee"),
]
ARROWS = [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (5, 6), (4, 6), (6, 7), (7, 8)]
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 186, 78, 34, 56, 16


def box(column: int, row: int) -> tuple[int, int]:
    """Left and top of a box."""
    return MARGIN + column * (WIDTH + GAP_X), MARGIN + 26 + row * (HEIGHT + GAP_Y)


def arrow(source: int, target: int) -> str:
    """A line between the nearest sides of two boxes."""
    (a, b), (c, d) = box(*BOXES[source][:2]), box(*BOXES[target][:2])
    if (source, target) == (4, 6):  # past the ledger, underneath
        low = b + HEIGHT + 22
        path = f"M{a + WIDTH / 2},{b + HEIGHT} V{low} H{c + WIDTH / 2} V{d + HEIGHT}"
        return f'<path d="{path}" class="line"/>'
    if b == d:
        ends = (a + WIDTH, b + HEIGHT / 2, c, d + HEIGHT / 2)
    elif d > b:
        ends = (a + WIDTH / 2, b + HEIGHT, c + WIDTH / 2, d)
    else:
        ends = (a + WIDTH / 2, b, c + WIDTH / 2, d + HEIGHT)
    return '<path d="M{:.0f},{:.0f} L{:.0f},{:.0f}" class="line"/>'.format(*ends)


def draw() -> str:
    """The whole picture as SVG."""
    wide, tall = box(5, 0)[0] + WIDTH + MARGIN, box(0, 1)[1] + HEIGHT + 22 + MARGIN
    left, right = box(1, 0)[0] - 10, box(3, 0)[0] + WIDTH + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" '
        'font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#555"/></marker></defs>',
        "<style>.line{stroke:#555;stroke-width:1.6;fill:none;marker-end:url(#tip)}</style>",
        f'<rect width="{wide}" height="{tall}" fill="white"/>',
        f'<rect x="{left}" y="{MARGIN}" width="{right - left}" height="{HEIGHT + 36}" rx="10" '
        'fill="none" stroke="#9bbf9d" stroke-dasharray="5 4"/>',
        f'<text x="{left + 10}" y="{MARGIN + 18}" font-size="13" fill="#4d7a50">'
        "Ray Data: consecutive stages on one kind of device share an actor pool; "
        "1 to 32 samples a block</text>",
    ]
    for column, row, title, text, colour in BOXES:
        x, y = box(column, row)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{colour}" '
            'stroke="#888"/>'
            f'<text x="{x + 12}" y="{y + 24}" font-size="16" font-weight="bold">{escape(title)}'
            "</text>"
        )
        for number, line in enumerate(text.split("\n")):
            parts.append(
                f'<text x="{x + 12}" y="{y + 45 + 17 * number}" font-size="12.5" fill="#333">'
                f"{escape(line)}</text>"
            )
    parts += [arrow(*pair) for pair in ARROWS]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (Path(__file__).parent / "pictures" / "flow.svg").write_text(draw())
