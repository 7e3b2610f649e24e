"""What a component adds to kfp.local's own step time, beyond the libraries that its work needs.

Three steps by kfp.local, in turns: an empty one; one that only imports what ours had imported when it was done; and
ours (``collect`` and ``preprocess`` on a table of 200 rows). The difference of the last two is what we add.

The work of the other steps is much more than what they add, so for all six there is a second table, without KFP's
runner: what a step costs until its work begins (its module, the spec, the registry), beyond its libraries.

No postponed annotations here: KFP reads them as types.
"""

import csv
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
STEPS = ("collect", "preprocess", "drift", "train", "evaluate", "deploy")
HEAVY = ("numpy", "pandas", "pyarrow", "pyarrow.parquet", "pyarrow.csv", "pyarrow.compute", "duckdb", "obstore",
         "pydantic", "yaml", "scipy", "sklearn", "skops", "matplotlib", "jinja2", "optuna")  # fmt: skip

SPEC = """
metadata: {name: bench}
store: store
data:
  source: rows.csv
  id: id
  target: {column: label, positive: 1}
  features: {numeric: [a, b], categorical: [c]}
candidates:
  - {name: one, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
"""


def make(folder: Path) -> None:
    (folder / "upkeep.yaml").write_text(SPEC)
    draw = random.Random(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "a", "b", "c", "label"])
        for number in range(200):
            rows.writerow([number, draw.random(), draw.random(), draw.choice("xyz"), draw.randint(0, 1)])


def one(kind: str, folder: str, libraries: str) -> None:
    """Run one pipeline by kfp.local in this process; its CPU seconds are those of the steps (children) alone."""
    import resource

    from kfp import dsl, local
    from upkeep.components.collect import collect
    from upkeep.components.preprocess import preprocess

    def empty() -> None:
        pass

    @dsl.component(base_image="python", install_kfp_package=False)
    def imports(names: str) -> None:
        import importlib  # the component's own source

        for name in names.split(","):
            importlib.import_module(name)

    @dsl.pipeline(name="bench")
    def ours(spec: str, spec_digest: str) -> None:
        found = collect(spec=spec, spec_digest=spec_digest, until="", accept_changed=False)
        if kind == "preprocess":
            preprocess(
                spec=spec,
                spec_digest=spec_digest,
                dataset_digest=found.outputs["dataset_digest"],
                seen=found.outputs["seen"],
                dataset=found.outputs["dataset"],
            )

    inputs = prepared(folder)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=f"{folder}/runs")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if kind.startswith("empty"):
        dsl.component(empty, base_image="python", install_kfp_package=kind == "empty-pip")()
    elif kind == "imports":
        imports(names=libraries)
    else:
        ours(**inputs)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n" + json.dumps(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


def measure(kind: str, folder: str, libraries: str = "") -> float:
    return float(said(kind, folder, libraries))


