"""A pod without Kubernetes: a container's arguments in namespaces of their own, as a manifest describes them.

The root is read-only, and holds what the image holds: the application and its packages, with the programs of this
machine. Volumes are mounted where and as the manifest says. The network is the pod's own, so ports are the real ones;
servers outside are reached by their unix sockets. The user is the manifest's, without a capability. Needs root.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fundapi.kubernetes import Object, component, container, pod

# A network begins with its loopback device down: SIOCSIFFLAGS, IFF_UP.
UP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
# Makes a root with the volumes that stand before "--", goes there, and runs what stands behind.
SCRIPT = """
set -eu
root=$1 user=$2; hostname "$3"; "$4" -ISc "$5"; shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$root"
show() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; }
for each in bin etc lib lib32 lib64 sbin usr; do
    if [ -L "/$each" ]; then cp -P "/$each" "$root/"; elif [ -d "/$each" ]; then show "/$each" "/$each"; fi
done
for each in dev proc; do mkdir "$root/$each"; mount --rbind "/$each" "$root/$each"; done
while [ "$1" != -- ]; do
    case $1 in
        memory) mkdir -p "$root$2"; mount -t tmpfs -o "size=$3,mode=0777" tmpfs "$root$2" ;;
        files) show "$3" "$2" ;;
        file) mount --bind "$3" "$root$2" ;;
    esac
    shift 3
done
shift
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all sh -c 'cd /app && exec "$@"' sh "$@"
"""
# A kubelet's httpGet, which follows no redirect here.
GET = """
import http.client, sys
port, path, patience = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=float(patience))
connection.request("GET", path, headers={"Host": "10.0.0.7"})
answer = connection.getresponse()
print(answer.read().decode())
sys.exit(answer.status != 200)
"""
# Waits until a port is open, or the time is over.
WAIT = """
import socket, sys, time
port, patience = map(int, sys.argv[1:])
end = time.monotonic() + patience
while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < end:
    time.sleep(0.1)
"""


def require_root() -> None:
    """Skip the test where no namespaces can be made."""
    made = os.geteuid() == 0 and shutil.which("setpriv") and shutil.which("unshare")
    if not made or subprocess.run(["unshare", "--mount", "--net", "--uts", "true"], check=False).returncode:
        pytest.skip("a pod's read-only root needs root, and mount namespaces: run the tests as root")


class Pod:
    """The container of a Deployment's or a Job's pod. ``files`` are the directories of its volumes that hold files."""

    def __init__(
        self, each: Object, *, image: Path, variables: dict[str, str], files: dict[str, Path], sockets: Path
    ) -> None:
        self.spec, self.container = pod(each), container(each)
        self.name = f"{each['metadata']['name']}-x1"
        self.component = component(each)
        self.variables = variables
        self.image = image
        mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        volumes: list[tuple[str, str, str]] = []
        for volume in self.spec["volumes"]:
            place = mounts[volume["name"]]
            if "emptyDir" in volume:
                volumes.append(("memory", place, volume["emptyDir"]["sizeLimit"].removesuffix("i")))
            else:
                volumes.append(("files", place, str(files[volume["name"]])))
        # Below /tmp, so after it: where this Python and these packages are.
        outside = [image / "app", image / "shim", sockets, Path(sys.prefix), Path(sys.base_prefix)]
        places = ["/app", "/shim", str(sockets), sys.prefix, sys.base_prefix]
        shown = dict(zip(places, map(str, outside), strict=True))
        volumes += [("files", place, path) for place, path in shown.items() if not place.startswith("/usr")]
        users = image / "passwd"
        user = self.spec["securityContext"]["runAsUser"]
        users.write_text(
            f"{Path('/etc/passwd').read_text()}fundapi:x:{user}:{user}::/tmp:/usr/sbin/nologin\n"
        )
        volumes.append(("file", "/etc/passwd", str(users)))
        self.volumes = [word for volume in volumes for word in volume]

    def start(self, log: Any) -> None:
        root = self.image / f"root-{self.component}"
        root.mkdir(exist_ok=True)
        user = str(self.spec["securityContext"]["runAsUser"])
        within = [str(root), user, self.name, sys.executable, UP, *self.volumes, "--"]
        command = self._command(self.container["args"])
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--uts", "sh", "-c", SCRIPT, "pod", *within, *command],
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _command(self, words: list[str]) -> list[str]:
        return ["env", "-i", *(f"{name}={value}" for name, value in self.variables.items()), *words]

    def run(self, *words: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container, as `kubectl exec` does."""
        user = self.spec["securityContext"]["runAsUser"]
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
        return subprocess.run(
            [*self._enter("--mount", "--root", "--wd"), *as_user, *self._command(list(words))],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def _enter(self, *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self.process.pid}", "--net", "--uts", *namespaces, "--"]

    def get(self, port: int, path: str, timeout: float = 3) -> "subprocess.CompletedProcess[str]":
        """Ask a port of the pod, by an address for a name, as a kubelet does."""
        asked = [*self._enter(), sys.executable, "-ISc", GET, str(port), path, str(timeout)]
        return subprocess.run(asked, capture_output=True, text=True, check=False)

    def wait_for(self, port: str, patience: int = 60) -> None:
        """Wait until a port is open: cheaper than to ask again and again."""
        words = [sys.executable, "-ISc", WAIT, str(self.port(port)), str(patience)]
        subprocess.run([*self._enter(), *words], check=True)

    def port(self, name: str) -> int:
        [found] = [port["containerPort"] for port in self.container["ports"] if port["name"] == name]
        return int(found)

    def passes(self, probe: Object) -> bool:
        """Return whether a probe succeeds within its time."""
        try:
            if "exec" in probe:
                return self.run(*probe["exec"]["command"], timeout=probe["timeoutSeconds"]).returncode == 0
            asked = probe["httpGet"]
            return self.get(self.port(asked["port"]), asked["path"], probe["timeoutSeconds"]).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def end(self) -> int:
        """Ask it to end, wait as long as a kubelet does, and return its exit status; kill it after that."""
        pause = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(self.spec["terminationGracePeriodSeconds"] - pause)


@contextmanager
def running(made: Pod, log: Any) -> Iterator[Pod]:
    """Run a pod until the context ends."""
    made.start(log)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(made.process.pid, signal.SIGKILL)
        made.process.wait()
