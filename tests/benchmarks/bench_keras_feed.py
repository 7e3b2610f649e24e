"""How fast rows reach a network that learns, beside reading the same files with pyarrow alone; and what a step costs
with all that Upkeep does around it, beside a bare ``model.fit``."""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networks
import numpy as np
import pyarrow.parquet as pq

ROWS, PERIODS, PAIRS = 4_000_000, 4, 5
SIZES = (256, 1024, 4096, 16_384)
STEP_ROWS, STEPS, STEP_PAIRS = 1024, 600, 7


def lesson(folder: Path) -> Any:
    from upkeep.training.keras.lesson import Choice, Lesson

    task = networks.task(folder)
    return Lesson(prepared=task.prepared, columns=task.columns, periods=task.prepared.periods, choice=Choice())


def network(given: Any) -> Any:
    from upkeep.spec.model import Network, Preprocess
    from upkeep.training.keras.features import fit_features
    from upkeep.training.keras.network import build

    return build(given.columns, fit_features(given.batches(), given.columns, Preprocess()), 2, Network(), seed=1)


def timed(work: Any) -> tuple[float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    assert work() == ROWS
    return time.perf_counter() - started, time.process_time() - cpu


def read(folder: Path, names: list[str]) -> int:
    """Every row of the files, decoded into Arrow record batches and dropped."""
    rows = 0
    for path in sorted(folder.rglob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(65_536, columns=names, use_threads=False):
                rows += batch.num_rows
    return rows


def feed(folder: Path) -> None:
    """Pairs of (pyarrow, feed), in turns, for each batch size and for texts as places and as text."""
    from upkeep.models.keras_runtime import tensorflow
    from upkeep.training.keras.places import Learner

    tf = tensorflow()
    given = lesson(folder)
    names = [*given.names, "_part"]
    lookups = Learner(network(given)).lookups
    assert set(lookups) == set(networks.CATEGORICAL)

    def through(batch_rows: int, places: Any) -> int:
        rows = given.dataset(0, batch_rows, lookups=places)
        return int(rows.reduce(np.int64(0), lambda n, batch: n + tf.shape(batch[1], out_type=tf.int64)[0]))

    kinds = [(size, "places", lookups) for size in SIZES] + [(4096, "text", {})]
    for size, _, places in kinds:
        through(size, places)
    out: dict[str, Any] = {}
    for _ in range(PAIRS):
        for size, kind, places in kinds:
            alone, fed = timed(functools.partial(read, folder, names)), timed(functools.partial(through, size, places))
            out.setdefault(f"{size}/{kind}", []).append([*alone, *fed])
    begun = []
    for _ in range(PAIRS):
        started = time.perf_counter()
        next(iter(given.dataset(0, 4096, lookups=lookups)))
        begun.append(time.perf_counter() - started)
    print(json.dumps({"pairs": out, "first": begun}))


def steps(folder: Path) -> None:
    """Pairs of seconds for the same steps: a bare ``model.fit`` on batches that are in memory; and Upkeep's loop, from
    Parquet on, with progress, checkpoints every second, a look at the loss, and the curve."""
    from upkeep.models.keras_runtime import keras, quiet, tensorflow
    from upkeep.training.keras.loop import LOOK_EVERY, Schedule, learn

    K, tf = keras(), tensorflow()
    task = networks.task(folder, epochs=1, batch_rows=STEP_ROWS, max_steps=STEPS, checkpoint=1.0)
    given = lesson(folder)
    batches = list(given.dataset(0, STEP_ROWS).take(STEPS))
    whole = {name: tf.concat([inputs[name] for inputs, _ in batches], 0) for name in batches[0][0]}
    rows = tf.data.Dataset.from_tensor_slices((whole, tf.concat([codes for _, codes in batches], 0))).batch(STEP_ROWS)
    rows = rows.cache().prefetch(tf.data.AUTOTUNE)
    for _ in rows:
        pass
    saved: list[int] = []

    class Checkpoints:
        def read(self) -> None:
            return None

        def write(self, data: bytes) -> None:
            (folder / "checkpoint").write_bytes(data)
            saved.append(len(data))

    def bare() -> tuple[float, float]:
        """Seconds and CPU seconds a step."""
        model = network(given)
        model.compile(optimizer=K.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy")
        model.fit(rows.take(3), verbose=0)
        started, cpu = time.perf_counter(), time.process_time()
        model.fit(rows, verbose=0)
        return (time.perf_counter() - started) / STEPS, (time.process_time() - cpu) / STEPS

    def ours() -> tuple[float, float]:
        """The same, from the loop's first look at the clock on: after the graph was made, as above."""
        model = network(given)
        opened = tuple(layer.path for layer in model.layers if layer.weights)
        looks: list[tuple[float, float]] = []

        def now() -> float:
            looks.append((time.perf_counter(), time.process_time()))
            return looks[-1][0]

        schedule = Schedule(rows=ROWS, batch_rows=STEP_ROWS, epochs=1, max_steps=STEPS + LOOK_EVERY)
        learn(model, given, task.candidate, opened, schedule, checkpoints=Checkpoints(),
              progress=lambda text, share=None: None, now=now)  # fmt: skip
        first, last = looks[2], looks[-1]  # two are taken before the first step
        return (last[0] - first[0]) / STEPS, (last[1] - first[1]) / STEPS

    found = []
    with quiet():
        for number in range(STEP_PAIRS):
            pair = {make.__name__: make() for make in ((bare, ours) if number % 2 else (ours, bare))}
            found.append([*pair["bare"], *pair["ours"]])
    print(json.dumps(found))


def starts() -> None:
    """CPU seconds of ``upkeep --help``, and of importing TensorFlow."""
    import resource

    found = []
    for code in ("from upkeep.cli import main; main(['--help'])", "import tensorflow, keras"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(json.dumps(found))


def said(*words: str) -> Any:
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True)  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def show_feed(found: dict[str, Any]) -> None:
    print("## Rows into a network\n")
    print(
        f"Made rows, {ROWS:,} in {PERIODS} files (snappy, six numbers, three categories): every row is read, shuffled "
        "and handed over once. Both sides read the same files, warm, and the same columns. pyarrow: "
        "`ParquetFile.iter_batches` of 65,536 rows, one thread, decoded and dropped. The feed: the `tf.data` dataset "
        "that training takes, counted by `reduce`; texts as places in the network's vocabulary, as Upkeep's own "
        f"networks take them, or as text. {PAIRS} pairs each, in turns, in one process.\n"
    )
    print("| batch rows | texts | pyarrow, rows/s | feed, rows/s | feed ÷ pyarrow | by CPU seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, pairs in found["pairs"].items():
        size, kind = name.split("/")
        alone, fed = ([ROWS / pair[place] / 1e6 for pair in pairs] for place in (0, 2))
        wall, cpu = [pair[0] / pair[2] for pair in pairs], [pair[1] / pair[3] for pair in pairs]
        print(
            f"| {int(size):,} | {kind} | {networks.show(alone, '.1f')} M | {networks.show(fed, '.1f')} M | "
            f"{networks.show(wall)} | {networks.show(cpu)} |"
        )
    print(f"\nThe first batch of an epoch (4,096 rows) comes after {networks.show(found['first'])} s.")


def main() -> None:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        print("## Rows into a network\n\nNot measured: TensorFlow is not installed (`make setup-tensorflow`).")
        return
    with TemporaryDirectory(prefix="upkeep-bench-") as name:
        folder = Path(name) / "prepared"
        said("make", str(folder))
        show_feed(said("feed", str(folder)))
        pairs = said("steps", str(folder))
    wall, cpu = [pair[2] / pair[0] for pair in pairs], [pair[3] / pair[1] for pair in pairs]
    each = [[pair[place] * 1000 for pair in pairs] for place in (0, 2)]
    print(
        f"\nA training step of {STEP_ROWS} rows (network 64, 32): Upkeep's loop from Parquet on, with progress, a "
        f"checkpoint every second and the curve, beside a bare `model.fit` on batches that are cached in memory; "
        f"{STEP_PAIRS} pairs of {STEPS} steps, in turns, once both have made their graphs.\n"
    )
    print("| | `model.fit`, ms | Upkeep, ms | Upkeep ÷ `model.fit` | by CPU seconds |\n| --- | --- | --- | --- | --- |")
    print(
        f"| a step | {networks.show(each[0])} | {networks.show(each[1])} | {networks.show(wall)} | "
        f"{networks.show(cpu)} |"
    )
    begun = [said("starts") for _ in range(3)]
    commands, libraries = (statistics.median(run[place] for run in begun) for place in (0, 1))
    print(
        f"\n`upkeep --help` takes {commands:.2f} CPU-s and imports no TensorFlow, nor does an update of scikit-learn "
        f"candidates; importing TensorFlow and Keras alone takes {libraries:.1f}."
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["make", folder]:
            networks.make(Path(folder), rows=ROWS, periods=PERIODS)
            print("[]")
        case ["feed", folder]:
            feed(Path(folder))
        case ["steps", folder]:
            steps(Path(folder))
        case ["starts"]:
            starts()
