"""Servers in containers, as a cluster has them."""

from __future__ import annotations

import os
from typing import Any

# Before testcontainers reads them. Every container here is ended by its fixture, so Ryuk, an image more to
# pull, has nothing to do; and published ports are on this machine also where it is a container itself.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

REGISTRY_API = "/apis/ccompat/v7"


def registry(port: int | None = None) -> Any:
    """A Confluent-compatible schema registry, on a free port of this machine or on this one."""
    container = DockerContainer("apicurio/apicurio-registry:3.3.3")
    container = container.with_bind_ports(8080, port) if port else container.with_exposed_ports(8080)
    return container.waiting_for(HttpWaitStrategy(8080, f"{REGISTRY_API}/subjects"))


def address(container: DockerContainer, port: int) -> str:
    """Where a port of a container is reached from here: host:port."""
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
