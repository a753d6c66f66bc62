"""The console script `harmoview`: finds the command and runs it, importing nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

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
    "submit": "any of these as a job of a Ray cluster, followed from here",
    "models": "the model files in use: source, licence, hash, present or not",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 where there is no such command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"harmoview: there is no command {name!r}; see harmoview --help", file=sys.stderr)
        return 2
    module = importlib.import_module(f"jobs.{name.replace('-', '_')}")
    return int(module.main(rest))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        ["usage: harmoview COMMAND …", "", *lines, "", "harmoview COMMAND --help explains each."]
    )


if __name__ == "__main__":
    sys.exit(main())
