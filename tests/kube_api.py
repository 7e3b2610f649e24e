"""A real API server on loopback, with the CustomResourceDefinitions of the projects that Upkeep writes for.

The server is etcd and ``apiextensions-apiserver``, Kubernetes' own for custom resources: schemas, defaults, server-side
apply, conflicts, subresources, watches; it has no built-in kinds, and takes any namespace. Both come from PATH, see
.ci/run. The definitions lie in Go modules of their projects: ``crds.sum`` pins versions and hashes, and ``go mod
download`` fetches them. Where a program or the network is missing, whoever asks for the server is skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from upkeep.serving.kubernetes.api import Api

PINS = Path(__file__).parent / "crds.sum"
CRDS = {
    "github.com/kserve/kserve": [
        f"config/crd/full/serving.kserve.io_{kind}.yaml"
        for kind in ("inferenceservices", "servingruntimes", "clusterservingruntimes")
    ],
    "sigs.k8s.io/gateway-api": [
        f"config/crd/standard/gateway.networking.k8s.io_{kind}.yaml"
        for kind in ("gatewayclasses", "gateways", "httproutes")
    ],
    "github.com/argoproj/argo-cd/v3": [
        f"manifests/crds/{kind}-crd.yaml" for kind in ("application", "applicationset", "appproject")
    ],
    "github.com/fluxcd/kustomize-controller": ["config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"],
    "github.com/fluxcd/source-controller": ["config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml"],
    "github.com/prometheus-operator/prometheus-operator": [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("podmonitors", "prometheusrules")
    ],
    "github.com/external-secrets/external-secrets": ["config/crds/bases/external-secrets.io_externalsecrets.yaml"],
    "github.com/kubeflow/training-operator": ["manifests/base/crds/kubeflow.org_tfjobs.yaml"],
}
"""Module → its files that the tests need."""
NEEDS_BUILT_IN_KINDS = (
    "NamespaceLifecycle",
    *(f"{kind}Admission{by}" for kind in ("Mutating", "Validating") for by in ("Webhook", "Policy")),
)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definitions(folder: Path) -> list[Path]:
    """Every definition's file, its module fetched and held to its hash."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go, to fetch the CustomResourceDefinitions of other projects with")
    pins = {module: (version, sum_) for module, version, sum_ in map(str.split, PINS.read_text().splitlines())}
    assert pins.keys() == CRDS.keys()
    wanted = [f"{module}@{version}" for module, (version, _) in pins.items()]
    command = [go, "mod", "download", "-json", *wanted]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("no CustomResourceDefinitions of other projects: Go's proxy does not answer")
    found, at = [], 0
    while at < len(done.stdout.rstrip()):
        module, at = json.JSONDecoder().raw_decode(done.stdout, at)
        at += 1
        if "Error" in module:
            assert "checksum mismatch" not in module["Error"], module["Error"]
            pytest.skip(f"no CustomResourceDefinitions of {module['Path']}: {module['Error']}")
        assert (module["Version"], module["Sum"]) == pins[module["Path"]], f"{module['Path']} is not what is pinned"
        found += [Path(module["Dir"], file) for file in CRDS[module["Path"]]]
    return found


