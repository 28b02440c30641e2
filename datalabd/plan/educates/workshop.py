"""The Workshop: what Educates makes environments and sessions from."""

import orjson

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import File, Policy
from datalabd.lab import Lab
from datalabd.observed import Observed, Phase, Place, SessionFacts, derived_lastingly
from datalabd.plan import data_browser, network_policies, rights, volumes
from datalabd.plan.metadata import ours
from datalabd.sources import secrets

EDUCATES = "training.educates.dev/v1beta1"
VCLUSTER_VERSION = "1.34"
DOCKER_STORAGE = "20Gi"
SESSION_NAMESPACE = "$(session_namespace)"


@derived_lastingly
def workshop(lab: Lab, seen: Observed) -> Manifest:
    """Workshop `N`."""
    return ours(
        lab,
        {"apiVersion": EDUCATES, "kind": "Workshop", "metadata": {"name": lab.name}, "spec": workshop_spec(lab, seen)},
    )


@derived_lastingly
def workshop_spec(lab: Lab, seen: Observed) -> Manifest:
    """Its spec; `$(...)` are variables that Educates fills in."""
    environment_objects = [*network_policies.workshop_policies(lab, seen)]
    if lab.claim.spec.data.enabled:
        environment_objects.append(_without_namespace(volumes.data_mount(lab)))
    environment_objects.append(rights.binding(seen.account, rights.LAB))
    content = session_content(lab)
    return {
        "title": "Default DataLab",
        "description": "A default DataLab environment.",
        "version": "1.0",
        "workshop": content["workshop"],
        "session": content["session"] | {"objects": session_objects(lab, seen)},
        "environment": {
            "secrets": [{"name": names.credentials(lab.name), "namespace": lab.namespace}],
            "objects": environment_objects,
        },
    }


def withheld_secrets(lab: Lab) -> list[tuple[str, File]]:
    """Fields of `spec.files` that name a Secret which no download finds, with the item of each.

    Educates downloads with the Secrets that the Workshop lists, and that is `N-datalab` alone. A download sends them to
    whatever address the claim names, and who may write claims may not be one who may read the Secrets beside them.
    """
    return [
        (f"spec.files[{index}].{at}", file)
        for index, file in enumerate(lab.claim.spec.files)
        for at, secret in secrets(file)
        if secret.name != names.credentials(lab.name)
    ]


def session_content(lab: Lab) -> Manifest:
    """The part of the spec that a session takes over when it is created.

    Policies change without it, and what lets us change them is no concern of its users.
    """
    data = lab.claim.spec.data.enabled
    session = {
        "applications": _applications(lab),
        # Always the durable volume: Educates' own would be deleted whenever the session stops.
        "resources": {"memory": lab.memory, "volume": {"name": "$(session_name)-persistent"}},
        "namespaces": {
            "budget": str(lab.budget),
            "role": str(lab.kubernetes_role),
            "security": {"policy": str(lab.policy), "token": {"enabled": lab.kubernetes_access}},
        },
        "envFrom": [{"secretRef": {"name": names.credentials(lab.name)}}],
        "dashboards": [data_browser.DASHBOARD] if data else [],
        "ingresses": [data_browser.INGRESS] if data else [],
        "objects": _content_objects(lab),
    }
    return {"session": session, "workshop": {"files": list(lab.files), "packages": list(lab.environment.data.packages)}}


def session_objects(lab: Lab, seen: Observed) -> list[Manifest]:
    """What Educates creates with each session, policies first, so that no user's pod comes before them."""
    namespaces = _session_namespaces(lab.claim.spec.vcluster)
    objects = [*_policies(lab, seen, virtual=lab.claim.spec.vcluster)]
    objects += [rights.binding(seen.account, rights.SESSION, namespace) for namespace in namespaces]
    return objects + _content_objects(lab)


def _content_objects(lab: Lab) -> list[Manifest]:
    """What of that is no policy and no right."""
    objects = data_browser.session_objects(lab) if lab.claim.spec.data.enabled else []
    service_cidr = lab.environment.data.network.service_cidr
    if lab.claim.spec.vcluster and service_cidr:
        # The virtual cluster uses the host's range of Service addresses, so that names resolve to what is reachable.
        metadata = {"name": "vc-cidr-my-vcluster", "namespace": f"{SESSION_NAMESPACE}-vc"}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"cidr": service_cidr}})
    return objects


def live_session_policies(lab: Lab, seen: Observed, session: str) -> list[Manifest]:
    """The same policies as Educates creates them for one session: with the variables filled in.

    A session that runs keeps the virtual cluster it started with, whatever the claim says now.
    """
    facts = seen.sessions.get(session, SessionFacts())
    runs = facts.phase is Phase.RUNNING and (
        facts.places.get(names.vcluster_namespace(lab.name, session)) is Place.OURS
    )
    virtual = lab.claim.spec.vcluster or runs
    filled = _filled(lab, seen)
    if (session, virtual) not in filled:
        template = orjson.dumps(_policies(lab, seen, virtual=virtual))
        text = template.replace(SESSION_NAMESPACE.encode(), names.session(lab.name, session).encode())
        filled[session, virtual] = orjson.loads(text)
    return list(filled[session, virtual])


@derived_lastingly
def _filled(lab: Lab, seen: Observed) -> dict[tuple[str, bool], list[Manifest]]:
    """Those that were made already, by session and whether it has a virtual cluster."""
    return {}


def _policies(lab: Lab, seen: Observed, *, virtual: bool) -> list[Manifest]:
    return _virtual_policies(lab, seen) if virtual else _plain_policies(lab, seen)


@derived_lastingly
def _plain_policies(lab: Lab, seen: Observed) -> list[Manifest]:
    return network_policies.session_policies(lab, seen, _session_namespaces(virtual=False))


@derived_lastingly
def _virtual_policies(lab: Lab, seen: Observed) -> list[Manifest]:
    return network_policies.session_policies(lab, seen, _session_namespaces(virtual=True))


def _session_namespaces(virtual: bool) -> list[str]:
    return [SESSION_NAMESPACE, *([f"{SESSION_NAMESPACE}-vc"] if virtual else [])]


def _applications(lab: Lab) -> Manifest:
    applications: Manifest = {
        "console": {"enabled": False},
        "editor": {"enabled": True},
        "slides": {"enabled": False},
        "terminal": {"enabled": True},
        "workshop": {"enabled": bool(lab.files)},
        "vcluster": {
            "enabled": lab.claim.spec.vcluster,
            "version": VCLUSTER_VERSION,
            "services": {"fromHost": [_mirrored(host) for host in sorted(lab.claim.spec.databases)]},
        },
    }
    if lab.policy is Policy.PRIVILEGED:
        applications["docker"] = {"enabled": True, "storage": DOCKER_STORAGE}
    if lab.registry_storage:
        applications["registry"] = {"enabled": True, "storage": lab.registry_storage}
    return applications


def _mirrored(host: str) -> Manifest:
    """A database's Service under the same name inside virtual clusters."""
    service = f"$(workshop_namespace)/{host}-primary"
    return {"from": service, "to": service}


def _without_namespace(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
    return manifest | {"metadata": metadata}
