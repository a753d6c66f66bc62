"""Rules files: TOML over the defaults of the package, checked key by key."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from datapipe.claim import leaves
from datapipe.errors import UserError
from filters.rules import (
    PROFILE,
    PYIQA,
    AestheticRule,
    ExpressionRule,
    IdentityRule,
    PoseRule,
    RealViewRule,
    Rules,
    SharpnessRule,
    WindowRule,
    half_spacing,
)

Rule = TypeVar("Rule")
Table = dict[str, Any]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A name that TOML takes without quotes."""
_KEYS: Mapping[str, type] = {
    "minimum_views": int,
    "reference_must_pass": bool,
    "prefer_real": bool,
    "real.tolerance": float,
    "real.sharpness": float,
    "real.ratio": float,
    "real.face_size": float,
    "sharpness.minimum": float,
    "sharpness.ratio": float,
    "sharpness.reference": float,
    "expression.reference": float,
    "aesthetic.*.minimum": float,
    "aesthetic.*.reference": float,
    "pose.tolerance": float,
    "pose.profile_minimum": float,
    "pose.pitch": float,
    "pose.roll": float,
    "pose.level_to": float,
    "identity.*.curve": list,
    "identity.*.verified_to": float,
    "identity.*.judged_to": float,
    "windows.seconds": float,
    "windows.face_size": float,
    "windows.face_min": float,
    "windows.others": int,
    "windows.sharpness": float,
    "windows.yaw_span": float,
}
"""Every key of a rules file, dotted; `*` is the name of a recogniser or scorer."""
_EXPECTED = {
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    list: "a list of points [|yaw|, cosine]",
}


def default_rules_text() -> str:
    """The defaults, as the commented TOML that the package ships."""
    return files("filters").joinpath("defaults.toml").read_text(encoding="utf-8")


def load_rules(
    path: str | Path | None, *, yaws: Sequence[int], recogniser: str, aesthetic_scorer: str
) -> Rules:
    """The rules of a run: a file's values over the defaults, or for None the defaults alone.

    Raises UserError naming the file and the key that is unknown, wrong or missing.
    """
    where = "the default rules" if path is None else str(path)
    text = "" if path is None else _read(Path(path))
    return _Reader(where, text).rules(tuple(yaws), recogniser, aesthetic_scorer)


def default_identity(recogniser: str) -> IdentityRule | None:
    """The package's own rule for a recogniser, whatever the run; None where it has none."""
    defaults = _Reader("the default rules", "")
    return defaults._identity(recogniser) if recogniser in defaults._names("identity") else None


def settings(rules: Rules) -> Table:
    """Every value of resolved rules under the dotted key that it has in a file."""
    sections = (
        ("real", asdict(rules.real)),
        ("sharpness", asdict(rules.sharpness)),
        ("expression", asdict(rules.expression)),
        (f"aesthetic.{rules.aesthetic.scorer}", asdict(rules.aesthetic)),
        ("pose", asdict(rules.pose)),
        (f"identity.{rules.identity.recogniser}", asdict(rules.identity)),
        ("windows", asdict(rules.windows)),
    )
    plain = ("minimum_views", "reference_must_pass", "prefer_real")
    out: Table = {key: getattr(rules, key) for key in plain}
    for section, values in sections:
        values.pop("scorer", None)
        values.pop("recogniser", None)
        asked = {key: value for key, value in values.items() if value is not None}
        out |= {f"{section}.{key}": value for key, value in asked.items()}
    out[f"identity.{rules.identity.recogniser}.curve"] = [list(p) for p in rules.identity.curve]
    return out


def given(path: str | Path | None) -> Table:
    """What a rules file says itself, by dotted key. Raises UserError where it is not one."""
    return {} if path is None else _Reader(str(path), _read(Path(path))).given


def to_toml(rules: Rules) -> str:
    """Rules as a file that `load_rules` turns back into the same rules for the same run."""
    return as_file(settings(rules))


def as_file(values: Mapping[str, Any]) -> str:
    """Values by dotted key as TOML; what has no section has to come first."""
    lines, opened = [], ""
    for key in sorted(values, key=lambda key: key.rpartition(".")[0]):
        section, _, name = key.rpartition(".")
        if section != opened:
            names = (n if _BARE.fullmatch(n) else json.dumps(n) for n in section.split("."))
            lines.append(f"\n[{'.'.join(names)}]")
            opened = section
        lines.append(f"{name} = {json.dumps(values[key])}")
    return "\n".join(lines) + "\n"


