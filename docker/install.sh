#!/bin/sh
# sh install.sh: part.txt into /opt/upkeep, compiled, with its bill of materials beside it. From /wheels alone, whose
# hashes were checked as they came: one that was built there, of a package that is published as source, has another.
set -eu
sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' part.txt >names.txt
tools/bin/pip --python /opt/upkeep/bin/python install -q --no-cache-dir --no-index --no-deps --no-compile \
  --find-links /wheels -r names.txt
sh compile.sh /opt/upkeep/lib
sh sbom.sh /opt/upkeep/sbom.cdx.json
