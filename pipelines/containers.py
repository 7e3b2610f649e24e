"""Each step in a container of its own, of the image that it has on a cluster: through Docker's API, or Podman's."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from upkeep.components.image import image_of

from upkeep.errors import InputError, OutsideError, Where
from upkeep.spec.model import FineTune, ModelSpec

if TYPE_CHECKING:
    from upkeep.pipelines.run import Told

LENT = ("AWS_", "UPKEEP_", "GIT_AUTHOR_", "GIT_COMMITTER_")
"""How the variables begin that a step gets from this run's environment, as it would from a cluster's secrets."""


@contextlib.contextmanager
def containers(spec: ModelSpec, environment: Mapping[str, str], told: Told) -> Iterator[Any]:
    """kfp.local's runner, which starts each step by :func:`_run`: its own way asks the engine to remove a container as
    soon as it ends, and takes one whose code it missed for a success.

    Raises :class:`InputError` without the package ``docker``, :class:`OutsideError` where no engine answers or the
    image is neither there nor to be had.
    """
    try:
        import docker
    except ImportError:
        raise InputError(
            "steps in containers need the package docker", fix="pip install docker, or run without --containers"
        ) from None
    from kfp import local
    from kfp.local import docker_task_handler

    client = _client(docker)
    with contextlib.closing(client):
        image = image_of(spec)
        _have(docker, client, image)
        rootless = any("rootless" in option for option in client.info().get("SecurityOptions") or ())
        wanted = {
            "environment": {**_lent(os.environ), **environment},
            # whose files they are; where the engine is without root, its root is who runs it
            "user": "0:0" if rootless else f"{os.getuid()}:{os.getgid()}",
            "network_mode": "host",  # a store on this machine listens on it alone
            "read_only": True,
            "tmpfs": {"/tmp": "mode=1777"},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
        }

        def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **_: Any) -> int:
            told.begin(command)
            return _run(client, image, command, volumes={**volumes, **folders(spec)}, **wanted)

        before = docker_task_handler.run_docker_container
        docker_task_handler.run_docker_container = run
        try:
            yield local.DockerRunner()
        finally:
            docker_task_handler.run_docker_container = before


def _client(docker: Any) -> Any:
    try:
        client = docker.from_env()
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise OutsideError(
            f"no container engine answers: {error}",
            where=Where(field="DOCKER_HOST"),
            fix="start Docker, or `podman system service` and name its socket in DOCKER_HOST",
        ) from error
    return client


def _have(docker: Any, client: Any, image: str) -> None:
    try:
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            client.images.pull(image)
    except docker.errors.APIError as error:
        raise OutsideError(
            f"the image {image} is not here and cannot be pulled: {error.explanation or error}",
            where=Where(field="UPKEEP_IMAGE"),
            fix="make images, or name one that there is in UPKEEP_IMAGE",
        ) from error


def _run(client: Any, image: str, command: list[str], **wanted: Any) -> int:
    """Run it, print what it says, and return its code; it is gone afterwards, also where this run is interrupted."""
    container = client.containers.create(image, command, **wanted)
    try:
        container.start()
        for said in container.logs(stream=True, follow=True):
            sys.stdout.write(said.decode("utf-8", errors="replace"))
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _lent(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(LENT)}


def folders(spec: ModelSpec) -> dict[str, dict[str, str]]:
    """What of this machine the steps see, where it is: the spec's own places, those they only read without a right to
    write; of one that is yet to be made, the folder it will be in."""
    bases = [candidate.base for candidate in spec.candidates if isinstance(candidate, FineTune)]
    read = [spec.data.source, spec.monitoring.labels, spec.monitoring.payloads.source, *bases]
    found: dict[str, dict[str, str]] = {}
    for mode, places in (("rw", [spec.store, spec.rollout.repository]), ("ro", read)):
        for path in filter(None, map(_local, places)):
            there = path if path.exists() or mode == "ro" else path.parent
            if there.exists() and not any(there.is_relative_to(other) for other in found):
                found[str(there)] = {"bind": str(there), "mode": mode}
    return found


def _local(place: str) -> Path | None:
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None
