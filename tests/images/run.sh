#!/usr/bin/env bash
# make test-images: builds the images that need no TensorFlow, and runs them. Where mmdebstrap is there the base is made
# from Debian's packages, so that no image registry is needed; else it is the one that docker/Dockerfile names.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v podman >/dev/null; then
  echo "test-images: skipped: podman is not installed"
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v runc >/dev/null; then
  export CONTAINERS_CONF="$PWD/tests/images/containers.conf"
  export IMAGE_BUILDER="podman --isolation chroot"
fi
if command -v mmdebstrap >/dev/null; then
  export BASE_IMAGE=localhost/upkeep-test/base:1
  if ! podman image exists "$BASE_IMAGE"; then
    echo "making $BASE_IMAGE"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates,tzdata \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$folder/base.tar"
    podman import --quiet "$folder/base.tar" "$BASE_IMAGE" >/dev/null
  fi
fi
[ -n "${PIP_CONFIG_FILE:-}" ] || [ ! -f /etc/pip.conf ] || export PIP_CONFIG_FILE=/etc/pip.conf
[ -n "${BUILD_CERTIFICATES:-}" ] || export BUILD_CERTIFICATES="${SSL_CERT_FILE:-}"

export IMAGE_PREFIX=upkeep-test
mkdir -p build
if ! docker/build.sh sklearn server controller >build/images.log 2>&1; then
  tail -n 40 build/images.log >&2
  exit 1
fi
UPKEEP_TEST_IMAGES=$IMAGE_PREFIX .venv/bin/python -m pytest -q tests/images
