"""A cluster of one node: pods of the chart run on a real kubelet, beside servers in Docker containers.

containerd and kubelet have their own mounts and process ids, so that the end of one process ends every pod.
Pods are on a Docker network, where they reach the containers, and this machine reaches them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from infra.embedded import ports
from tests.support import kubernetes
from tests.support.images import docker
from tests.support.kubernetes import CACHE, HELM, PLUGINS, TOKEN, ApiServer
from tests.support.processes import wait_for

NETWORK, SUBNET = "stepstream-pods", "10.231"
GATEWAY = f"{SUBNET}.0.1"
PAUSE = "stepstream-test:pause"
PAUSES = 'FROM python:3.13-slim\nENTRYPOINT ["sleep", "infinity"]\n'
CONTAINERD = """
version = 2
root = "FOLDER/images"
state = "FOLDER/state"
grpc.address = "FOLDER/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/stepstream-test:pause"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
cni.bin_dir = "PLUGINS"
cni.conf_dir = "FOLDER/cni"
"""
ADDRESSES = {
    "type": "host-local",
    "ranges": [[{"subnet": f"{SUBNET}.0.0/16", "rangeStart": f"{SUBNET}.1.1", "gateway": GATEWAY}]],
    "routes": [{"dst": "0.0.0.0/0"}],
}
CNI = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [{"type": "bridge", "bridge": NETWORK, "ipam": ADDRESSES}],
}
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": GATEWAY,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "healthzPort": 0,
    "resolvConf": "",
    # A machine that is itself a container has cgroups of version 1, swap and a full disk.
    "failCgroupV1": False,
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "failSwapOn": False,
    "imageGCHighThresholdPercent": 100,
    "evictionHard": {"nodefs.available": "1%"},
}
START = """
for folder in /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods; do
  mkdir -p $folder && mount -t tmpfs none $folder
done
containerd --config containerd.toml >containerd.log 2>&1 &
until [ -S containerd.sock ]; do sleep 0.1; done
"$@"
"""
OWN = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def missing() -> str | None:
    """Why no pod can run here, or None."""
    if os.geteuid() != 0:
        return "only root starts a kubelet"
    if shutil.which("containerd") is None:
        return "no containerd: Debian's package has this name"
    return kubernetes.missing()


class Node(ApiServer):
    """The cluster; `with` starts it.

    Args:
        images: tags of Docker's that its pods may use.
    """

    options: ClassVar = {"kubelet-preferred-address-types": "InternalIP"}

    def __init__(self, *images: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="stepstream-")))  # a socket's path must be short
        self._images = images
        self.kubeconfig = self._folder / "kubeconfig"

    def __enter__(self) -> Node:
        options = ("--subnet", f"{SUBNET}.0.0/16", "--ip-range", f"{SUBNET}.0.0/24", "--gateway", GATEWAY)
        bridge = f"com.docker.network.bridge.name={NETWORK}"
        done = docker("network", "create", *options, "--opt", bridge, NETWORK)
        assert done.returncode == 0, done.stderr
        super().__enter__()
        self._configure()
        own = {"kubeconfig": self.kubeconfig, "leader-elect": "false", "secure-port": 0}
        self._spawn(CACHE / "kube-scheduler", own)
        self._spawn(
            CACHE / "kube-controller-manager", own | {"service-account-private-key-file": "accounts.key"}
        )
        kubelet = {
            "config": "kubelet.json",
            "kubeconfig": self.kubeconfig,
            "hostname-override": "node",
            "node-ip": GATEWAY,
        }
        self._spawn(CACHE / "kubelet", kubelet, *OWN, "sh", "-c", START, "sh")
        self._import()
        self.kubectl("wait", "--for=create", "node/node", "--timeout=120s")
        self.kubectl("wait", "--for=condition=Ready", "node/node", "--timeout=120s")
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        docker("network", "rm", NETWORK)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _configure(self) -> None:
        (port,) = ports.free_ports([None])
        name = {"name": "tests"}
        socket = f"unix://{self._folder}/containerd.sock"
        written = {
            "kubeconfig": {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "clusters": [name | {"cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
                "users": [name | {"user": {"token": TOKEN}}],
                "contexts": [name | {"context": {"cluster": "tests", "user": "tests"}}],
            },
            "kubelet.json": KUBELET | {"port": port, "containerRuntimeEndpoint": socket},
            "cni/pods.conflist": CNI,
        }
        (self._folder / "cni").mkdir()
        for file, content in written.items():
            (self._folder / file).write_text(json.dumps(content))
        containerd = CONTAINERD.replace("FOLDER", str(self._folder)).replace("PLUGINS", str(PLUGINS))
        (self._folder / "containerd.toml").write_text(containerd)

    def _import(self) -> None:
        """Give the node the images that Docker has."""
        build = ["docker", "build", "--quiet", "-t", PAUSE, "-"]
        subprocess.run(build, input=PAUSES, text=True, check=True, stdout=subprocess.DEVNULL)
        save = subprocess.Popen(["docker", "save", PAUSE, *self._images], stdout=subprocess.PIPE)
        socket = self._folder / "containerd.sock"
        wait_for(socket.exists)
        ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", "-"]
        done = subprocess.run(ctr, stdin=save.stdout, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run `kubectl …`; returns what it printed."""
        return self._run(CACHE / "kubectl", *arguments, **options)

    def helm(self, *arguments: str, **options: Any) -> str:
        """Run `helm …`; returns what it printed."""
        return self._run(HELM, *arguments, **options)

    def _run(self, program: Path, *arguments: str, timeout: float = 300, text: str | None = None) -> str:
        env = os.environ | {"KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [str(program), *arguments], input=text, capture_output=True, text=True, env=env, timeout=timeout
        )
        assert done.returncode == 0, f"{program.name} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout
