"""The arguments of a command as its settings class declares them: read, checked, told apart."""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import tyro
from tyro._arguments import ArgumentDefinition
from tyro._parsers import ParserSpecification
from tyro._singleton import MISSING_NONPROP, is_missing

TRUTH = ["true", "false"]
Settings = TypeVar("Settings")
Given = dict[str, list[str]]
"""The words given for each argument, by its name; a switch has True or False."""
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}
_FORMS = {"INT": "N", "FLOAT": "X", "STR": "TEXT", "PATH": "PATH"}
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
    definition: ArgumentDefinition

    @property
    def positional(self) -> bool:
        return self.definition.is_positional()

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return self.definition.lowered.action is not None

    @property
    def many(self) -> bool:
        """Whether it takes any number of values."""
        return self.definition.lowered.nargs == "*"

    @property
    def required(self) -> bool:
        return is_missing(self.default)

    @property
    def default(self) -> Any:
        return self.definition.field.default

    @property
    def choices(self) -> list[str]:
        """The words that it takes, in order; none where others do too."""
        metavar = self.definition.lowered.metavar or ""
        words = [
            word for each in re.findall(r"\{([\w,.:-]+)\}", metavar) for word in each.split(",")
        ]
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
        metavar = (self.definition.lowered.metavar or "").removeprefix("{None}|")
        if self.choices:
            return "|".join(self.choices) + " …" * self.many
        kind = re.search(r"\b(INT|FLOAT|STR|PATH)\b", metavar)
        if self.many and kind:
            return f"{_FORMS[kind[1]]} …"
        return _FORMS.get(metavar, metavar)

    @property
    def help(self) -> str:
        text = self.definition.field.helptext
        return " ".join(((text() if callable(text) else text) or "").split())

    def value(self, words: Sequence[str]) -> Any:
        """What the words mean. Raises ValueError naming the argument where they mean nothing."""
        lowered = self.definition.lowered
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
        assert lowered.instance_from_str is not None
        try:
            return lowered.instance_from_str(list(words))
        except ValueError as wrong:
            kind = next((_KINDS[kind] for kind in _KINDS if kind in (lowered.metavar or "")), "")
            said = f"takes {kind}" if kind else "does not take"
            if self.many and kind:
                said = f"takes {kind.removeprefix('a ')}s with spaces between them"
            quoted = " ".join(map(repr, words))
            raise ValueError(f"{self.shown} {said}{', not' * bool(kind)} {quoted}") from wrong


def arguments(settings: type) -> dict[str, Argument]:
    """The arguments of a settings class by their names, in the order of its fields."""
    found: dict[str, Argument] = {}
    specification = ParserSpecification.from_callable_or_type(
        cast("type", Annotated[settings, tyro.conf.FlagCreatePairsOff]),
        markers=set(),
        description=None,
        parent_classes=set(),
        default_instance=MISSING_NONPROP,
        intern_prefix="",
        extern_prefix="",
        subcommand_prefix="",
        support_single_arg_types=False,
        prog_suffix="",
    )
    for each in specification.get_args_including_children():
        definition = each.arg
        name = definition.lowered.name_or_flags[-1].removeprefix("--").replace("_", "-")
        field = f"{definition.intern_prefix}.{definition.field.intern_name}".lstrip(".")
        owner = each.source_parser.f
        assert isinstance(owner, type)
        found[name] = Argument(name, field.replace("-", "_"), owner, definition)
    return found


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
