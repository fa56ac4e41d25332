"""A real kube-apiserver with its etcd; `make kubernetes` builds it and the rest of a cluster from Go modules.

The build takes ten minutes once; then the cache has everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.embedded import ports, process
from tests.support.processes import wait_for

VERSION = "1.35.4"
CACHE = Path.home() / ".cache/stepstream" / f"kubernetes-{VERSION}"
SERVER, STORE, HELM = CACHE / "kube-apiserver", CACHE / "etcd", CACHE / "helm"
NODE = tuple(CACHE / name for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"))
PLUGINS = CACHE / "cni"
ETCD = "go.etcd.io/etcd/server/v3"
COMMANDS = ["helm.sh/helm/v4/cmd/helm", *(f"k8s.io/kubernetes/cmd/{each.name}" for each in (SERVER, *NODE))]
CONNECTS = [
    f"github.com/containernetworking/plugins/plugins/{name}"
    for name in ("main/bridge", "main/loopback", "ipam/host-local")
]
OTHERS = {"helm.sh/helm/v4": "v4.1.4", "github.com/containernetworking/plugins": "v1.9.1"}
DEFINITIONS = CACHE / "definitions"
DEFINED = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("servicemonitors", "podmonitors", "prometheusrules")
    ],
    "github.com/kedacore/keda/v2@v2.21.0": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "sigs.k8s.io/gateway-api@v1.6.3": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
}
"""Module → its definitions of custom resources."""
TOKEN = "tests-only"
MAIN = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""


def missing() -> str | None:
    """Why there is no cluster, or None where its programs are."""
    built = all(program.exists() for program in (SERVER, STORE, HELM, PLUGINS, *NODE))
    return None if built else "no Kubernetes: `make kubernetes` builds one"


def build() -> None:
    """Compile the programs into the cache."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        (source / "etcd").mkdir()
        (source / "etcd/main.go").write_text(MAIN)
        imports = "".join(f'import _ "{package}"\n' for package in (*COMMANDS, *CONNECTS))
        (source / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}")
        (source / "go.mod").write_text(_module())
        _go(source, "mod", "tidy", "-e")
        version = f"-ldflags=-X k8s.io/component-base/version.gitVersion=v{VERSION}"
        for target, packages in ((CACHE, ["./etcd", *COMMANDS]), (PLUGINS, CONNECTS)):
            target.mkdir(parents=True, exist_ok=True)
            _go(source, "build", version, "-o", f"{target}/", *packages)


def define() -> None:
    """Copy the definitions of custom resources into the cache."""
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    for module, files in DEFINED.items():
        folder = json.loads(_go(Path.cwd(), "mod", "download", "-json", module))["Dir"]
        for file in files:
            shutil.copyfile(Path(folder, file), DEFINITIONS / Path(file).name)


def _module() -> str:
    """A go.mod for the build, as Kubernetes' own names its parts without versions."""
    told = _go(Path.cwd(), "mod", "download", "-json", f"k8s.io/kubernetes@v{VERSION}")
    theirs = [line.split() for line in Path(json.loads(told)["GoMod"]).read_text().splitlines()]
    (language,) = (words[1] for words in theirs if words[:1] == ["go"])
    (etcd,) = {words[1] for words in theirs if words[:1] == [ETCD]}
    parts = sorted({words[0] for words in theirs if words[1:2] == ["v0.0.0"]})
    wanted = {"k8s.io/kubernetes": f"v{VERSION}", ETCD: etcd} | OTHERS
    lines = [
        "module servers",
        f"go {language}",
        *(f"require {name} {version}" for name, version in wanted.items()),
        *(f"replace {part} => {part} v0{VERSION.removeprefix('1')}" for part in parts),
    ]
    return "\n".join(lines) + "\n"


def _go(folder: Path, *arguments: str) -> str:
    go = shutil.which("go")
    assert go is not None, "no Go compiler: Debian's package is golang-go"
    env = os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, *arguments], cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


