import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Phase
from datalabd.plan.educates.content import READ_MAX, is_current, lost, workshop_config
from datalabd.plan.educates.workshop import workshop_spec
from tests.factories import environment, lab, running, secret

GIT = {"git": {"url": "https://example.org/a.git", "ref": "main"}, "includePaths": ["/docs/**"]}


def contents(of: Lab) -> dict[str, Any] | None:
    """The Secret's documents, by key."""
    data = workshop_config(of, workshop_spec(of, running(of)))
    return None if data is None else {key: json.loads(base64.b64decode(value)) for key, value in data.items()}


def vendir(*directories: tuple[str, list[Manifest]]) -> Manifest:
    """A configuration of vendir."""
    listed = [{"path": path, "contents": found} for path, found in directories]
    return {"apiVersion": "vendir.k14s.io/v1alpha1", "kind": "Config", "directories": listed}


def test_what_sessions_show() -> None:
    here = lab()
    session = workshop_spec(here, running(here))["session"]
    shown = {"title": "Default DataLab", "description": "A default DataLab environment.", "version": "1.0"}
    kept = {key: session[key] for key in ("applications", "ingresses", "dashboards")}
    assert contents(here) == {"workshop.yaml": {"spec": shown | {"session": kept}}}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param({}, "/opt/assets/files", id="where nothing is said"),
        pytest.param({"path": "."}, "/opt/assets/files", id="here"),
        pytest.param({"path": "notebooks/a/"}, "/opt/assets/files/notebooks/a", id="below"),
    ],
)
def test_where_files_go(path: dict[str, str], expected: str) -> None:
    found = contents(lab(files=[GIT | path]))
    assert found is not None
    assert found["vendir-assets-01.yaml"] == vendir((expected, [GIT | {"path": "."}]))


def test_each_source_has_a_document_of_its_own() -> None:
    found = contents(lab(files=[GIT | {"path": f"p{index}"} for index in range(1, 11)]))
    assert found is not None
    assert [key for key in found if key.startswith("vendir-assets")] == [
        f"vendir-assets-{index:02}.yaml" for index in range(1, 11)
    ]


def test_where_packages_go() -> None:
    image = {"image": {"url": "example.org/a:1"}}
    found = contents(lab(environment(packages=[{"name": "a", "files": [image]}, {"name": "b", "files": []}])))
    assert found is not None
    assert found["vendir-packages.yaml"] == vendir(("/opt/packages/a", [image]), ("/opt/packages/b", []))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("$(workshop_namespace)", "lab", id="namespace"),
        pytest.param("$(environment_name)-$(workshop_name)", "lab-lab", id="two"),
        pytest.param("$(ingress_domain)", "lab.example.org", id="domain"),
        pytest.param("$(workshop_version)", "1.0", id="version"),
        pytest.param("$(training_portal)", "", id="a portal, of which there is none"),
        pytest.param("$(session_name)", "$(session_name)", id="not the session's: those come later"),
    ],
)
def test_variables_are_filled_in(text: str, expected: str) -> None:
    source = {"http": {"url": f"https://example.org/{text}", "sha256": "x"}}
    package = {"name": "a", "files": [source | {"stripComponents": 1}]}
    found = contents(lab(environment(packages=[package])))
    assert found is not None
    (made,) = found["vendir-packages.yaml"]["directories"][0]["contents"]
    assert made == {"http": {"url": f"https://example.org/{expected}", "sha256": "x"}, "stripComponents": 1}


UNKNOWN = lab(
    environment(packages=[{"name": "a", "files": [{"image": {"url": "$(image_repository)/a:1"}}]}]), files=[GIT]
)


def test_variables_of_the_installation_cannot_be_filled_in() -> None:
    assert contents(UNKNOWN) is None


def test_the_content_is_written_out_once_to_look_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    here = lab(files=[GIT])
    spec = workshop_spec(here, running(here))
    written: list[Any] = []

    def dumps(value: Any) -> str:
        written.append(value)
        return ""

    monkeypatch.setattr("datalabd.plan.educates.content.json.dumps", dumps)
    workshop_config(here, spec)
    assert written.count(spec["workshop"]) == 1


