"""Requests that arrive together are predicted as one.

A prediction of few rows runs on the event loop: what arrives meanwhile waits in the sockets and is the next batch, and
no thread has to be woken. One that takes long runs in a thread, so that the loop goes on answering "alive".

Clients that got their answers together send their next requests together, but not in the same instant: while the last
batches held several, a batch waits for about as many again, for a fraction of the time that a prediction takes. A
request that comes alone waits for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from upkeep.serving.server.rows import Probabilities, Refusal, Rows

MOST_WAITING = 100_000
"""Rows that may wait; beyond, requests are refused with 429."""
BATCH_ROWS = 1_024
"""No further request joins a batch of that many rows."""
LOOP_ROWS, LOOP_SECONDS = 256, 0.02
"""What may run on the event loop: so many rows, as long as the last prediction took less CPU time than this."""
HUNG_SECONDS = 120.0
"""A prediction that takes longer has hung: nothing behind it is answered any more."""
GATHER_SHARE, GATHER_SECONDS = 0.5, 0.002
"""How long to wait for further requests: this share of the last prediction, at most this long."""

_Waiting = tuple[Rows, "asyncio.Future[Probabilities]"]
_Answers = list["Probabilities | Exception"]


class Batcher:
    """Asks ``predict`` for the rows of many requests at once; one prediction at a time.

    ``predict``: requests' rows → probabilities, shape (all rows, classes). When it fails for several, each is asked
    alone: one request's rows cannot fail another's. All methods are for the event loop's thread.
    """

    def __init__(self, predict: Callable[[Sequence[Rows]], Probabilities], *, most_waiting: int = MOST_WAITING) -> None:
        self._predict = predict
        self._most_waiting = most_waiting
        self._waiting = 0
        """Rows that have no answer yet."""
        self._queue: deque[_Waiting] = deque()
        self._next: asyncio.Handle | None = None
        self._gathering = False
        self._busy = False
        self._began = 0.0
        """When the prediction in the thread began, by the loop's clock."""
        self._lately = 1
        """Requests in a batch."""
        self._seconds = 0.0
        """CPU time of the last prediction."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    async def ask(self, rows: Rows) -> Probabilities:
        """Shape (rows, classes). Raises what ``predict`` raised; :class:`Refusal` (429) when too much waits."""
        if self._waiting and self._waiting + rows.count > self._most_waiting:
            raise Refusal("too many rows wait for an answer", status=429, fix="try again in a second")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Probabilities] = loop.create_future()
        self._queue.append((rows, future))
        self._waiting += rows.count
        self._plan(loop)
        try:
            return await future
        finally:
            self._waiting -= rows.count

    @property
    def hung(self) -> bool:
        """Whether the prediction under way takes so long that only another process will answer again."""
        return self._busy and asyncio.get_running_loop().time() - self._began > HUNG_SECONDS

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the queue is answered soon."""
        if self._busy or not self._queue:
            return
        enough = len(self._queue) >= self._lately
        if self._next is None:
            wait = 0.0 if enough else min(GATHER_SECONDS, GATHER_SHARE * self._seconds)
            self._gathering = wait > 0
            self._next = loop.call_later(wait, self._start, loop) if wait else loop.call_soon(self._start, loop)
        elif enough and self._gathering:
            self._next.cancel()
            self._gathering = False
            self._next = loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = None
        batch: list[_Waiting] = []
        rows = 0
        while self._queue and rows < BATCH_ROWS:
            batch.append(self._queue.popleft())
            rows += batch[-1][0].count
        self._lately = max(len(batch), self._lately - 1)
        if rows <= LOOP_ROWS and self._seconds < LOOP_SECONDS:
            self._finish(loop, batch, self._answers(batch))
            return
        self._busy, self._began = True, loop.time()
        answering = loop.run_in_executor(self._thread, self._answers, batch)
        answering.add_done_callback(lambda answers: self._finish(loop, batch, answers.result()))

    def _answers(self, batch: list[_Waiting]) -> _Answers:
        start = time.thread_time()
        try:
            together = self._predict([rows for rows, _ in batch])
        except Exception as error:  # noqa: BLE001 (whatever it is, its request gets it)
            return [error] if len(batch) == 1 else [answer for one in batch for answer in self._answers([one])]
        self._seconds = time.thread_time() - start
        answers: _Answers = []
        place = 0
        for rows, _ in batch:
            answers.append(together[place : place + rows.count])
            place += rows.count
        return answers

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], answers: _Answers) -> None:
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # its client went away
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._busy = False
        self._plan(loop)
