"""The manifests of one model in its Git repository, as ``upkeep up`` follows them."""

from __future__ import annotations

from upkeep.rollout.git import GitRepository, create_bare
from upkeep.rollout.release import default_repository, release_folder
from upkeep.serving.local.wanted import Manifests
from upkeep.spec.model import ModelSpec


class ReleaseSource:
    """:class:`~upkeep.serving.local.wanted.Source` over git. The default repository is made when it is not there."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        default = default_repository(spec)
        if default is not None and not (default / "HEAD").exists():
            create_bare(default, spec.rollout.branch)
        address = str(default or spec.rollout.repository)
        self._repository = GitRepository(address, timeout=30.0)
        self.local = ("://" not in address and ":" not in address.partition("/")[0]) or address.startswith("file://")

    def head(self) -> str | None:
        return self._repository.head(self.spec.rollout.branch)

    def read(self) -> Manifests:
        folder = release_folder(self.spec)
        tree = self._repository.read(self.spec.rollout.branch, folder)
        return Manifests(commit=tree.commit, folder=folder, files=tree.files)

    def close(self) -> None:
        self._repository.close()
