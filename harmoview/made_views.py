"""The views that identities lack, made by a view engine before the video model is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.line.stages import view_seed
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.record import YAWS
from datapipe.stage import ViewSynthesizer
from harmoview.orders import Order


def with_views(
    orders: Sequence[Order],
    engine: ViewSynthesizer,
    folder: Folder,
    told: Callable[[str], object] = lambda line: None,
) -> list[Order]:
    """Return the orders with every view that a person with a frontal picture lacks.

    Views are made once for each person and kept in `folder`, as ID/reference.jpg and
    ID/yaw-90.jpg … yaw+90.jpg, where a later call finds them; ID names the frontal picture and what
    makes the views. They are the same however often this is called. `told` is given a line for each
    person. Raises UserError where the engine lacks something or refuses a picture.
    """
    made_by = json.dumps(engine.provenance(), sort_keys=True)
    maker = _ViewMaker(engine, folder, told)
    filled = []
    for order in orders:
        people = []
        for number, own in enumerate(order.pictures):
            wanted = [yaw for yaw in YAWS if yaw not in own] if 0 in own else []
            called = order.people[number] if number < len(order.people) else order.name
            people.append({**maker.views(own, wanted, made_by, called), **own} if wanted else own)
        filled.append(replace(order, pictures=tuple(people)))
    return filled


class _ViewMaker:
    """Makes views and remembers them; the engine is loaded when the first is missing."""

    def __init__(
        self, engine: ViewSynthesizer, folder: Folder, told: Callable[[str], object]
    ) -> None:
        self._engine, self._folder, self._told = engine, folder, told
        self._ready = False
        self._known: dict[tuple[str, int], bytes] = {}

    def views(
        self, own: Mapping[int, bytes], yaws: Sequence[int], made_by: str, called: str
    ) -> dict[int, bytes]:
        person = hashlib.sha256(own[0] + made_by.encode()).hexdigest()[:16]
        folder = self._folder.folder(person)
        there = set(folder.names("*.jpg"))
        for yaw in yaws:
            if (person, yaw) not in self._known and _name(yaw) in there:
                self._known[person, yaw] = folder.read(_name(yaw))
        if todo := [yaw for yaw in yaws if (person, yaw) not in self._known]:
            self._make(own[0], person, todo, called)
            for yaw in todo:
                folder.put(_name(yaw), self._known[person, yaw])
            folder.put("reference.jpg", own[0])
            self._told(f"{called}: {len(todo)} views made, in {folder.url}")
        return {yaw: self._known[person, yaw] for yaw in yaws}

    def _make(self, reference: bytes, person: str, yaws: Sequence[int], called: str) -> None:
        if not self._ready:
            self._engine.setup()
            self._ready = True
        seeds = [view_seed(0, person, 0, yaw) for yaw in yaws]
        try:
            made = self._engine(decode_jpeg(reference), yaws, seeds)
        except BadSample as bad:
            raise UserError(f"no views can be made of {called}: {bad}") from bad
        for yaw, view in zip(yaws, made, strict=True):
            self._known[person, yaw] = encode_jpeg(view)


def _name(yaw: int) -> str:
    return f"yaw{yaw:+03d}.jpg"
