"""The console script `harmoview`, and what every command shares: arguments, errors, exit status."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from datapipe.errors import UserError, install
from training.options import hush_imports

hush_imports()  # here, since processes that a command spawns import this too
Settings = TypeVar("Settings")

LEVELS = ("debug", "info", "warning", "error")
COMMANDS = {
    "subjects": "render virtual subjects turning their heads, with exact yaw per frame",
    "plan": "what a corpus will give and cost, estimated from a pilot of some of its videos",
    "synthesize": "the main job: a video corpus in, seven-view WebDataset shards out",
    "profile": "where the time of a few samples goes, and what bounds the line",
    "score": "measure the views of a run again",
    "pack": "apply the rules to a run's scores and write shards",
    "stats": "filter statistics of a run",
    "show": "one sample of a run: source, reference, views, scores, every decision",
    "rules": "diff: what other rules would change, on the scores of a run",
    "calibrate": "thresholds for a false-accept rate, measured on a run or on pairs, as rules",
    "verify": "check shards against their manifest",
    "encode": "latents, text and vision features of shards, computed once for training",
    "pairs": "canonical-yaw frames of head-rotation clips, as training pairs",
    "train-lora": "train the view-synthesis LoRA on pairs",
    "views": "seven views of single portraits, with a contact sheet",
    "train": "the Progressive View Curriculum on packed or encoded shards",
    "export": "a model from a checkpoint of a training, for diffusers, ComfyUI or in one file",
    "generate": "a prompt and one or two identities in, a video out",
    "bench": "HarmoView-Bench: suites, metrics, tables; agreement of raters",
    "submit": "any of these as a job of a Ray cluster, followed from here",
    "models": "the model files in use: source, licence, hash, present or not",
}
_AGAIN = "; what is done is kept: run the same command again to go on"
_RESUME = "; with --resume the same command goes on from the latest checkpoint"
CONTINUE = {
    **dict.fromkeys(("plan", "synthesize", "score", "pack", "pairs", "encode"), _AGAIN),
    **dict.fromkeys(("bench demo", "bench generate", "bench score"), _AGAIN),
    **dict.fromkeys(("train", "train-lora"), _RESUME),
}
"""Commands that go on where they were interrupted, and how."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit status 2 where there is no such command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        from harmoview import __version__

        print(f"harmoview {__version__}")
        return 0
    if arguments[:1] == ["--complete"]:
        from jobs.console.help import complete

        line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT")
        print("\n".join(complete(COMMANDS, LEVELS, line, point)))
        return 0
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    return choose("", COMMANDS, "jobs", arguments)