@contextmanager
def shared_api_server(folder: Path) -> Iterator[Path]:
    """The kubeconfig of the one server of all processes that name this folder: the first starts it, and ends it when
    no other uses it any more. Its administrator may do everything."""
    running = folder / "running"
    with (folder / "turn").open("w") as turn, (folder / "using").open("w") as using, ExitStack() as stack:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not running.exists():
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            stack.enter_context(_api_server(place))
            running.symlink_to(place)
            stack.callback(running.unlink)
            stack.callback(fcntl.flock, using, fcntl.LOCK_EX)  # the others have ended,
            stack.callback(fcntl.flock, turn, fcntl.LOCK_EX)  # and before that nobody begins
        fcntl.flock(using, fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield running.resolve() / "kubeconfig"


@contextmanager
def _api_server(folder: Path) -> Iterator[None]:
    missing = [each for each in ("etcd", "apiextensions-apiserver", "openssl") if shutil.which(each) is None]
    if missing:
        pytest.skip(f"no API server to start: {', '.join(missing)} not on PATH (.ci/run says how to install it)")
    files = definitions(folder)
    store, peer, port = free_ports(3)
    etcd = f"http://127.0.0.1:{store}"
    (folder / "etcd.url").write_text(etcd)
    nobody = folder / "nobody"  # the server has nobody to ask, and wants to know whom
    nobody.write_text(_kubeconfig("http://127.0.0.1:1"))
    self_signed = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /O=system:masters/CN=admin"
    command = [*shlex.split(self_signed), "-keyout", "admin.key", "-out", "admin.crt"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    urls = (
        ("listen-client-urls", etcd),
        ("advertise-client-urls", etcd),
        ("listen-peer-urls", f"http://127.0.0.1:{peer}"),
    )
    kubeconfigs = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    commands = (
        ["etcd", "--data-dir=etcd", "--unsafe-no-fsync", *(f"--{name}={url}" for name, url in urls)],
        [
            "apiextensions-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--cert-dir=.",
            "--client-ca-file=admin.crt",
            "--authentication-skip-lookup",
            *(f"--{each}=nobody" for each in kubeconfigs),
            "--enable-priority-and-fairness=false",
            f"--disable-admission-plugins={','.join(NEEDS_BUILT_IN_KINDS)}",
        ],
    )
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
            # more memory, and a quarter less of the processor: most that it makes at the start stays
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"GOGC": "400"})
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
        install(folder, files, f"https://127.0.0.1:{port}")
        (folder / "kubeconfig").write_text(_kubeconfig(f"https://127.0.0.1:{port}"))
        yield


def _kubeconfig(url: str) -> str:
    """Of the administrator."""
    ca = {} if url.startswith("http:") else {"certificate-authority": "apiserver.crt"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {"server": url, **ca}}],
            "users": [{"name": "admin", "user": {"client-certificate": "admin.crt", "client-key": "admin.key"}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin", "namespace": "default"}}],
            "current-context": "local",
        }
    )


def install(folder: Path, files: list[Path], url: str) -> None:
    """Waits for the server, gives it the definitions, and waits until it serves all of them."""
    end = time.monotonic() + 120

    def wait(client: httpx.Client, path: str, named: str = "") -> None:
        while True:
            with suppress(httpx.TransportError):
                answer = client.get(path)
                if answer.status_code == 200 and f'"{named}' in answer.text:
                    return
            assert time.monotonic() < end, (folder / "apiextensions-apiserver.log").read_text()[-2000:]
            time.sleep(0.1)

    while not (folder / "apiserver.crt").exists():
        assert time.monotonic() < end, (folder / "apiextensions-apiserver.log").read_text()[-2000:]
        time.sleep(0.1)
    context = ssl.create_default_context(cafile=folder / "apiserver.crt")
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    with httpx.Client(base_url=url, verify=context, timeout=60) as client:
        wait(client, f"{DEFINITIONS}?limit=1")
        made = []
        for file in files:
            answer = client.post(DEFINITIONS, content=file.read_bytes(), headers={"content-type": "application/yaml"})
            assert answer.status_code == 201, answer.text
            made.append(answer.json()["spec"])
        for each in made:
            version, plural = f"/apis/{each['group']}/{each['versions'][0]['name']}", each["names"]["plural"]
            wait(client, version, plural)
            wait(client, f"{version}/{plural}")


def offered(api: Api, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the server makes of it; nothing is stored.

    Raises :class:`RefusedError` where it has a field that its schema does not know, or lacks one that it needs.
    """
    version = manifest["apiVersion"]
    names = {each["kind"]: each["name"] for each in api.get(f"/apis/{version}")["resources"] if "/" not in each["name"]}
    path = f"/apis/{version}/namespaces/{manifest['metadata'].get('namespace', 'default')}/{names[manifest['kind']]}"
    return api._call("POST", path, query={"dryRun": "All", "fieldValidation": "Strict"}, body=manifest)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
