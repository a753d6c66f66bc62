"""Pages that open from disk: style, scripts and data inlined, under a policy that is strict."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any


def assembled(package: str, scripts: Sequence[str], data: Mapping[str, Any], media: str) -> bytes:
    """`page/page.html` of a package with page.css, the scripts and the data in their places.

    What is in the data is never taken for markup or script. `media` are the policy's directives on
    pictures and videos.
    """
    folder = files(package).joinpath("page")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in scripts)
    script = f'"use strict";\n{script}'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        f"{media}; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "data": as_json(data), "script": script}
    text = folder.joinpath("page.html").read_text(encoding="utf-8")
    first, *rest = text.split("{{")
    pieces = [first]
    for piece in rest:  # one pass, so that a part may hold braces itself
        name, after = piece.split("}}", 1)
        pieces += [parts[name], after]
    return "".join(pieces).encode()


def as_json(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode(errors="replace").decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"
