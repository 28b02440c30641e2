"""What users can run beside a session, and what fits into which budget: what the how-to shows and tests compare."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import yaml

from datalabd.api import quantity
from datalabd.api.meta import Manifest
from hack.standins.budget import BUDGETS

DIRECTORY = Path(__file__).parents[1] / "docs" / "how-to" / "additional-services"
SERVICES = ("dask", "mlflow")
"""Those that run under a budget, in the session's own namespace; Dask Gateway needs a virtual cluster, without one."""
GATEWAY_VALUES = DIRECTORY / "dask-gateway-values.yaml"


@dataclass(frozen=True)
class Amount:
    """Processors, and bytes of memory."""

    cpu: Decimal
    memory: Decimal

    @classmethod
    def parse(cls, cpu: str, memory: str) -> "Amount":
        """From Kubernetes' notation; processors may be thousandths, such as `250m`."""
        return cls(Decimal(cpu[:-1]) / 1000 if cpu.endswith("m") else Decimal(cpu), quantity.parse(memory))

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.cpu + other.cpu, self.memory + other.memory)

    def times(self, what: "Amount") -> int:
        """How often `what` fits into this."""
        return int(min(self.cpu // what.cpu, self.memory // what.memory))

    def without(self, other: "Amount") -> "Amount | None":
        """What is left, None if the other is more than this."""
        left = Amount(self.cpu - other.cpu, self.memory - other.memory)
        return left if min(left.cpu, left.memory) >= 0 else None


def manifests(service: str) -> list[Manifest]:
    """The objects of a service, as they are applied."""
    return list(yaml.safe_load_all((DIRECTORY / f"{service}.yaml").read_text()))


@cache
def limits(deployment: str) -> Amount:
    """Limits of one pod of the Deployment of that name."""
    (found,) = (
        obj
        for service in SERVICES
        for obj in manifests(service)
        if obj["kind"] == "Deployment" and obj["metadata"]["name"] == deployment
    )
    amounts = [
        Amount.parse(**container["resources"]["limits"])
        for container in found["spec"]["template"]["spec"]["containers"]
    ]
    return sum(amounts[1:], start=amounts[0])


def workers(budget: str, *, mlflow: bool = False) -> int:
    """Most Dask workers that fit, 0 if not even one does beside its scheduler; with MLflow beside them, if asked."""
    beside = limits("dask-scheduler") + limits("mlflow") if mlflow else limits("dask-scheduler")
    left = Amount.parse(BUDGETS[budget].cpu, BUDGETS[budget].memory).without(beside)
    return left.times(limits("dask-worker")) if left else 0


def has_mlflow(budget: str) -> bool:
    """Whether MLflow fits."""
    return Amount.parse(BUDGETS[budget].cpu, BUDGETS[budget].memory).without(limits("mlflow")) is not None


def table() -> str:
    """Markdown: what fits into each budget."""
    rows = []
    for name, budget in BUDGETS.items():
        beside = workers(name, mlflow=True)
        rows.append(
            f"| `{name}` | {budget.cpu} CPU, {budget.memory} | {workers(name) or 'no Dask'} "
            f"| {'yes' if has_mlflow(name) else 'no'} | {beside or 'no Dask'} |\n"
        )
    return (
        "| Budget | Limits in all | Dask workers | MLflow | Dask workers beside MLflow |\n|---|---|---|---|---|\n"
        + "".join(rows)
    )
