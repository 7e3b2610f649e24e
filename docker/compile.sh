#!/bin/sh
# sh compile.sh FOLDER: Python's compiled modules, named by content and never looked at again: no time is in them, and a
# read-only root needs them there. One process: in several, what was compiled before would show in the bytes.
# Some packages carry files that are no Python of today; they are left as they are.
python3 -m compileall -q --invalidation-mode unchecked-hash "$1" >/dev/null || true