def said(*words: str) -> str:
    """The last line that this script prints when it is called with these words."""
    command = [sys.executable, "-W", "ignore", __file__, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def imported_by(step: str, folder: str) -> str:
    """The heavy libraries that a step has imported once its work is done: found by doing it, in another process."""
    return said(f"{step}-libraries", folder)


def prepared(folder: str) -> dict[str, str]:
    """A step's first inputs: where the spec lies in the store, and its digest."""
    from upkeep import records
    from upkeep.registry.registry import Registry
    from upkeep.spec.check import load_checked
    from upkeep.spec.load import canonical
    from upkeep.store import open_store

    spec = load_checked(Path(folder) / "upkeep.yaml", os.environ)
    registry = Registry(open_store(spec.store, spec.object_store), spec.name)
    data = canonical(spec)
    registry.put_spec(data)
    digest = records.digest(data)
    return {"spec": f"{registry.store.uri}/{spec.name}/specs/{digest}.json", "spec_digest": digest}


def start_of(step: str, spec: str, spec_digest: str) -> None:
    """CPU seconds of this process until a step's work would begin, and the heavy libraries that it imported."""
    import kfp.dsl  # noqa: F401 - a step's process has it

    importlib.import_module(f"upkeep.update.{step}")
    from upkeep.update.context import open_context

    open_context(spec=spec, spec_digest=spec_digest, step=step, update="bench")
    print(json.dumps([time.process_time(), [name for name in HEAVY if name in sys.modules]]))


def imports_of(libraries: str) -> None:
    """CPU seconds of this process when it has imported these."""
    import kfp.dsl  # noqa: F401

    for name in libraries.split(","):
        importlib.import_module(name)
    print(json.dumps(time.process_time()))


def work_of(step: str, folder: str) -> None:
    """Do a step's work in this process, without KFP, and print the heavy libraries that are there afterwards."""
    from types import SimpleNamespace

    from upkeep.update.collect import collect

    known = prepared(folder)
    dataset = SimpleNamespace(path=f"{folder}/{step}.json", metadata={})
    collect(**known, until="", accept_changed=False, dataset=dataset)
    if step == "preprocess":
        from upkeep.update.preprocess import preprocess

        outputs = {
            name: SimpleNamespace(path=f"{folder}/{step}-{name}", metadata={})
            for name in ("prepared", "quarantine", "metrics")
        }
        preprocess(**known, dataset=dataset, **outputs)
    print("\n" + ",".join(name for name in HEAVY if name in sys.modules))


def show(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a module is compiled once, not in each step
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        both = {step: imported_by(step, folder) for step in ("collect", "preprocess")}
        cells: dict[str, list[float]] = {
            name: [] for name in ("pip", "empty", "i1", "i2", "collect", "both", "added1", "added2")
        }
        for _ in range(RUNS):
            pip, empty = measure("empty-pip", folder), measure("empty", folder)
            i1, i2 = measure("imports", folder, both["collect"]), measure("imports", folder, both["preprocess"])
            ours1, ours2 = measure("collect", folder), measure("preprocess", folder)
            values = (pip, empty, i1, i2, ours1, ours2, ours1 - i1, ours2 - ours1 - i2)
            for name, value in zip(cells, values, strict=True):
                cells[name].append(value)
        inputs = tuple(prepared(folder).values())
        added: dict[str, list[float]] = {step: [] for step in STEPS}
        needs = {step: ",".join(json.loads(said("start", step, *inputs))[1]) for step in STEPS}
        for _ in range(RUNS):
            for step in STEPS:
                started = json.loads(said("start", step, *inputs))[0]
                added[step].append(started - float(said("only", needs[step])))
    print("## What a component adds to a step\n")
    print(f"kfp.local, SubprocessRunner; CPU-s of the step's process; {RUNS} runs each, in turns, modules compiled.\n")
    print("| step | CPU-s |\n| --- | --- |")
    print(f"| an empty component as KFP makes it, with a `pip install` | {show(cells['pip'])} |")
    print(f"| an empty component without it, as ours are | {show(cells['empty'])} |")
    print(f"| one that only imports {both['collect'] or 'nothing heavy'} | {show(cells['i1'])} |")
    print(f"| `collect`, 200 rows | {show(cells['collect'])} |")
    print(f"| **added by collect** (pairwise) | {show(cells['added1'])} |")
    print(f"| one that only imports {both['preprocess']} | {show(cells['i2'])} |")
    print(f"| **added by preprocess**, its work on 200 rows included (pairwise) | {show(cells['added2'])} |")
    print("\nWhat a step adds until its work begins, beyond the libraries it has imported by then (pairwise):\n")
    print("| step | CPU-s | libraries |\n| --- | --- | --- |")
    for step in STEPS:
        print(f"| `{step}` | {show(added[step])} | {needs[step]} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["start", step, spec, digest]:
            start_of(step, spec, digest)
        case ["only", libraries]:
            imports_of(libraries)
        case [kind, folder] if kind.endswith("-libraries"):
            work_of(kind.removesuffix("-libraries"), folder)
        case [kind, folder, libraries]:
            one(kind, folder, libraries)