class ApiServer:
    """One server with an empty store; `with` starts it. Whoever has the token may do everything."""

    options: ClassVar[dict[str, str]] = {"disable-admission-plugins": "ServiceAccount"}
    """What no controllers are needed for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._client, self._peer = ports.free_ports([None] * 3)
        self._kinds: dict[tuple[str, str], dict[str, Any]] = {}
        self.url = f"https://{ports.LOOPBACK}:{self._port}"

    def __enter__(self) -> ApiServer:
        here = ports.LOOPBACK
        store, peer = f"http://{here}:{self._client}", f"http://{here}:{self._peer}"
        (self._folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self._folder / "accounts.key").write_bytes(key.private_bytes(*plain))
        etcd = {
            "data-dir": "store",
            "listen-client-urls": store,
            "advertise-client-urls": store,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        server = {
            "etcd-servers": store,
            "bind-address": here,
            "secure-port": self._port,
            "cert-dir": "certificates",
            "token-auth-file": "tokens.csv",
            "authorization-mode": "AlwaysAllow",
            "service-account-issuer": "https://tests",
            "service-account-key-file": "accounts.key",
            "service-account-signing-key-file": "accounts.key",
            "service-cluster-ip-range": "10.0.0.0/24",
        }
        self._spawn(STORE, etcd)
        self._spawn(SERVER, server | self.options)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._processes):
            child.kill()
            child.wait()

    def apply(self, resource: dict[str, Any], namespace: str) -> list[str]:
        """`kubectl apply --server-side --validate=strict`; returns the warnings."""
        api, kind = resource["apiVersion"], resource["kind"]
        found = self._kind(api, kind)
        inside = f"/namespaces/{namespace}" if found["namespaced"] else ""
        name = resource["metadata"]["name"]
        query = "fieldManager=tests&fieldValidation=Strict&force=true"
        path = f"{_root(api)}{inside}/{found['name']}/{name}?{query}"
        return self._ask(path, "PATCH", resource, "application/apply-patch+yaml")[1]

    def _kind(self, api: str, kind: str) -> dict[str, Any]:
        wait_for(lambda: (api, kind) in self._kinds or self._list(api), 60, f"the server lacks {api} {kind}")
        return self._kinds[api, kind]

    def _list(self, api: str) -> None:
        """Learn the kinds of a group; that of a new definition takes a moment to be there."""
        with contextlib.suppress(AssertionError):
            for each in self._ask(_root(api))[0]["resources"]:
                if "/" not in each["name"]:
                    self._kinds[api, each["kind"]] = each

    def _ask(
        self, path: str, method: str = "GET", body: Any = None, media: str = "application/json"
    ) -> tuple[Any, list[str]]:
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": media},
        )
        unchecked = ssl._create_unverified_context()  # the server signs its own certificate, on the loopback
        try:
            with urllib.request.urlopen(request, context=unchecked, timeout=60) as answer:
                return json.loads(answer.read()), answer.headers.get_all("Warning") or []
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def _spawn(self, program: Path, options: dict[str, Any], *within: str) -> None:
        with (self._folder / f"{program.name}.log").open("wb") as log:
            command = [*within, str(program), *(f"--{name}={value}" for name, value in options.items())]
            self._processes.append(process.spawn(command, output=log, cwd=self._folder))

    def _wait(self) -> None:
        deadline = time.monotonic() + 240
        while True:
            try:
                self._ask("/api/v1/namespaces/default")
                return
            except (OSError, AssertionError):
                log = (self._folder / f"{SERVER.name}.log").read_text()
                assert time.monotonic() < deadline, log[-3000:]
                assert self._processes[-1].poll() is None, log[-3000:]
                time.sleep(0.5)


def _root(api: str) -> str:
    return f"/apis/{api}" if "/" in api else f"/api/{api}"


if __name__ == "__main__":
    define()
    build()
