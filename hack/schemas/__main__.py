"""Writes the files beside it, or says which of them have drifted.

    python -m hack.schemas [--check]

Exit codes: 0 everything is current, 1 something has drifted (with --check), 2 usage.
"""

import argparse
import sys
from pathlib import Path

import yaml

from datalabd.api.meta import Manifest
from hack.standins.crds import crds, storage_crd

HEADER = "# Made by `python -m hack.schemas`; edit hack/standins/crds.py instead.\n"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(crd: Manifest) -> str:
    return HEADER + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=120)


def drifted() -> dict[Path, str]:
    """Files that are missing or not what `crds` says, with the text they should have."""
    wanted = {Path(__file__).parent / f"{crd['metadata']['name']}.yaml": _text(crd) for crd in [*crds(), storage_crd()]}
    return {file: text for file, text in wanted.items() if not file.is_file() or file.read_text() != text}


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.schemas", description="Write hack/schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file has drifted")
    check = parser.parse_args().check
    stale = drifted()
    for file, text in stale.items():
        print(file.name)
        if not check:
            file.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
