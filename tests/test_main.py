"""The command line, as far as it says of itself."""

from importlib.metadata import version

import pytest

from datalabd.__main__ import main


def test_the_version_as_an_option_and_as_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{version('datalabd')}\n" * 2


def test_no_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "required: VERB" in capsys.readouterr().err