def choose(prog: str, actions: Mapping[str, str], package: str, arguments: Sequence[str]) -> int:
    """Hand over to the module that is named first, importing no other, or list what there is.

    `prog` is the command whose actions these are, "" for the commands themselves.
    """
    own, kind = f"harmoview {prog}".strip(), "action" if prog else "command"
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, actions))
        lines = [f"  {name:<{width}}  {does}" for name, does in actions.items()]
        form = f"{own} {kind.upper()}"
        print("\n".join([f"usage: {form} …", "", *lines, "", f"{form} --help explains each."]))
        return 0
    name, *rest = arguments
    if name not in actions:
        near = difflib.get_close_matches(name, actions, 1)
        hint = f"did you mean {near[0]}?" if near else f"see {own} --help"
        print(f"{own}: there is no {kind} {name!r}; {hint}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"{package}.{name.replace('-', '_')}").main(rest))


@dataclass(frozen=True)
class Command(Generic[Settings]):
    """`main` of a command: called with its words it runs, and returns the exit status."""

    prog: str
    """What is typed behind `harmoview`."""
    settings: type[Settings]
    execute: Callable[[Settings], int | None]
    first: Sequence[str] = ()
    """The options that are used most, which `--help` shows before the others."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return run(self.settings, self.execute, argv, self.prog, self.first)


def command(
    module: str,
    settings: type[Settings],
    execute: Callable[[Settings], int | None],
    first: Sequence[str] = (),
) -> Command[Settings]:
    """`main` of a command, named after the file of `execute`; `module` is the caller's `__name__`.

    Call it last in a module: where that is being run, as `python -m jobs.MODULE`, the command runs
    at once, and the process ends with its exit status.
    """
    file = Path(inspect.getfile(execute)).relative_to(Path(__file__).parent)
    prog = " ".join(file.with_suffix("").parts).replace("_", "-")
    main = Command(prog, settings, execute, first)
    if module == "__main__":
        sys.exit(main())
    return main


def run(
    settings: type[Settings],
    execute: Callable[[Settings], int | None],
    argv: Sequence[str] | None,
    prog: str,
    first: Sequence[str] = (),
) -> int:
    """Parse `argv` into `settings` and execute; exit status 0 done, 1 failed, 2 wrong arguments.

    A user's mistake ends in one message on stderr; an unexpected error keeps its traceback.
    """
    try:
        try:
            given = list(sys.argv[1:] if argv is None else argv)
            parsed = _parsed(settings, given, prog, first)
        except ValueError as wrong:  # arguments that do not parse, or that the settings refuse
            print(f"harmoview {prog}: {wrong}", file=sys.stderr)
            return 2
        with warnings.catch_warnings():
            if not sys.warnoptions and logging.getLogger().level > logging.INFO:
                warnings.simplefilter("ignore")  # of libraries, about how they are called
            return 0 if parsed is None else execute(parsed) or 0
    except UserError as wrong:
        from jobs.console.output import plain  # half a second that `harmoview --help` need not pay

        # it may quote keys and paths of a corpus
        print(f"harmoview {prog}: {plain(str(wrong), lines=True)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"harmoview {prog}: interrupted{CONTINUE.get(prog, '')}", file=sys.stderr)
        return 130


def _parsed(
    settings: type[Settings], argv: Sequence[str], prog: str, first: Sequence[str]
) -> Settings | None:
    """The settings; None where only help or a settings file was asked for, which is printed.

    Raises ValueError in a sentence for what is wrong.
    """
    # tyro takes a third of a second
    from jobs.arguments import arguments, build, parse, values
    from jobs.console.help import help_text
    from jobs.settings_file import read, written

    known = arguments(settings)
    own, rest = _for_every_command(argv)
    if "help" in own:
        print(help_text(prog, settings, known, first))
        return None
    logging.basicConfig(
        level=own.get("log-level", "warning").upper(),
        format="%(levelname)s %(name)s: %(message)s",
    )
    given = parse(rest, known)
    if "settings" in own:
        given = read(own["settings"], known) | given
    found = values(given, known)
    if "print-settings" in own:
        print(written(prog, found, known))
        return None
    return build(settings, found, known)


def _for_every_command(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options that every command takes, and the words that are left. Raises ValueError."""
    own: dict[str, str] = {}
    words = iter(argv)
    rest: list[str] = []
    for word in words:
        if word == "--":
            return own, [*rest, word, *words]
        option, has_value, value = word.partition("=")
        name = option.replace("_", "-")
        if word in ("-h", "--help"):
            own["help"] = ""
        elif name == "--print-settings":
            own["print-settings"] = ""
        elif name in ("--settings", "--log-level"):
            own[name[2:]] = value if has_value else next(words, "")
            if not own[name[2:]]:
                raise ValueError(f"{name} needs a value")
        else:
            rest.append(word)
    if (level := own.get("log-level", "warning")) not in LEVELS:
        raise ValueError(
            f"--log-level takes {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, not {level!r}"
        )
    return own, rest


def need_train(what: str) -> None:
    """Raises UserError when the packages of the extra `train` are not installed."""
    packages = ("torch", "diffusers", "transformers", "peft", "safetensors")
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"{what} needs {', '.join(missing)}: {install('train')}")


if __name__ == "__main__":
    sys.exit(main())
