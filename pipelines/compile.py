"""Compile the update pipeline to KFP's IR YAML."""

from __future__ import annotations

from pathlib import Path

from kfp.compiler import Compiler
from upkeep.pipelines.update import update_pipeline

from upkeep.errors import InputError, Where
from upkeep.spec.model import ModelSpec


def compile_pipeline(spec: ModelSpec, out: Path) -> Path:
    """Write the pipeline of ``spec`` to ``out`` (``.yaml``) whole or not at all; the same spec gives the same bytes.

    Raises :class:`InputError` for another ending, :class:`OSError` where it cannot be written.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(
            f"the pipeline is YAML, and {out.name} does not end in .yaml",
            where=Where(file=str(out)),
            fix="give the file a name that ends in .yaml",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial.yaml")
    try:
        Compiler().compile(update_pipeline(spec, cluster=True), str(partial))
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out
