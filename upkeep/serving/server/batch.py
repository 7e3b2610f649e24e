"""Requests that arrive together are predicted as one: a thread takes whatever waits, and waits for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from upkeep.serving.server.rows import Probabilities, Refusal, Rows

MOST_WAITING = 100_000
"""Rows that may wait; beyond, requests are refused with 429."""
BATCH_ROWS = 1_024
"""No further request joins a batch of that many rows."""

_Waiting = tuple[Rows, "asyncio.Future[Probabilities]"]


class Batcher:
    """Asks ``predict`` for the rows of many requests at once, in a thread of its own.

    ``predict``: requests' rows → probabilities, shape (all rows, classes). When it fails for several, each is asked
    alone: one request's rows cannot fail another's.
    """

    def __init__(self, predict: Callable[[Sequence[Rows]], Probabilities], *, most_waiting: int = MOST_WAITING) -> None:
        self._predict = predict
        self._most_waiting = most_waiting
        self._waiting = 0
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self._thread.start()

    async def ask(self, rows: Rows) -> Probabilities:
        """Shape (rows, classes). Raises what ``predict`` raised; :class:`Refusal` (429) when too much waits."""
        if self._waiting and self._waiting + rows.count > self._most_waiting:
            raise Refusal("too many rows wait for an answer", status=429, fix="try again in a second")
        future: asyncio.Future[Probabilities] = asyncio.get_running_loop().create_future()
        self._waiting += rows.count
        self._queue.put((rows, future))
        try:
            return await future
        finally:
            self._waiting -= rows.count

    def close(self) -> None:
        """End the thread when all that waits is answered."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, last = [first], False
            rows = first[0].count
            while rows < BATCH_ROWS:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                    break
                batch.append(more)
                rows += more[0].count
            self._answer(batch)
            if last:
                return

    def _answer(self, batch: list[_Waiting]) -> None:
        answers: list[Probabilities | Exception] = []
        try:
            together = self._predict([rows for rows, _ in batch])
            start = 0
            for rows, _ in batch:
                answers.append(together[start : start + rows.count])
                start += rows.count
        except Exception as error:  # noqa: BLE001 (whatever it is, its request gets it)
            if len(batch) == 1:
                answers = [error]
            else:
                for one in batch:
                    self._answer([one])
                return
        loop = batch[0][1].get_loop()
        try:
            loop.call_soon_threadsafe(_resolve, batch, answers)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


def _resolve(batch: list[_Waiting], answers: list[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():  # its client went away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
