"""Sessions in documents are what their commands print."""

import pytest

from docs.sessions import _SESSION, ROOT, WIDTH, commands, renewed

SESSION = """# Title

## One

```
$ cat > file <<END
5 and <<more
END
$ cat file; echo {folder}/x >&2; false
stale
$ printf 'a\\nb\\n' \\
    | head -1; echo progress >&2
```

```
$HOME is no session
```

## Two

```
$ seq -s x 200
stale
```
"""


def test_what_stands_there_gives_way_to_what_is_printed(tmp_path):
    """With what is wrong, but without progress; paths and long lines are shortened."""
    new = renewed(SESSION.replace("{folder}", str(tmp_path)), tmp_path)
    one, two = new.split("## Two")
    assert one.count("\n5 and <<more\n") == 2
    assert "\n…/x\n" in one
    assert "echo progress >&2\na\n```" in one
    assert "stale" not in new
    assert "$HOME is no session" in one
    assert max(map(len, two.splitlines())) == WIDTH


def test_sessions_that_are_true_stay_as_they_are(tmp_path):
    """Another run changes nothing."""
    once = renewed(SESSION, tmp_path)
    assert renewed(once, tmp_path) == once


def test_one_section_alone_is_renewed(tmp_path):
    """The sessions under other headings stay."""
    assert renewed(SESSION, tmp_path, "Two").count("stale") == 1


def test_sessions_without_a_run_are_true_today(tmp_path):
    """As they stand in the document."""
    text = (ROOT / "docs/commands.md").read_text()
    assert renewed(text, tmp_path) == text


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_every_session_can_be_run(document):
    """Its commands are told from what they print, and are ours or a shell's."""
    for session in _SESSION.findall(document.read_text()):
        ran = [command.split()[0] for command in commands(session)]
        assert ran
        assert set(ran) <= {"harmoview", "cat", "python"}
