"""The plan of a lab: every object it consists of, in the order of apply. Pure; the only place that decides.

The reconciler applies it, the documentation lists it, admission warns by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import credentials, network_policies, volumes
from datalabd.plan.educates import sessions
from datalabd.plan.educates.environment import workshop_environment
from datalabd.plan.educates.workshop import live_session_policies, workshop
from datalabd.plan.prune import Identity, identity


@dataclass(frozen=True)
class Stage:
    """Objects that can be applied together once the stage waits for nothing."""

    name: str
    objects: tuple[Manifest, ...] = ()
    waits: str | None = None
    """What must happen first; None: apply now."""
    session: str | None = None
    """The session this stage is for; such stages do not hold each other up."""
    create_only: bool = False
    """Random contents: written once, never again."""
    keeps: tuple[Identity, ...] = ()
    """Objects that stay as they are although this pass cannot plan them: an input is missing, not unwanted."""


@dataclass(frozen=True)
class Plan:
    """All stages of a lab, in order of apply."""

    stages: tuple[Stage, ...]

    @property
    def wanted(self) -> set[Identity]:
        """Everything that must not be pruned, whether it can be applied now or not."""
        return {identity(obj) for stage in self.stages for obj in stage.objects} | {
            kept for stage in self.stages for kept in stage.keeps
        }


def plan(lab: Lab, seen: Observed, fresh_password: str) -> Plan:
    """The plan of a lab, from what is seen of it; `fresh_password` is used for a login that does not exist yet."""
    return Plan(
        (
            _login(lab, seen, fresh_password),
            _credentials(lab, seen),
            _runtime(lab, seen),
            _workshop_namespace(lab, seen),
            *(stage for session in lab.started for stage in _session(lab, seen, session)),
        )
    )


def _login(lab: Lab, seen: Observed, fresh_password: str) -> Stage:
    if not lab.generates_login:
        return Stage("login")
    if seen.login is not None:
        return Stage("login", keeps=(("Secret", lab.namespace, names.login(lab.name)),))
    # A login Secret of ours that somebody emptied is written again; one that appears meanwhile is only read.
    return Stage("login", (credentials.login(lab, fresh_password),), create_only=not seen.login_exists)


def _credentials(lab: Lab, seen: Observed) -> Stage:
    # The runtime's copy may carry our labels; it is the runtime's to keep.
    copy = ("Secret", names.workshop_namespace(lab.name), names.credentials(lab.name))
    if seen.storage is not None:
        return Stage("credentials", (credentials.credentials(lab, seen.storage),), keeps=(copy,))
    known = ("Secret", lab.namespace, names.credentials(lab.name))
    return Stage("credentials", waits=seen.storage_problem, keeps=(copy, known))


def _runtime(lab: Lab, seen: Observed) -> Stage:
    """The Workshop before the environment: Educates gives up on an environment without one.

    The namespace is never ours to create, and an environment that finds it taken would fail for good.
    """
    waits = None
    if not seen.runtime_served:
        waits = "the cluster does not know the kinds of training.educates.dev/v1beta1; install Educates"
    elif seen.phase is Phase.ABSENT and seen.place is not Place.ABSENT:
        reason = "is still being deleted" if seen.place is Place.TERMINATING else "exists and is not this lab's"
        waits = f"namespace {names.workshop_namespace(lab.name)} {reason}"
    elif seen.phase is Phase.DELETING:
        waits = "the environment is being deleted"
    return Stage("runtime", (workshop(lab, seen), workshop_environment(lab)), waits)


def _workshop_namespace(lab: Lab, seen: Observed) -> Stage:
    namespace = names.workshop_namespace(lab.name)
    objects = [_in(namespace, policy) for policy in network_policies.workshop_policies(lab, seen)]
    if lab.claim.spec.data.enabled:
        objects.append(volumes.data_mount(lab))
    objects += [volumes.home(lab, seen, session) for session in lab.sessions]
    waits = None if seen.runtime_ready else "the lab's environment is not running yet"
    return Stage("workshop namespace", tuple(objects), waits, keeps=_kept_policies(lab, seen, namespace))


def _session(lab: Lab, seen: Observed, session: str) -> Iterator[Stage]:
    """The session, then what keeps the policies of its namespaces current.

    Not before it runs: Educates creates them from the Workshop, and gives up on a session whose objects exist already.
    """
    waits = sessions.waits(lab, seen, session)
    yield Stage(f"session {session}", (sessions.workshop_session(lab, seen, session),), waits, session)
    policies = live_session_policies(lab, seen, session)
    facts = seen.sessions.get(session, SessionFacts())
    namespaces = {policy["metadata"]["namespace"] for policy in policies}
    running = facts.phase is Phase.RUNNING and all(facts.places.get(name) is Place.OURS for name in namespaces)
    waits = None if running else f"session {session} is not running yet"
    yield Stage(
        f"network policies of session {session}",
        tuple(policies),
        waits,
        session,
        keeps=_kept_policies(lab, seen, *sorted(namespaces)),
    )


def _kept_policies(lab: Lab, seen: Observed, *namespaces: str) -> tuple[Identity, ...]:
    """The way to the API server stays open while nobody can say where that is."""
    if seen.api_server or lab.environment.data.network.api_server_cidrs:
        return ()
    return tuple(("NetworkPolicy", namespace, network_policies.API_SERVER) for namespace in namespaces)


def _in(namespace: str, manifest: Manifest) -> Manifest:
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}