HERE = lab(files=[GIT])
DATA = workshop_config(HERE, workshop_spec(HERE, running(HERE)))
DOCUMENTS = contents(HERE)
assert DATA is not None
assert DOCUMENTS is not None
LONG = yaml.safe_dump(DOCUMENTS["workshop.yaml"]) + "#" * READ_MAX
MERGED = yaml.safe_dump(DOCUMENTS["workshop.yaml"] | {"<<": {}}).replace("'<<'", "<<")
"""Says the same, but is not read: of merges in each other, 500 bytes make ten million pairs."""


def config(changes: Mapping[str, str] = MappingProxyType({})) -> Manifest:
    """The Secret of HERE as Educates writes it, in YAML, but for these documents."""
    assert DOCUMENTS is not None
    documents = {key: yaml.safe_dump(document) for key, document in DOCUMENTS.items()} | dict(changes)
    made = secret("workshop-config", "lab")
    return made | {"data": {key: base64.b64encode(text.encode()).decode() for key, text in documents.items()}}


@pytest.mark.parametrize(
    ("here", "live", "expected"),
    [
        pytest.param(HERE, None, True, id="kept elsewhere, or not made yet"),
        pytest.param(HERE, secret("workshop-config", "lab") | {"data": DATA}, True, id="as planned"),
        pytest.param(HERE, config(), True, id="as planned, in YAML"),
        pytest.param(
            HERE,
            config({"workshop.yaml": yaml.safe_dump(DOCUMENTS["workshop.yaml"], default_flow_style=True)}),
            True,
            id="in another style",
        ),
        pytest.param(HERE, config({"workshop.yaml": "spec: {}"}), False, id="one document differs"),
        pytest.param(HERE, config({"vendir-assets-02.yaml": "{}"}), False, id="one document too many"),
        pytest.param(HERE, config({"workshop.yaml": "}"}), False, id="no YAML"),
        pytest.param(HERE, config({"workshop.yaml": LONG}), False, id="longer than what is read"),
        pytest.param(HERE, config({"workshop.yaml": "!!python/tuple []"}), False, id="a tag of somebody else's"),
        pytest.param(HERE, config({"workshop.yaml": "&a [*a]"}), False, id="within itself"),
        pytest.param(HERE, config({"workshop.yaml": MERGED}), False, id="with merges"),
        pytest.param(HERE, config({"workshop.yaml": "[" * 900 + "]" * 900}), False, id="too deep"),
        pytest.param(HERE, config() | {"data": {**DATA, "workshop.yaml": "x"}}, False, id="not encoded"),
        pytest.param(HERE, config() | {"data": {**DATA, "workshop.yaml": None}}, False, id="nothing in it"),
        pytest.param(HERE, config() | {"data": {**DATA, "workshop.yaml": []}}, False, id="no text"),
        pytest.param(HERE, config() | {"data": None}, False, id="no documents"),
        pytest.param(HERE, secret("workshop-config", "lab", x="y"), False, id="otherwise"),
        pytest.param(HERE, {"metadata": {}}, False, id="empty"),
        pytest.param(UNKNOWN, secret("workshop-config", "lab", x="y"), True, id="it cannot be told"),
    ],
)
def test_is_current(here: Lab, live: Manifest | None, expected: bool) -> None:
    assert is_current(here, running(here, workshop_config=live)) is expected


def test_what_somebody_deleted_is_made_anew() -> None:
    assert lost(HERE, running(HERE, workshop_config=None)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "workshop-config", "namespace": "lab"},
        "data": DATA,
    }


@pytest.mark.parametrize(
    ("here", "changes"),
    [
        pytest.param(HERE, {"workshop_config": {"data": {}}}, id="it is there"),
        pytest.param(HERE, {"phase": Phase.PENDING}, id="the runtime has not made it yet"),
        pytest.param(lab(files=[{"git": {"url": "https://$(cluster_domain)/x", "ref": "a"}}]), {}, id="not known"),
    ],
)
def test_what_is_not_lost(here: Lab, changes: dict[str, Any]) -> None:
    assert lost(here, running(here, **changes)) is None
