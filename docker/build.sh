#!/usr/bin/env bash
# docker/build.sh [TARGET ...]: upkeep/TARGET:VERSION, by podman or docker, whichever is there; all without a name.
#   sklearn, tensorflow           the pipeline's components; tensorflow where a candidate is a network
#   server, server-tensorflow     the model server
#   controller                    the rollout controller
# Beside each, build/images/TARGET.cdx.json: what is in it, as CycloneDX.
# From the environment: IMAGE_BUILDER (a program, and flags of its own after its name), IMAGE_PREFIX (upkeep),
# BASE_IMAGE (another Python), PIP_CONFIG_FILE and BUILD_CERTIFICATES (a package index and who signed for it; they are
# lent to the build and are in no image).
set -euo pipefail
cd "$(dirname "$0")/.."

ALL=(server controller sklearn server-tensorflow tensorflow)
# Dates of files and images: the same for the same content, so that a layer that did not change is not pulled again.
EPOCH=315532800

read -ra builder <<<"${IMAGE_BUILDER:-$(command -v podman || command -v docker || true)}"
if [ ${#builder[@]} -eq 0 ]; then
  echo "images: neither podman nor docker is installed; install one, or name a builder in IMAGE_BUILDER" >&2
  exit 2
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || revision="$revision-dirty"

arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE_DATE_EPOCH=$EPOCH")
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "${PIP_CONFIG_FILE:-}" ] || arguments+=(--secret "id=pip.conf,src=$PIP_CONFIG_FILE")
[ -z "${BUILD_CERTIFICATES:-}" ] || arguments+=(--secret "id=certificates,src=$BUILD_CERTIFICATES")

mkdir -p build/images
for target in "${@:-${ALL[@]}}"; do
  image="${IMAGE_PREFIX:-upkeep}/$target:$version"
  case "${builder[0]##*/}" in
    podman | buildah) dates=(--timestamp "$EPOCH" --tag "$image") ;;
    *) dates=(--output "type=docker,name=$image,rewrite-timestamp=true") ;;
  esac
  echo "building $image"
  "${builder[0]}" build "${builder[@]:1}" --file docker/Dockerfile --target "$target" "${arguments[@]}" "${dates[@]}" .
  "${builder[0]}" run --rm --network none --entrypoint cat "$image" /opt/upkeep/sbom.cdx.json \
    >"build/images/$target.cdx.json"
done
