"""The console blocks of the documentation: what a reader types, and what the page says comes back.

A block runs as it is printed, or says in its fence why it does not: ```` ```console not-run: it needs a bucket ````.
In a block a line that begins with `$ ` is a command, which goes on until bash has all of it. What follows is output,
in which `…` stands for anything, and ages, times and generated names for any other.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.deadlines import scaled

COMMAND_SECONDS = 240.0
"""How long one command may take."""
SETTLE_SECONDS = 90.0
"""How long what a page shows may take to become so."""
_FENCE = re.compile(r"^```(\w*) ?(.*)$")
_NOT_RUN = "not-run:"
_ANSWER = re.compile(r"Type (\S+) to go on: (\S+)$", re.MULTILINE)
_REFUSED = re.compile(r"^(Error from server|datalabd: (?!Datalab )|error: )|^The \w+ \"\S+\" is invalid", re.MULTILINE)
_VARIES = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|pvc-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?<=pg0-primary-)[a-z0-9]{4}(?=-pgdata)|(?<= )(?:\d+[smhd])+(?= |$)"
)
"""What differs from one run to the next: times, generated names, ages."""
_ANY_WORD, _ANYTHING = "\x00", "…"


def fenced(page: Path, fence: str) -> list[str]:
    """The blocks of a page whose fence is this, such as `yaml`, without the fences."""
    return re.findall(rf"^```{re.escape(fence)}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """What is typed, and what the page shows of what comes back."""

    text: str
    output: str

    @property
    def fails(self) -> bool:
        """Whether the page shows a refusal."""
        return bool(_REFUSED.search(self.output))

    @property
    def answer(self) -> str:
        """What the reader answers to a question of the command."""
        found = _ANSWER.search(self.output)
        return found.group(2) if found else ""

    @property
    def repeatable(self) -> bool:
        """Whether it only looks, so that it may be repeated until things are as the page shows them."""
        return self.text.startswith(("kubectl get", "kubectl wait", "kubectl -n")) and (
            " get " in self.text or " wait " in self.text
        )

    def shows(self, output: str) -> bool:
        """Whether what came back is what the page shows, however that is folded."""
        words = _VARIES.sub(_ANY_WORD, " ".join(self.output.split()))
        wanted = re.escape(words).replace(re.escape(_ANY_WORD), r"\S+")
        wanted = wanted.replace(f"\\ {_ANYTHING}\\ ", " (?:.*? )?").replace(_ANYTHING, ".*?")
        return re.search(wanted, " ".join(output.split())) is not None


@dataclass(frozen=True)
class Block:
    """One console block; `not_run` says why it is not run, and is empty where it is."""

    line: int
    not_run: str
    text: str

    @property
    def commands(self) -> list[Command]:
        """What is typed, in order; ValueError for text before the first command."""
        found: list[tuple[list[str], list[str]]] = []
        for line in self.text.splitlines():
            if found and not found[-1][1] and not _is_whole("\n".join(found[-1][0])):
                found[-1][0].append(line)
            elif line.startswith("$ "):
                found.append(([line.removeprefix("$ ")], []))
            elif found:
                found[-1][1].append(line)
            else:
                raise ValueError(f"line {self.line}: a console block begins with a command: $ …")
        return [Command("\n".join(typed), "\n".join(output)) for typed, output in found]


def blocks(page: str) -> Iterator[Block]:
    """The console blocks of a page, in order; ValueError for one whose fence says anything but why it is not run."""
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            continue
        content = []
        for _, inner in lines:
            if inner == "```":
                break
            content.append(inner)
        if fence.group(1) != "console":
            continue
        reason = fence.group(2).removeprefix(_NOT_RUN).strip()
        if fence.group(2) and (not fence.group(2).startswith(_NOT_RUN) or not reason):
            raise ValueError(f"line {number}: after console only `{_NOT_RUN} <reason>` may follow")
        yield Block(number, reason, "\n".join(content))


def _is_whole(command: str) -> bool:
    """Whether bash would run this, rather than ask for more."""
    done = subprocess.run(["bash", "-n"], input=f"{command}\n", capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr and not command.endswith("\\")


@dataclass
class Shell:
    """One bash that keeps its variables from command to command, in a directory of its own."""

    directory: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        loop = 'while read -r file; do . "$file" >"$file.out" 2>&1 <"$file.in"; echo $? >"$file.code"; done'
        self._commands = Path(tempfile.mkdtemp(prefix=".commands-", dir=self.directory))
        self._count = 0
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", loop],
            cwd=self.directory,
            env=os.environ | dict(self.environ),
            stdin=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, command: Command) -> tuple[int, str]:
        """Exit code and output, both streams as they come."""
        assert self._process.stdin is not None
        self._count += 1
        file = self._commands / str(self._count)
        file.write_text(f"{command.text}\n")
        file.with_name(f"{file.name}.in").write_text(f"{command.answer}\n")
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        code = file.with_name(f"{file.name}.code")
        deadline = time.monotonic() + scaled(COMMAND_SECONDS)
        while not (code.exists() and code.read_text()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                return 124, f"it did not end within {scaled(COMMAND_SECONDS):.0f} s"
            time.sleep(0.05)
        output = file.with_name(f"{file.name}.out").read_text()
        # A terminal would show what is typed.
        return int(code.read_text()), output.replace(" to go on: ", f" to go on: {command.answer}\n")


def play(page: str, shell: Shell) -> list[str]:
    """Run the blocks of a page in order; what was otherwise than it says, up to the first such command."""
    for block in blocks(page):
        for command in block.commands if not block.not_run else ():
            deadline = time.monotonic() + scaled(SETTLE_SECONDS)
            while True:
                code, output = shell.run(command)
                as_shown = (code != 0) is command.fails and command.shows(output)
                if as_shown or not command.repeatable or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            if not as_shown:
                told = f"exit code {code}, and said:\n{output}\ninstead of:\n{command.output}"
                return [f"line {block.line}: $ {command.text}\n{told}"]
    return []
