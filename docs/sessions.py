"""Runs the sessions of the documents again: `python -m docs.sessions docs/inspect.md`.

A session is a block whose first line begins with `$ `. Its commands run in a shell, all those of a
document in one folder, where `demo` is what `make demo` made; what they print takes the place of
what stands there. So a document shows what a reader sees; what is left out is left out by a command
that the reader sees too, such as `| head -20`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 100
"""Columns in which the commands print; the rest of a line that is longer becomes an ellipsis."""
SECONDS = 900
"""How long a command may take."""
_SESSION = re.compile(r"(?<=^```\n)\$ .*?(?=^```$)", re.M | re.S)
_HEREDOC = re.compile(r"<<(\w+)")


def commands(session: str) -> Iterator[str]:
    """The commands of a session, without the prompt; one may go on over lines that end in a
    backslash, or to the word after `<<`.
    """
    lines = iter(session.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        command = [line[2:]]
        while command[-1].endswith("\\"):
            command.append(next(lines))
        if found := _HEREDOC.search("\n".join(command)):
            while command[-1] != found[1]:
                command.append(next(lines))
        yield "\n".join(command)


def renewed(text: str, folder: Path, section: str | None = None) -> str:
    """A document with its sessions run again in a folder; those of one section, where it is named.

    Raises subprocess.TimeoutExpired for a command that takes longer than `SECONDS`.
    """

    def again(found: re.Match[str]) -> str:
        if section is not None and section != _heading(text, found.start()):
            return found[0]
        return "".join(f"$ {one}\n{_printed(one, folder)}" for one in commands(found[0]))

    return _SESSION.sub(again, text)


def _heading(text: str, place: int) -> str:
    heads = re.findall(r"^#+ (.+)$", text[:place], re.M)
    return heads[-1] if heads else ""


def _printed(command: str, folder: Path) -> str:
    """What a command prints, as lines that fit; paths of this machine become …

    Standard error is shown where the command fails: otherwise it holds progress, which a terminal
    shows as a bar.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": str(WIDTH)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,  # a session may show a mistake
    )
    text = done.stdout + (done.stderr if done.returncode else "")
    for place in (folder, folder.resolve(), ROOT):
        text = text.replace(str(place), "…")
    return "".join(f"{_fitting(line.rstrip())}\n" for line in text.splitlines())


def _fitting(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1].rstrip()}…"


def main(document: str, section: str | None = None) -> None:
    """Renew a document in place; with a heading, only the sessions under it."""
    if not (ROOT / "demo" / "run" / "run.json").is_file():
        sys.exit("the sessions are about the demo: run `make demo` first")
    path = Path(document)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "demo").symlink_to(ROOT / "demo")
        path.write_text(renewed(path.read_text(), folder, section))


if __name__ == "__main__":
    main(*sys.argv[1:])
