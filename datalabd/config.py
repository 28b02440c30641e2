"""Settings of the process, read once from its environment. Policy for labs belongs in an EnvironmentConfig."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Settings:
    """Everything `datalabd run` can be told. Each variable is `DATALABD_` and the field's name in capitals."""

    namespace: str = "datalabd"
    """Namespace of the process: its Lease, its serving certificate, its Service."""
    service: str = "datalabd"
    """Name of the Service through which the API server reaches the webhooks."""
    webhook_host: str = "0.0.0.0"
    """Address the TLS webhook port listens on."""
    webhook_port: int = 9443
    """Port of the webhooks; 0 takes a free one."""
    metrics_host: str = "0.0.0.0"
    """Address of the plain port with /healthz, /readyz and /metrics."""
    metrics_port: int = 8080
    """Port of those; 0 takes a free one."""
    certificate_dir: str = ""
    """Directory with tls.crt, tls.key and ca.crt, as cert-manager mounts them; empty: datalabd is its own authority."""
    workers: int = 8
    """Claims reconciled at once."""
    log_level: str = "info"
    """debug, info, warning or error."""
    identity: str = ""
    """Name in the Lease; the host name and process id if empty."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The settings in `environ`; ValueError naming the variable that is wrong.

        Other variables of that prefix are ignored: Kubernetes itself sets some, after our Service.
        """
        values: dict[str, str | int] = {}
        for name, field in cls.__dataclass_fields__.items():
            variable = f"DATALABD_{name.upper()}"
            if (text := environ.get(variable)) is None:
                continue
            if isinstance(field.default, int):
                if not (text.isascii() and text.isdigit()):
                    raise ValueError(f"{variable}: must be a whole number, not {text!r}")
                if name.endswith("_port") and int(text) > 65535:
                    raise ValueError(f"{variable}: must be at most 65535")
                values[name] = int(text)
            else:
                values[name] = text
        settings = cls(**values)  # type: ignore[arg-type]  # of the fields' own types, as just seen
        if settings.log_level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("DATALABD_LOG_LEVEL: must be debug, info, warning or error")
        if settings.workers < 1:
            raise ValueError("DATALABD_WORKERS: must be at least 1")
        if settings.certificate_dir and not Path(settings.certificate_dir).is_dir():
            raise ValueError(f"DATALABD_CERTIFICATE_DIR: {settings.certificate_dir} is no directory")
        return settings

    def on_workstation(self, webhook_port: int | None) -> Self:
        """The settings of a run outside the cluster: free ports, unless they were chosen or the URL says otherwise."""
        default = type(self)()
        return replace(
            self,
            webhook_port=(webhook_port or 0) if self.webhook_port == default.webhook_port else self.webhook_port,
            metrics_port=0 if self.metrics_port == default.metrics_port else self.metrics_port,
        )

    @property
    def lease_identity(self) -> str:
        """Who we are to other replicas; unique per process."""
        return self.identity or f"{socket.gethostname()}-{os.getpid()}"
