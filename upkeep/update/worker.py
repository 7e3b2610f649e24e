"""``python -m upkeep.update.worker INPUTS``: one worker of a training on several machines.

``TF_CONFIG`` says which one this is. ``INPUTS`` holds the inputs of the train step, the same for every worker: the
address of what a train step handed over, or a file, ``inputs.json``::

    {"spec": "s3://…", "spec_digest": "…", "champion": "v3", "candidate": "network", "states": {}, "members": {},
     "prepared": "/shared/prepared", "model": "/shared/model"}

``prepared`` is the prepared folder, ``model`` where the first worker puts the trained model. That one prints the digest
of the training's record; the others print nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from upkeep.errors import InputError, UpkeepError, Where
from upkeep.spec.model import FineTune
from upkeep.training.keras.distribute import told_of_workers
from upkeep.update.context import open_context
from upkeep.update.failure import failure_of, step_error
from upkeep.update.handover import Handover, Inputs, Told
from upkeep.update.train import learn

TELL_EVERY = 5.0
"""Seconds between two words to the step that follows this training, at least."""

Listener = Callable[[str, float | None], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or that of an error, whose sentence goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m upkeep.update.worker", description="One worker of a training.")
    parser.add_argument("inputs", help="inputs.json, or the address of what a train step handed over")
    given = parser.parse_args(arguments).inputs
    try:
        index = _index()
        record = _from_file(Path(given)) if given.endswith(".json") else _from_step(Handover.at(given), index)
    except Exception as error:  # noqa: BLE001 - the last place where a traceback can become words
        failure = step_error("train", error)
        told = failure_of(failure)
        sys.stderr.write(f"{failure.trace}{told}\n")  # there is a traceback of a bug alone, for its report
        return told.exit_code
    sys.stdout.write(f"{record}\n" if record else "")
    return 0


def _index() -> int:
    """Of this worker among all of them; where ``TF_CONFIG`` names a chief, that one is the first."""
    told = told_of_workers()
    kind, index = told["task"]["type"], int(told["task"]["index"])
    return index if kind == "chief" else index + len(told["cluster"].get("chief") or ())


def _from_file(path: Path) -> str:
    try:
        inputs = TypeAdapter(Inputs).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError("there is no such file", where=Where(file=str(path)), fix="name inputs.json") from None
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, each['loc'])) or 'JSON'}: {each['msg']}" for each in error.errors())
        raise InputError(
            f"these are no inputs of a training: {'; '.join(wrong)}",
            where=Where(file=str(path)),
            fix="write JSON with spec, spec_digest, champion, candidate, states, members, prepared and model",
        ) from error
    return _train(inputs, Path(inputs.prepared), Path(inputs.model) if inputs.model else None)


def _from_step(handover: Handover, index: int) -> str:
    """As a step wants it: rows from the store, and how far it is, why it ended and what came of it told there."""
    handover.start(index)
    try:
        inputs = handover.inputs()
        with tempfile.TemporaryDirectory(prefix="upkeep-worker-") as folder:
            rows = handover.rows(inputs.prepared, Path(folder) / "prepared")
            record = _train(inputs, rows, None, _teller(handover) if index == 0 else None)
        if record:
            handover.leave(record)
    except Exception as error:
        with suppress(UpkeepError):  # the failure itself must be what is raised
            handover.fail(index, step_error("train", error))
        raise
    return record


def _train(inputs: Inputs, prepared: Path, model: Path | None, listener: Listener | None = None) -> str:
    context = open_context(spec=inputs.spec, spec_digest=inputs.spec_digest, step="train", update="")
    named = [candidate for candidate in context.spec.candidates if candidate.name == inputs.candidate]
    if not named or not isinstance(named[0], FineTune) or named[0].devices != "workers":
        raise InputError(
            f"{inputs.candidate!r} is no candidate with `devices: workers`",
            where=Where(file=inputs.spec, field="candidates"),
            fix="name one that is; each worker would train alone, and all would write the same",
        )
    return learn(
        replace(context, listener=listener),
        prepared,
        model,
        champion=inputs.champion,
        candidate=inputs.candidate,
        states=inputs.states,
        members=inputs.members,
    )


def _teller(handover: Handover) -> Listener:
    told = float("-inf")

    def tell(text: str, share: float | None) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            with suppress(UpkeepError):  # a training does not end for a word that is not heard
                handover.tell(Told(text=text, share=share))

    return tell


if __name__ == "__main__":
    sys.exit(main())
