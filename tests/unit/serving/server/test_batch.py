"""Requests that meet are predicted once, and do each other no harm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.errors import ModelError
from upkeep.serving.server.batch import LOOP_ROWS, Batcher
from upkeep.serving.server.rows import Refusal, Rows

BAD = -1.0


def rows(*values: float) -> Rows:
    return Rows((list(values),), len(values))


class Echo:
    """Answers each row with its own number; refuses to answer any batch with a bad one."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def __call__(self, parts: Sequence[Rows]) -> Any:
        self.batches.append(len(parts))
        self.threads.add(threading.current_thread().name)
        values = [value for part in parts for value in part.columns[0]]
        if BAD in values:
            raise ModelError("bad row")
        return np.array(values)[:, None]


async def ask_all(batcher: Batcher, requests: list[Rows]) -> list[Any]:
    return await asyncio.gather(*(batcher.ask(request) for request in requests), return_exceptions=True)


@settings(max_examples=60)
@given(requests=st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, BAD]), max_size=5), min_size=1, max_size=12))
def test_each_gets_its_own_answer_whatever_the_others_are(requests: list[list[float]]) -> None:
    echo = Echo()
    batcher = Batcher(echo)
    answers = asyncio.run(ask_all(batcher, [rows(*values) for values in requests]))
    batcher.close()
    for values, answer in zip(requests, answers, strict=True):
        if BAD in values:
            assert isinstance(answer, ModelError)
        else:
            assert answer[:, 0].tolist() == values
    assert echo.batches[0] == len(requests)
    if not any(BAD in values for values in requests):
        assert echo.batches == [len(requests)]


def test_many_rows_are_predicted_in_a_thread_while_the_loop_goes_on() -> None:
    seen = threading.Event()

    def slow(parts: Sequence[Rows]) -> Any:
        assert seen.wait(60)
        return np.zeros((sum(part.count for part in parts), 1))

    async def main() -> None:
        batcher = Batcher(slow)
        answer = asyncio.create_task(batcher.ask(rows(*[0.0] * (LOOP_ROWS + 1))))
        await asyncio.sleep(0)
        second = asyncio.create_task(batcher.ask(rows(1.0)))  # waits for its turn
        await asyncio.sleep(0.01)
        assert not answer.done() and not second.done()
        seen.set()
        assert len(await answer) == LOOP_ROWS + 1 and len(await second) == 1
        batcher.close()

    asyncio.run(main())


def test_a_prediction_that_does_not_end_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upkeep.serving.server.batch.HUNG_SECONDS", 0.0)
    go_on = threading.Event()

    def stuck(parts: Sequence[Rows]) -> Any:
        assert go_on.wait(60)
        return np.zeros((sum(part.count for part in parts), 1))

    async def main() -> None:
        batcher = Batcher(stuck)
        assert not batcher.hung
        answer = asyncio.create_task(batcher.ask(rows(*[0.0] * (LOOP_ROWS + 1))))
        await asyncio.sleep(0.01)
        assert batcher.hung
        go_on.set()
        await answer
        assert not batcher.hung
        batcher.close()

    asyncio.run(main())


def test_a_client_that_goes_away_harms_nobody() -> None:
    async def main() -> None:
        batcher = Batcher(Echo())
        leaves = asyncio.create_task(batcher.ask(rows(1.0)))
        stays = asyncio.create_task(batcher.ask(rows(2.0)))
        await asyncio.sleep(0)
        leaves.cancel()
        assert (await stays)[0, 0] == 2.0
        batcher.close()

    asyncio.run(main())


def test_too_much_that_waits_is_refused_and_later_is_not() -> None:
    async def main() -> None:
        batcher = Batcher(Echo(), most_waiting=3)
        answers = await ask_all(batcher, [rows(1.0, 2.0), rows(3.0), rows(4.0), rows(5.0)])
        assert [isinstance(answer, Refusal) for answer in answers] == [False, False, True, True]
        assert answers[2].status == 429
        assert (await batcher.ask(rows(6.0)))[0, 0] == 6.0
        assert len(await batcher.ask(rows(1.0, 2.0, 3.0, 4.0))) == 4, "alone, a request is never too much"
        batcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("after", [1, 5])
def test_requests_that_come_one_by_one_are_still_answered(after: int) -> None:
    async def main() -> None:
        echo = Echo()
        batcher = Batcher(echo)
        await ask_all(batcher, [rows(float(number)) for number in range(8)])
        for number in range(after):
            assert (await batcher.ask(rows(float(number))))[0, 0] == number
        assert echo.batches == [8, *[1] * after]
        batcher.close()

    asyncio.run(main())
