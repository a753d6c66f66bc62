"""The arguments of a command as its settings class declares them: read, checked, told apart."""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

TRUTH = ["true", "false"]
Settings = TypeVar("Settings")
Given = dict[str, list[str]]
"""The words given for each argument, by its name; a switch has True or False."""
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}
_FORMS = {"INT": "N", "FLOAT": "X", "STR": "TEXT", "PATH": "PATH"}
_CONFIG = type(tyro.conf.arg())
_NEAR = 0.6
"""Likeness from which another name is suggested, as `difflib` measures it."""


@dataclass(frozen=True)
class Argument:
    """One option, switch or positional argument."""

    name: str
    """As in a settings file: the option's without its dashes, or the field's of a positional."""
    field: str
    """Where the value is in the settings, with dots."""
    of: type
    """The dataclass that declares it."""
    help: str
    default: Any
    """`tyro.MISSING_NONPROP` where there is none."""
    positional: bool
    switch: bool
    """Whether it takes no value."""
    metavar: str
    """The form of its values, in words of tyro or of its own."""
    spec: PrimitiveConstructorSpec[Any]
    """How tyro makes a value of words."""

    @property
    def many(self) -> bool:
        """Whether it takes any number of values."""
        return self.spec.nargs == "*"

    @property
    def required(self) -> bool:
        return self.default is tyro.MISSING_NONPROP

    @property
    def choices(self) -> list[str]:
        """The words that it takes, in order; none where others do too."""
        listed = re.findall(r"\{([\w,.:-]+)\}", self.metavar)
        words = [word for each in listed for word in each.split(",")]
        if set(words) - {"None"} == {"True", "False"}:
            return TRUTH
        return [word for word in words if word != "None"]

    @property
    def shown(self) -> str:
        """As messages name it."""
        return self.form if self.positional else f"--{self.name}"

    @property
    def form(self) -> str:
        """The form of its values, in words for people."""
        metavar = self.metavar.removeprefix("{None}|")
        if self.choices:
            return "|".join(self.choices) + " …" * self.many
        kind = re.search(r"\b(INT|FLOAT|STR|PATH)\b", metavar)
        if self.many and kind:
            return f"{_FORMS[kind[1]]} …"
        return _FORMS.get(metavar, metavar)

    def value(self, words: Sequence[str]) -> Any:
        """What the words mean. Raises ValueError naming the argument where they mean nothing."""
        if self.switch:
            return words[0] == "True"
        if not self.many and len(words) != 1:
            raise ValueError(f"{self.shown} takes one value, not {len(words)}")
        if self.choices == TRUTH:
            words = [word.capitalize() if word in TRUTH else word for word in words]
        for word in words:
            if self.choices and word not in (*self.choices, "None", "True", "False"):
                near = difflib.get_close_matches(word, self.choices, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                what = self.name if self.positional else self.shown
                raise ValueError(f"{what} takes {_or(self.choices)}, not {word!r}{hint}")
        try:
            return self.spec.instance_from_str(list(words))
        except ValueError as wrong:
            kind = next((_KINDS[kind] for kind in _KINDS if kind in self.metavar), "")
            said = f"takes {kind}" if kind else "does not take"
            if self.many and kind:
                said = f"takes {kind.removeprefix('a ')}s with spaces between them"
            quoted = " ".join(map(repr, words))
            raise ValueError(f"{self.shown} {said}{', not' * bool(kind)} {quoted}") from wrong


def arguments(settings: type) -> dict[str, Argument]:
    """The arguments of a settings class by their names: its own, then those of its parts."""
    return {each.name: each for each in _declared(settings, tyro.MISSING_NONPROP, "", "")}


def _declared(of: type, whole: Any, path: str, prefix: str | None) -> Iterator[Argument]:
    """Yield the arguments of a dataclass, then those of the dataclasses that it holds.

    `whole` is its default, `path` the place of its fields, and `prefix` what stands before their
    names; None leaves that out for all below.
    """
    parts = ConstructorRegistry.get_struct_spec(StructTypeInfo.make(of, whole, False))
    assert isinstance(parts, StructConstructorSpec), of
    held: list[Iterator[Argument]] = []
    for part in parts.fields:
        marked = get_origin(part.type) is Annotated
        kind, *marks = get_args(part.type) if marked else [part.type]
        given: Any = next((mark for mark in marks if isinstance(mark, _CONFIG)), tyro.conf.arg())
        own = part.name.replace("_", "-") if given.name is None else given.name
        name = ".".join(filter(None, [prefix, own]))
        if is_dataclass(kind):
            below = None if prefix is None or tyro.conf.OmitArgPrefixes in marks else name
            held.append(_declared(cast(type, kind), part.default, f"{path}{part.name}.", below))
        else:
            spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
            assert isinstance(spec, PrimitiveConstructorSpec), part
            told = part.helptext() if callable(part.helptext) else part.helptext
            positional = tyro.conf.Positional in marks
            switch = kind is bool and not positional and tyro.conf.FlagConversionOff not in marks
            yield Argument(
                name=name,
                field=path + part.name,
                of=of,
                help=" ".join((told or "").split()),
                default=part.default,
                positional=positional,
                switch=switch and isinstance(part.default, bool),
                metavar=given.metavar or ("" if switch else spec.metavar),
                spec=spec,
            )
    for arguments_of_part in held:
        yield from arguments_of_part


def parse(argv: Sequence[str], known: Mapping[str, Argument]) -> Given:
    """What a command line gives. Raises ValueError in a sentence where it is mistyped.

    `--no-NAME` takes a switch back that a settings file gives.
    """
    given: Given = {}
    loose: list[str] = []
    left = deque(argv)
    while left:
        word = left.popleft()
        if word == "--":
            loose.extend(left)
            break
        if _is_option(word):
            name, words = _option(word, left, known)
            given[name] = words
        else:
            loose.append(word)
    return _placed(loose, known) | given


def _option(word: str, left: deque[str], known: Mapping[str, Argument]) -> tuple[str, list[str]]:
    """The name that a word gives, and the words for it, which are taken from those left."""
    text, has_value, value = word.partition("=")
    name = text.lstrip("-").replace("_", "-")
    off = known.get(name.removeprefix("no-"))
    if name not in known and off is not None and off.switch and not has_value:
        return off.name, ["False"]
    if name not in known or known[name].positional or not text.startswith("--"):
        raise ValueError(unknown(name, known))
    argument = known[name]
    if argument.switch:
        if has_value:
            raise ValueError(f"--{name} takes no value")
        return name, ["True"]
    words = [value] if has_value else []
    while left and not _is_option(left[0]) and (argument.many or not words):
        words.append(left.popleft())
    if not words and not argument.many:
        raise ValueError(f"--{name} needs a value: {argument.form}")
    return name, words


def _placed(loose: Sequence[str], known: Mapping[str, Argument]) -> Given:
    """The words that belong to no option, shared out to the positional arguments."""
    given: Given = {}
    left = deque(loose)
    for argument in known.values():
        if argument.positional and left:
            given[argument.name] = list(left) if argument.many else [left.popleft()]
            if argument.many:
                left.clear()
    if left:
        forms = [argument.form for argument in known.values() if argument.positional]
        takes = f"after {' '.join(forms)} come only options" if forms else "it takes only options"
        raise ValueError(f"what is {left[0]!r}? {takes}")
    return given


def values(given: Given, known: Mapping[str, Argument]) -> dict[str, Any]:
    """What the words mean, by name. Raises ValueError for the first that mean nothing."""
    return {name: argument.value(given[name]) for name, argument in known.items() if name in given}


def build(
    settings: type[Settings], given: Mapping[str, Any], known: Mapping[str, Argument]
) -> Settings:
    """The settings of these values. Raises ValueError for what is missing or refused."""
    missing = [each.shown for each in known.values() if each.required and each.name not in given]
    if missing:
        verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise ValueError(f"{_and(missing)} {verb} missing; --help explains {them}")
    every = {each.field: given.get(each.name, each.default) for each in known.values()}
    return _made(settings, "", every)


def _made(of: type[Settings], path: str, values: Mapping[str, Any]) -> Settings:
    """A dataclass of the values by their paths, its parts likewise."""
    types = get_type_hints(of)
    return of(
        **{
            field.name: _made(types[field.name], f"{path}{field.name}.", values)
            if is_dataclass(types[field.name])
            else values[path + field.name]
            for field in fields(cast(Any, of))
        }
    )


def unknown(name: str, known: Mapping[str, Argument]) -> str:
    """What is said of an option that there is not, with the nearest that there is."""
    options = [argument.name for argument in known.values() if not argument.positional]
    near = nearest(name, [*options, "settings", "print-settings", "help"])
    return f"there is no option --{name}; " + (
        f"did you mean --{near}?" if near else "--help shows those that there are"
    )


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: alike, or abbreviated, or one that has it for a part."""
    names = list(names)
    by_initials = [each for each in names if name == "".join(w[0] for w in re.split(r"[-.]", each))]
    by_end = [each for each in names if each.rpartition(".")[2] == name]
    alike = difflib.get_close_matches(name, names, 1, _NEAR)
    words = set(re.split(r"[-.]", name))
    if name in names:
        return name
    by_part = [each for each in names if words & set(re.split(r"[-.]", each))]
    by_start = [each for each in names if each.startswith(name) or name.startswith(each)]
    return next(iter([*by_initials, *by_end, *alike, *by_start, *by_part]), None)


def _is_option(word: str) -> bool:
    return re.match(r"--|-[^\d.\s]", word) is not None


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
