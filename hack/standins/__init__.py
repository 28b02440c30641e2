"""What the local control plane lacks, played against its real API server: Educates, and a kubelet with its volumes.

    async with Educates(client, domain="lab.example.org"), Kubelet(client):
        ...

`python -m hack.standins` runs both for a person. They act on real objects and keep nothing in memory that a restart
would lose. Where the real thing is unkind (acts once, fails for good, gets stuck), so are they.
"""

from hack.standins.crds import crds, install, install_crds
from hack.standins.educates import Educates, Timing
from hack.standins.kubelet import TROUBLE, Kubelet

__all__ = ["TROUBLE", "Educates", "Kubelet", "Timing", "crds", "install", "install_crds"]
