"""The console script `harmoview`, and what every command shares: arguments, errors, exit status."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from datapipe.errors import UserError, install

Settings = TypeVar("Settings")

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
    "generate": "a prompt and one or two identities in, a video out",
    "bench": "HarmoView-Bench: suites, metrics, tables; agreement of raters",
    "submit": "any of these as a job of a Ray cluster, followed from here",
    "models": "the model files in use: source, licence, hash, present or not",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit status 2 where there is no such command."""
    return choose("", COMMANDS, "jobs", list(sys.argv[1:] if argv is None else argv))


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


def command(
    module: str, settings: type[Settings], execute: Callable[[Settings], int | None]
) -> Callable[[Sequence[str] | None], int]:
    """`main` of a command, named after the file of `execute`; `module` is the caller's `__name__`.

    Call it last in a module: where that is being run, as `python -m jobs.MODULE`, the command runs
    at once, and the process ends with its exit status.
    """
    file = Path(inspect.getfile(execute)).relative_to(Path(__file__).parent)
    prog = " ".join(file.with_suffix("").parts).replace("_", "-")

    def main(argv: Sequence[str] | None = None) -> int:
        return run(settings, execute, argv, prog)

    if module == "__main__":
        sys.exit(main())
    return main


def run(
    settings: type[Settings],
    execute: Callable[[Settings], int | None],
    argv: Sequence[str] | None,
    prog: str,
) -> int:
    """Parse `argv` into `settings` and execute; exit status 0 done, 1 failed, 2 wrong arguments.

    A user's mistake ends in one message on stderr; an unexpected error keeps its traceback.
    """
    import tyro  # a third of a second that `harmoview --help` need not pay

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    flags = (tyro.conf.FlagCreatePairsOff,)
    try:
        try:
            parsed = tyro.cli(settings, args=argv, prog=f"harmoview {prog}", config=flags)
        except SystemExit as end:  # --help (0) or arguments that do not parse (2)
            return end.code if isinstance(end.code, int) else 2
        except ValueError as wrong:  # a settings class refused a value
            print(f"harmoview {prog}: {wrong}", file=sys.stderr)
            return 2
        return execute(parsed) or 0
    except UserError as wrong:
        from jobs.console.output import plain  # half a second, likewise

        # it may quote keys and paths of a corpus
        print(f"harmoview {prog}: {plain(str(wrong), lines=True)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"harmoview {prog}: interrupted", file=sys.stderr)
        return 130


def need_train(what: str) -> None:
    """Raises UserError when the packages of the extra `train` are not installed."""
    packages = ("torch", "diffusers", "transformers", "peft", "safetensors")
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"{what} needs {', '.join(missing)}: {install('train')}")


if __name__ == "__main__":
    sys.exit(main())
