"""The command line, as far as it says of itself."""

import json
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


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param({}, "OIDC_ISSUER", id="no issuer"),
        pytest.param({"AUTH_MODE": "gateway"}, "TRUSTED_PROXIES", id="a gateway that anybody may be"),
        pytest.param({"AUTH_MODE": "no", "WORKSPACE_HOST": "0.0.0.0"}, "WORKSPACE_HOST", id="nobody asked, everywhere"),
        pytest.param({"WORKSPACE_PORT": "http"}, "WORKSPACE_PORT", id="no number"),
    ],
)
def test_settings_that_would_be_unsafe_or_are_wrong_start_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environ: dict[str, str], said: str
) -> None:
    for variable in ("OIDC_ISSUER", "AUTH_MODE", "WORKSPACE_HOST", "WORKSPACE_PORT"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert main(["workspaces"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("datalabd: ")
    assert said in told


def test_the_document_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workspaces", "--openapi"]) == 0
    assert json.loads(capsys.readouterr().out)["info"]["title"] == "Workspace API"