class _Reader:
    """One rules file on its way to `Rules`; every complaint names the file."""

    def __init__(self, where: str, text: str) -> None:
        self.where = where
        try:
            self.given = leaves(tomllib.loads(text))
        except tomllib.TOMLDecodeError as wrong:
            raise UserError(f"{where} is not valid TOML: {wrong}") from wrong
        for key, value in self.given.items():
            self._check(key, value)
        self.values = leaves(tomllib.loads(default_rules_text())) | self.given

    def rules(self, yaws: tuple[int, ...], recogniser: str, scorer: str) -> Rules:
        half = half_spacing(yaws)
        self._refuse_wider_than(half)
        for name in self._names("aesthetic") - {scorer}:
            self._aesthetic(name)
        for name in self._names("identity") - {recogniser}:
            self._identity(name)
        identity = self._identity(recogniser)
        try:
            for yaw in yaws:
                identity.rests_on(yaw, yaws)
        except ValueError as wrong:
            raise UserError(f"{self.where}: identity.{recogniser}.{wrong}") from wrong
        return self._build(
            Rules,
            "",
            yaws=yaws,
            minimum_views=self._minimum_views(len(yaws)),
            reference_must_pass=self.values["reference_must_pass"],
            prefer_real=self.values["prefer_real"],
            real=self._build(RealViewRule, "real", **self._section("real")),
            sharpness=self._build(SharpnessRule, "sharpness", **self._section("sharpness")),
            expression=self._build(ExpressionRule, "expression", **self._section("expression")),
            aesthetic=self._aesthetic(scorer),
            pose=self._build(PoseRule, "pose", **self._section("pose")).within(half),
            identity=identity,
            windows=self._build(WindowRule, "windows", **self._section("windows")),
        )

    def _minimum_views(self, made: int) -> int:
        """The default asks no more of a run with few yaws than that all pass."""
        given: int | None = self.given.get("minimum_views")
        return min(self.values["minimum_views"], made) if given is None else given

    def _aesthetic(self, name: str) -> AestheticRule:
        if name.startswith(PYIQA) and name not in self._names("aesthetic"):
            return AestheticRule(name)  # nobody knows what its scores mean before calibrating
        section = self._complete("aesthetic", name, ("minimum", "reference"))
        return self._build(AestheticRule, f"aesthetic.{name}", scorer=name, **section)

    def _identity(self, name: str) -> IdentityRule:
        section = self._complete("identity", name, ("curve", "verified_to", "judged_to"))
        section["curve"] = tuple((float(yaw), float(cosine)) for yaw, cosine in section["curve"])
        return self._build(IdentityRule, f"identity.{name}", recogniser=name, **section)

    def _check(self, key: str, value: object) -> None:
        parts = key.split(".")
        starred = ".".join([parts[0], "*", *parts[2:]]) if len(parts) == 3 else key
        expected = _KEYS.get(starred)
        if expected is None:
            raise UserError(f"{self.where}: unknown key {key}{_hint(key)}")
        if not _fits(value, expected):
            raise UserError(f"{self.where}: {key} must be {_EXPECTED[expected]}, not {value!r}")

    def _refuse_wider_than(self, half: float) -> None:
        """A default yields to close yaws in silence; a value that was asked for does not."""
        tolerance = self.given.get("pose.tolerance", 0)
        if tolerance > half:
            raise UserError(
                f"{self.where}: pose.tolerance {tolerance!r} is more than half the spacing of the "
                f"run's yaws, so a view at a neighbouring yaw would pass; use {half:g} or less"
            )
        profile = self.given.get("pose.profile_minimum", PROFILE)
        if profile < PROFILE - half:
            raise UserError(
                f"{self.where}: pose.profile_minimum {profile!r} would let a neighbouring yaw pass "
                f"as 90; use {PROFILE - half:g} or more"
            )

    def _names(self, group: str) -> set[str]:
        return {key.split(".")[1] for key in self.values if key.startswith(f"{group}.")}

    def _section(self, prefix: str) -> Table:
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.values.items() if k.startswith(start)}

    def _complete(self, group: str, name: str, keys: tuple[str, ...]) -> Table:
        section = self._section(f"{group}.{name}")
        for key in keys:
            if key not in section:
                known = ", ".join(sorted(self._names(group) - {name}))
                raise UserError(
                    f"{self.where}: {group}.{name}.{key} is missing; there are rules for {known}. "
                    f"For another one, give [{group}.{name}] with {', '.join(keys)}"
                )
        return section

    def _build(self, kind: Callable[..., Rule], prefix: str, **values: Any) -> Rule:
        try:
            return kind(**values)
        except ValueError as wrong:
            raise UserError(f"{self.where}: {prefix}{'.' if prefix else ''}{wrong}") from wrong


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as wrong:
        raise UserError(f"cannot read the rules file {path}: {wrong.strerror}") from wrong
    except UnicodeDecodeError as wrong:
        raise UserError(f"{path} is not valid TOML: it is not UTF-8 text") from wrong


def _fits(value: object, expected: type) -> bool:
    if expected is float:
        return _is_number(value)
    if expected is list:
        return isinstance(value, list) and all(
            isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
            for point in value
        )
    return type(value) is expected


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _hint(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    return f"; did you mean {near[0]}?" if near else f"; the keys are {', '.join(_KEYS)}"
