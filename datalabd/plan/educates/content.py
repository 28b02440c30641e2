"""Secret `workshop-config`: what sessions are configured with and download, as Educates writes it with an environment.

Educates makes it once, as YAML, and every session mounts it, so it is kept current from here. JSON is YAML: what reads
it reads this. What Educates wrote stays while it says the same.
"""

import base64
import functools
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import yaml

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.live import dig, text
from datalabd.observed import Observed, derived_lastingly
from datalabd.plan.educates.workshop import workshop_spec

VENDIR = "vendir.k14s.io/v1alpha1"
FILES, PACKAGES = "/opt/assets/files", "/opt/packages"
UNKNOWN = (
    "platform_arch",
    "image_repository",
    "oci_image_cache",
    "assets_repository",
    "cluster_domain",
    "ingress_protocol",
    "ingress_port",
    "ingress_port_suffix",
)
"""Variables whose values are the Educates installation's own."""
COMPARISONS = 1024
"""How many documents that are written differently are remembered as alike or not: a lab has a few."""
READ_MAX = 16 * 1024
"""Characters of encoded documents that are read to be compared, which takes two milliseconds; where there are more,
ours are written."""
_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where it was built


class _Loader(_FASTEST):  # type: ignore[misc]  # whichever it is
    """Loads no merges: a few lines of them, each of the ones before, make gigabytes, and hold the loop for minutes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """What `<<` in a mapping stands for: nothing."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merges are not read", node.start_mark)


def workshop_config(lab: Lab, spec: Manifest) -> Mapping[str, str] | None:
    """Its data, encoded, for a Workshop's spec; None where sources use variables that only Educates can fill in."""
    content = spec["workshop"]
    written = json.dumps(content)
    if any(f"$({name})" in written for name in UNKNOWN):
        return None
    session = {key: spec["session"][key] for key in ("applications", "ingresses", "dashboards")}
    shown = {key: spec[key] for key in ("title", "description", "version")}
    documents: dict[str, Any] = {"workshop.yaml": {"spec": shown | {"session": session}}}
    filled = _filled(lab, spec, content)
    for index, source in enumerate(filled["files"], start=1):
        where = posixpath.normpath(posixpath.join(FILES, source.get("path") or "."))
        documents[f"vendir-assets-{index:02}.yaml"] = _vendir([(where, [source | {"path": "."}])])
    if filled["packages"]:
        places = [(f"{PACKAGES}/{package['name']}", package.get("files") or []) for package in filled["packages"]]
        documents["vendir-packages.yaml"] = _vendir(places)
    return {key: base64.b64encode(json.dumps(document).encode()).decode() for key, document in documents.items()}


@derived_lastingly
def wanted_config(lab: Lab, seen: Observed) -> Mapping[str, str] | None:
    """The data for a lab."""
    return workshop_config(lab, workshop_spec(lab, seen))


def is_current(lab: Lab, seen: Observed) -> bool:
    """Whether what stands there is what sessions started now are to have, or cannot be told from it."""
    if seen.workshop_config is None:
        return True  # an Educates that keeps it elsewhere, or has not made it yet
    wanted = wanted_config(lab, seen)
    return wanted is None or _is_equal(dig(seen.workshop_config, "data"), wanted)


def _is_equal(live: Manifest, wanted: Mapping[str, str]) -> bool:
    """Whether the live documents are those that are wanted, or say the same in YAML of whatever style."""
    if live.keys() != wanted.keys():
        return False
    written = {key: text(live, key) for key in wanted if live[key] != wanted[key]}
    return sum(map(len, written.values())) <= READ_MAX and all(
        _is_alike(document, wanted[key]) for key, document in written.items()
    )


@functools.lru_cache(COMPARISONS)
def _is_alike(document: str, wanted: str) -> bool:
    try:
        found = yaml.load(base64.b64decode(document), _Loader)
    except (ValueError, yaml.YAMLError, RecursionError):
        return False  # not of Educates' making
    return bool(found == json.loads(base64.b64decode(wanted)))


def lost(lab: Lab, seen: Observed) -> Manifest | None:
    """The Secret anew, where somebody deleted it: no session's pod starts without it. None where it is not known."""
    if not seen.runtime_ready or seen.workshop_config is not None:
        return None
    data = wanted_config(lab, seen)
    metadata = {"name": names.WORKSHOP_CONFIG, "namespace": names.workshop_namespace(lab.name)}
    return None if data is None else {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _vendir(directories: list[tuple[str, list[Manifest]]]) -> Manifest:
    listed = [{"path": path, "contents": contents} for path, contents in directories]
    return {"apiVersion": VENDIR, "kind": "Config", "directories": listed}


def _filled(lab: Lab, spec: Manifest, content: Any) -> Any:
    """The content with the variables filled in whose values follow from the lab."""
    namespace = names.workshop_namespace(lab.name)
    values = {
        "environment_name": lab.name,
        "workshop_name": lab.name,
        "workshop_namespace": namespace,
        "workshop_version": spec["version"],
        "ingress_domain": lab.environment.data.ingress.domain,
        "training_portal": "",
    }

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(item) for item in node]
        if isinstance(node, str):
            return re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), node)
        return node

    return fill(content)
