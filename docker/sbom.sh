#!/bin/sh
# sh sbom.sh FILE: what is installed in /opt/upkeep, as CycloneDX JSON, the same for the same packages.
set -eu
tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file "$1" \
  /opt/upkeep/bin/python
