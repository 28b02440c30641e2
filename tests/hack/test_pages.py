"""How console blocks are read, and when what came back is what a page shows."""

from pathlib import Path

import pytest

from hack.pages import Block, Command, Shell, blocks, play

PAGE = """\
```yaml
$ no console
```
```console
$ echo one
one
$ cat <<END
two
END
two
$ x=3 &&
    echo $x
3
```
```console not-run: it needs a bucket
$ false
```
"""


def test_blocks_of_a_page() -> None:
    first, second = blocks(PAGE)
    assert (first.line, first.not_run) == (4, "")
    assert first.commands == [
        Command("echo one", "one"),
        Command("cat <<END\ntwo\nEND", "two"),
        Command("x=3 &&\n    echo $x", "3"),
    ]
    assert second == Block(15, "it needs a bucket", "$ false")


@pytest.mark.parametrize("fence", ["console sometimes", "console not-run:", "console not-run"])
def test_a_fence_that_gives_no_reason(fence: str) -> None:
    with pytest.raises(ValueError, match="line 1: after console only"):
        list(blocks(f"```{fence}\n$ true\n```\n"))


def test_a_block_that_begins_with_no_command() -> None:
    with pytest.raises(ValueError, match="begins with a command"):
        assert Block(1, "", "one").commands


@pytest.mark.parametrize(
    ("shown", "output"),
    [
        pytest.param("", "anything", id="nothing is shown"),
        pytest.param("a b\nc", "a\nb c\n", id="folded otherwise"),
        pytest.param("b", "a\nb\nc", id="among others"),
        pytest.param("a … c", "a b b c", id="left out"),
        pytest.param("a\n…\nc", "a\nc", id="nothing left out"),
        pytest.param("created 12s", "created 1m30s", id="an age"),
        pytest.param("at 2026-11-21T10:49:31Z", "at 2027-01-01T00:00:00Z", id="a time"),
        pytest.param("pvc-32a9487a-fdcb-4b1d-9307-e092d2c951f2: freed", "pvc-x: freed", id="a generated name"),
    ],
)
def test_what_a_page_shows(shown: str, output: str) -> None:
    assert Command("true", shown).shows(output)


@pytest.mark.parametrize(("shown", "output"), [("a c", "a b c"), ("12 labs", "13 labs"), ("a.c", "abc")])
def test_what_a_page_does_not_show(shown: str, output: str) -> None:
    assert not Command("true", shown).shows(output)


@pytest.mark.parametrize(
    ("shown", "fails"),
    [
        ("", False),
        ("datalabd: Datalab team/lab: warning: x", False),
        ("datalabd: the claim is not gone", True),
        ("Warning: x\nError from server (Forbidden): x", True),
        ('The Datalab "x" is invalid: y', True),
    ],
)
def test_a_refusal_that_a_page_shows(shown: str, fails: bool) -> None:
    assert Command("true", shown).fails == fails


def test_a_page_that_runs_as_printed(tmp_path: Path) -> None:
    with Shell(tmp_path) as shell:
        assert play(PAGE, shell) == []


def test_a_question_is_answered_as_printed(tmp_path: Path) -> None:
    typed = "printf 'Type x to go on: '; read -r answer; echo \"got $answer\""
    ask = f"```console\n$ {typed}\nType x to go on: x\ngot x\n```\n"
    with Shell(tmp_path) as shell:
        assert play(ask, shell) == []


@pytest.mark.parametrize("line", ["$ false", "$ echo other\none", "$ true\nError from server (Forbidden): x"])
def test_a_page_that_is_untrue(tmp_path: Path, line: str) -> None:
    with Shell(tmp_path) as shell:
        (told,) = play(f"```console\n$ echo fine\nfine\n{line}\n```\n", shell)
    assert told.startswith(f"line 1: {line.splitlines()[0]}\n")
