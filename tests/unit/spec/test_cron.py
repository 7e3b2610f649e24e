"""Schedules: read as crontab(5) reads them, and said to KFP so that it starts what they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.kfp_server import fires
from upkeep.spec.cron import read_cron

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("text", "kfp", "upcoming"),
    [
        ("0 3 * * *", "0 0 3 * * *", "2026-03-02T03:00"),
        ("0 3 1 * *", "0 0 3 1 * *", "2026-04-01T03:00"),
        ("*/5 * * * *", "0 */5 * * * *", "2026-03-01T12:05"),
        ("0 0-6/2 * jan,feb mon-fri", "0 0 0,2,4,6 * 1,2 1,2,3,4,5", "2027-01-01T00:00"),
        ("59 23 31 12 7", "0 59 23 31 12 0", "2026-12-06T23:59"),
        ("0 0 * * SUN", "0 0 0 * * 0", "2026-03-08T00:00"),
        ("1,2,3-5 * * * *", "0 1,2,3,4,5 * * * *", "2026-03-01T12:01"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6", "2026-03-06T00:00"),
        ("0 0 29 2 *", "0 0 0 29 2 *", "2028-02-29T00:00"),
        ("0 12 1-31 * mon", "0 0 12 * * *", "2026-03-02T12:00"),
        ("0 12 */2,4 * 0-6", "0 0 12 1,3,4," + ",".join(map(str, range(5, 32, 2))) + " * *", "2026-03-03T12:00"),
        ("0 12 */2 * *", "0 0 12 */2 * *", "2026-03-03T12:00"),
    ],
)
def test_good_ones(text: str, kfp: str, upcoming: str) -> None:
    cron = read_cron(text)
    assert cron.for_kfp() == kfp
    assert cron.next(NOON) == datetime.fromisoformat(upcoming).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0 fields, not five"),
        ("@daily", "it has 1 fields, not five"),
        ("0 0 3 * * *", "it has 6 fields, not five"),
        ("60 * * * *", "'60' is no minute (from 0 to 59)"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of the week (from 0 to 7)"),
        ("5/2 * * * *", "'5/2' is no minute"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("a * * * *", "'a' is no minute"),
        ("* * * mon *", "'mon' is no month"),
        ("1, * * * *", "'' is no minute"),
        ("- * * * *", "'-' is no minute"),
        ("² * * * *", "'²' is no minute"),
        ("*/ * * * *", "'*/' is no minute"),
        ("0 0 30 2 *", "no month of it has a day 30"),
        ("0 0 */2 * mon", "crontabs differ in what a stepped day of the month means"),
        ("0 0 1 * */2", "crontabs differ in what a stepped day of the week means"),
    ],
)
def test_bad_ones_say_what_and_where(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_cron(text)
    assert why in str(caught.value)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high)
    item = st.one_of(
        number.map(str),
        span,
        st.tuples(span, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        step.map(lambda every: f"*/{every}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


CRONS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7)).map(" ".join)


def crontab(text: str, moment: datetime) -> bool:
    """Whether crontab(5) starts something in this minute, by its manual's words and nothing of ours."""

    def takes(field: str, value: int, low: int, high: int) -> bool:
        for item in field.split(","):
            span, _, step = item.partition("/")
            first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
            if value in range(int(first), int(last or first) + 1, int(step or 1)):
                return True
        return False

    minute, hour, day, month, weekday = text.split()
    sunday_too = moment.isoweekday() % 7 == 0 and not weekday.startswith("*") and takes(weekday, 7, 0, 7)
    by_day = takes(day, moment.day, 1, 31), takes(weekday, moment.isoweekday() % 7, 0, 6) or sunday_too
    either = not (day.startswith("*") or weekday.startswith("*"))
    return (
        takes(minute, moment.minute, 0, 59)
        and takes(hour, moment.hour, 0, 23)
        and takes(month, moment.month, 1, 12)
        and (any(by_day) if either else all(by_day))
    )


@settings(max_examples=100)
@given(CRONS, st.integers(0, 525_600 * 4), st.integers(0, 600))
@example("* * */2,4 * 0-6", 0, 0)
@example("0 0 1-31 * 1", 0, 0)
def test_kfp_starts_what_crontab_means(text: str, minutes: int, more: int) -> None:
    try:
        cron = read_cron(text)
    except ValueError as error:
        assume("crontabs differ" in str(error) or "would never" in str(error))
        return
    start = NOON + timedelta(minutes=minutes)
    for offset in (0, more, more + 1, 1440 + more):
        moment = start + timedelta(minutes=offset)
        assert fires(cron.for_kfp(), moment) == crontab(text, moment)


@settings(max_examples=80)
@given(CRONS, st.integers(0, 525_600 * 4))
def test_the_next_one_is_the_next_one(text: str, minutes: int) -> None:
    try:
        cron = read_cron(text)
    except ValueError:
        return
    start = NOON + timedelta(minutes=minutes)
    found = cron.next(start)
    assert found is not None
    assert found > start
    assert crontab(text, found)
    between = min(int((found - start).total_seconds() // 60), 1500)
    assert not any(crontab(text, start + timedelta(minutes=passed)) for passed in range(1, between))


def test_seconds_and_other_zones() -> None:
    cron = read_cron("0 3 * * *")
    assert cron.next(datetime.fromisoformat("2026-03-01T02:59:59.5+00:00")) == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert cron.next(datetime.fromisoformat("2026-03-01T04:30:00+02:00")) == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert cron.next(datetime(2026, 3, 1, 3, tzinfo=UTC)) == datetime(2026, 3, 2, 3, tzinfo=UTC)
