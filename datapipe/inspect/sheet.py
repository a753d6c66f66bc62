"""The contact sheet of a run: some of its identities, with what the rules say of every view."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datapipe.files import Folder
from datapipe.inspect.sheet_drawing import IdentityNotes, Row, SheetLine, draw_sheet, jpeg
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from datapipe.run.tables import tables

Explain = Callable[[Sequence[Row], Sequence[Row]], Sequence[IdentityNotes]]
"""The rules in words: one sample's rows of references and of views in, notes by identity out."""


def contact_sheet(run: Folder, explain: Explain, samples: int) -> bytes:
    """A JPEG of up to `samples` candidates, and of the videos that never became one.

    Where there are more, the ones shown are spread over the run; the same ones each time.
    Raises UserError when the run cannot be read.
    """
    info = load_info(run)
    with tables(run, info) as connection:

        def rows(query: str, *values: object) -> list[Row]:
            table = connection.sql(query, params=list(values)).to_arrow_table()
            return list(table.to_pylist())

        where = "SELECT * FROM ledger WHERE outcome"
        spread = "ORDER BY md5(key), key LIMIT ?"
        candidates = rows(f"{where} = 'candidate' {spread}", samples)
        stopped = rows(f"{where} <> 'candidate' {spread}", samples)
        keys = sorted(row["key"] for row in candidates)
        within = "WHERE list_contains(?, key) ORDER BY key, identity"
        references = rows(f"SELECT * EXCLUDE (embedding) FROM refs {within}", keys)
        views = rows(f"SELECT * FROM views {within}, yaw", keys)
    store = CandidateStore(run, info.settings_hash)
    lines = []
    for row in sorted(candidates, key=lambda row: str(row["key"])):
        lines += _lines(row, references, views, explain, store)
    title = f"{run.url.rsplit('/', 1)[-1]}: {len(candidates)} candidates, {len(lines)} identities"
    return jpeg(draw_sheet(title, lines, sorted(stopped, key=lambda row: str(row["key"]))))


def _lines(
    row: Row,
    references: Sequence[Row],
    views: Sequence[Row],
    explain: Explain,
    store: CandidateStore,
) -> list[SheetLine]:
    key = row["key"]
    own = [reference for reference in references if reference["key"] == key]
    made = [view for view in views if view["key"] == key]
    try:
        pictures: Sequence[Pictures | None] = store.read(row["candidate"]).pictures
    except (FileNotFoundError, DamagedCandidate):
        pictures = [None] * len(own)
    return [
        SheetLine(
            key=key,
            index=index,
            notes=notes,
            pictures=shown,
            reference=own[index],
            measured={view["yaw"]: view for view in made if view["identity"] == index},
        )
        for index, (notes, shown) in enumerate(zip(explain(own, made), pictures, strict=True))
    ]
