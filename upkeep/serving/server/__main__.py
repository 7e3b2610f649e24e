"""``python -m upkeep.serving.server``: one version of one model, served until SIGTERM."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

MODEL_DIR = "/mnt/models"
"""Where KServe's storage initializer puts a model."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line and the environment say."""

    model_name: str
    address: str
    """A folder, ``file://`` or ``s3://``."""
    version: str
    digest: str
    models: str
    """Where a delta's base is, under its digest; empty: below the model's folder or beside it."""
    host: str
    http_port: int
    grpc_port: int | None
    payloads: str
    """A folder, ``file://`` or ``s3://``; empty: nowhere."""
    payload_drop: tuple[str, ...]
    namespace: str
    service: str
    allowed: tuple[str, ...]
    max_rows: int
    max_bytes: int
    grace_seconds: float


def parse(arguments: Sequence[str], environ: dict[str, str]) -> Options:
    """The options; a flag may be spelt with ``-`` or ``_``. Ends the process with 2 when they are wrong."""
    parser = command_line()
    given = parser.parse_args([_dashes(argument) for argument in arguments])
    if given.model_dir and given.storage_uri:
        parser.error("give --model-dir or --storage-uri, not both")
    if given.workers != 1:
        parser.error("--workers must be 1: for more, run more replicas")
    version = environ.get("UPKEEP_VERSION", "")
    if not re.fullmatch(r"v[1-9][0-9]*", version):
        parser.error(f"the environment variable UPKEEP_VERSION must name the version, like v12: it is {version!r}")
    return Options(
        model_name=given.model_name,
        address=given.storage_uri or given.model_dir or MODEL_DIR,
        version=version,
        digest=environ.get("UPKEEP_DIGEST", ""),
        models=environ.get("UPKEEP_MODELS", ""),
        host=given.host,
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        payloads=given.payloads,
        payload_drop=_names(given.payload_drop),
        namespace=given.namespace,
        service=given.service or f"{given.model_name}-{version}",
        allowed=_names(given.allow),
        max_rows=given.max_rows,
        max_bytes=given.max_bytes,
        grace_seconds=given.grace_seconds,
    )


def command_line() -> argparse.ArgumentParser:
    """Every flag."""
    parser = argparse.ArgumentParser(
        prog="python -m upkeep.serving.server", description=__doc__, allow_abbrev=False, add_help=True
    )
    parser.add_argument("--model-name", required=True, help="The name in the requests' paths.")
    parser.add_argument("--model-dir", help=f"The model's folder. (default {MODEL_DIR})")
    parser.add_argument("--storage-uri", help="Instead of a folder: file:///…/models/<digest> or s3://….")
    parser.add_argument("--host", default="127.0.0.1", help="The address to listen on; 0.0.0.0 in a container.")
    parser.add_argument("--http-port", type=int, default=8080, help="0: any free one.")
    parser.add_argument("--grpc-port", type=int, help="Without it there is no gRPC.")
    parser.add_argument(
        "--payloads", default="", help="Where requests and answers are kept: a folder or s3://…; without it, nowhere."
    )
    parser.add_argument("--payload-drop", default="", help="Columns that must not be kept, with commas between.")
    parser.add_argument("--namespace", default="models", help="For the payload log.")
    parser.add_argument("--service", help="The InferenceService's name, for the payload log. (default NAME-VERSION)")
    parser.add_argument("--allow", default="", help="Import paths of further types in a model, with commas between.")
    parser.add_argument("--max-rows", type=int, default=10_000, help="In one request.")
    parser.add_argument("--max-bytes", type=int, default=16 << 20, help="Of one request's body.")
    parser.add_argument("--grace-seconds", type=float, default=30.0, help="For requests in flight, after SIGTERM.")
    parser.add_argument("--workers", type=int, default=1, help="1: one process. For more, run more replicas.")
    return parser


def _dashes(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, separator, value = argument.partition("=")
    return name.replace("_", "-") + separator + value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main() -> int:
    """Serve; the exit code."""
    options = parse(sys.argv[1:], dict(os.environ))
    # One thread a prediction: for the few rows of a batch, waking others costs more than they save.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.argv[1:] = []  # kserve parses the command line when it is imported
    import asyncio
    import logging

    from uvicorn.loops.auto import auto_loop_factory

    from upkeep.errors import known
    from upkeep.serving.server.run import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # uvloop
            return runner.run(serve(options))
    except Exception as error:
        found = known(error)
        if found is None:
            raise
        sys.stderr.write(f"error: {found}\n")
        return found.exit_code


if __name__ == "__main__":
    sys.exit(main())
