"""What the container images weigh, and what each layer of them costs: of the images that podman or docker has here.

``make images`` builds them first; without them there is only a line that says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tomllib
import zlib
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
TARGETS = ("server", "controller", "sklearn", "server-tensorflow", "tensorflow")
COLUMNS = ("base", "Git, SSH", "packages", "Upkeep", "TensorFlow", "bill of materials")
COPIED = ("packages", "Upkeep", "TensorFlow", "bill of materials")
"""What docker/Dockerfile copies into an image, in its order."""
SBOM = "/opt/upkeep/sbom.cdx.json"

Size = tuple[int, int]
"""Bytes as they are, and packed by zlib's level 1, a little more than what registries hold."""


def weighed(file: IO[bytes]) -> Size:
    whole, packed, squeeze = 0, 0, zlib.compressobj(1)
    while block := file.read(1 << 20):
        whole += len(block)
        packed += len(squeeze.compress(block))
    return whole, packed + len(squeeze.flush())


def layers(engine: str, image: str) -> dict[str, Size]:
    """Each of :data:`COLUMNS` that the image has: the size of its layers."""
    sizes: dict[str, Size] = {}
    texts: dict[str, bytes] = {}
    with subprocess.Popen([engine, "save", image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as saving:
        assert saving.stdout is not None
        with tarfile.open(fileobj=saving.stdout, mode="r|") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                file = archive.extractfile(member)
                assert file is not None
                if member.size < 1 << 20:  # manifest, configuration, and layers too small to matter
                    texts[member.name] = data = file.read()
                    sizes[member.name] = len(data), len(zlib.compress(data))
                else:
                    sizes[member.name] = weighed(file)
    (manifest,) = json.loads(texts["manifest.json"])
    history = json.loads(texts[manifest["Config"]])["history"]
    made_by = [each.get("created_by", "") for each in history if not each.get("empty_layer")]
    found: dict[str, Size] = {}
    copied = iter(COPIED)
    for name, command in zip(manifest["Layers"], made_by, strict=True):
        column = "Git, SSH" if "apt-get install" in command and " git " in command else "base"
        column = next(copied) if "COPY" in command else column
        before = found.get(column, (0, 0))
        found[column] = before[0] + sizes[name][0], before[1] + sizes[name][1]
    return found


def main() -> None:
    print("## Container images\n")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None:
        print("Neither podman nor docker is here: not measured.")
        return
    print("MB (10⁶ bytes) of each layer, unpacked / packed. A node pulls packed layers, each of them once: the base")
    print("is that of all, and the layer of TensorFlow is the same bytes in both images that have it.\n")
    print(f"| image | {' | '.join(COLUMNS[:-1])} | in all | Python packages |")
    print(f"| --- |{' --: |' * (len(COLUMNS) + 1)}")
    for target in TARGETS:
        image = f"upkeep/{target}:{version}"
        if subprocess.run([engine, "image", "inspect", image], capture_output=True, check=False).returncode:
            print(f"| `{image}` | not built here |" + " |" * len(COLUMNS))
            continue
        sizes = layers(engine, image)
        command = [engine, "run", "--rm", "--network=none", "--entrypoint=cat", image, SBOM]
        bill = json.loads(subprocess.check_output(command))
        cells = [f"{sizes[name][0] / 1e6:,.0f} / {sizes[name][1] / 1e6:,.0f}" if name in sizes else ""
                 for name in COLUMNS[:-1]]  # fmt: skip
        whole, packed = (sum(size[part] for size in sizes.values()) / 1e6 for part in (0, 1))
        print(f"| `{image}` | {' | '.join(cells)} | {whole:,.0f} / {packed:,.0f} | {len(bill['components'])} |")


if __name__ == "__main__":
    main()
