"""What low-rank adapters cost in quality where texts are read: the reviews example, against whole fine-tuning."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews"
MONTHS, ROWS, SEEDS = ("2025-01", "2025-02", "2025-03"), 3000, (1, 2)


def candidates(spec: Any) -> dict[str, Any]:
    """Of the example's network: all of it, which the others are measured against, its own adapters, and fewer."""
    from upkeep.spec.model import Lora, TrainedLayers

    own = next(one for one in spec.candidates if one.name == "network")
    slow = replace(own.optimizer, rate=own.optimizer.rate / 5)  # at the adapters' rate it forgets what it read before
    fast = replace(own.optimizer, rate=own.optimizer.rate * 4)

    def on(*layers: str) -> Any:
        return replace(own, train=TrainedLayers(lora=Lora(rank=own.train.lora.rank, layers=layers)))

    return {
        "whole": replace(own, train=TrainedLayers(), keep="whole", optimizer=slow),
        "adapters as in the example": own,
        "adapters on token embedding, query, value": on("token_embedding", "query", "value"),
        "adapters on query, value": on("query", "value"),
        "adapters on query, value, at four times the rate": replace(on("query", "value"), optimizer=fast),
        "the layer that answers": replace(own, train=TrainedLayers(last=1)),
    }


def nearness(base: Path) -> tuple[float, float]:
    """The mean cosine of the embeddings of two words of praise, or of blame; and of one of each."""
    import make_data
    import numpy as np

    from upkeep.models.keras_file import load_preset

    backbone, preprocessor = load_preset(base)
    known = {word: place for place, word in enumerate(preprocessor.tokenizer.get_vocabulary())}
    words = [word for word in make_data.GOOD + make_data.BAD if word in known]
    of = np.asarray(backbone.token_embedding.embeddings)[[known[word] for word in words]]
    of /= np.linalg.norm(of, axis=1, keepdims=True)
    praise = np.array([word in make_data.GOOD for word in words])
    alike = praise[:, None] == praise
    cosine, others = of @ of.T, ~np.eye(len(words), dtype=bool)
    return float(cosine[alike & others].mean()), float(cosine[~alike].mean())


def measure(folder: Path) -> tuple[list[str], tuple[float, float]]:
    """A line a candidate, of a Markdown table; and :func:`nearness`."""
    sys.path.insert(0, str(EXAMPLE))
    import make_data
    import numpy as np
    from sklearn.metrics import f1_score

    from upkeep.api import load_spec
    from upkeep.data.collect import collect
    from upkeep.data.prepare import prepare
    from upkeep.data.prepared import Prepared
    from upkeep.models.digest import BASE
    from upkeep.models.folder import load
    from upkeep.training.task import TrainingTask
    from upkeep.training.train import train

    subprocess.run([sys.executable, "pretrain.py", "work/base"], cwd=folder, check=True, stdout=sys.stderr)
    make_data.write(folder / "work" / "data", list(MONTHS), rows=ROWS)
    spec = load_spec(folder / "work" / "upkeep.yaml")
    prepare(spec, collect(spec), folder / "prepared")
    rows = Prepared(folder / "prepared")
    held_out = rows.table(parts=("held_out",))
    truth = rows.codes(held_out)

    lines, base = [], 0.0
    for name, candidate in candidates(spec).items():
        scores, seconds, result = [], [], None
        for seed in SEEDS:
            out = folder / f"{len(lines)}-{seed}"
            before = time.process_time()
            task = TrainingTask(candidate=candidate, spec=spec, prepared=rows, seed=seed)
            result = train(task, out, out.with_name(f"{out.name}-state"))
            seconds.append(time.process_time() - before)
            model = load(out)
            scores.append(float(f1_score(truth, np.argmax(model.predict_proba(held_out), axis=1))))
        own = [path for path in out.rglob("*") if path.is_file() and BASE not in path.relative_to(out).parts]
        kept = sum(path.stat().st_size for path in own)
        base = base or float(np.mean(scores))
        trained = result.params["trained_parameters"] if result else 0
        lines.append(
            f"| {name} | {trained:,} | {kept:,} | {np.mean(scores):.3f} ({min(scores):.3f}–{max(scores):.3f}) "
            f"| {np.mean(scores) - base:+.3f} | {np.mean(seconds):.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines, nearness(folder / "work" / "base")


def main() -> None:
    print("## Adapters on the reviews\n")
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        print("Not measured: KerasHub is not installed (`make setup-tensorflow`).")
        return
    os.environ["PYTHONPATH"] = str(EXAMPLE)
    with TemporaryDirectory() as place:
        folder = Path(place) / "reviews"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("work", "__pycache__"))
        (folder / "work").mkdir()
        lines, (alike, apart) = measure(folder)
    print(
        f"The example's network, pre-trained there, fine-tuned on January to March ({ROWS:,} reviews a month) and "
        f"asked about the held-out ones; {len(SEEDS)} seeds, mean and spread. Bytes are those of a version's folder; "
        "adapters are kept as `keep: delta` does, beside a base that is there once.\n"
    )
    print("| | parameters that learn | bytes of a version | F1 | against whole | CPU seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    print(
        "\nWhat pre-training taught decides how little may learn. Hidden words were guessed, and words of praise and "
        f"blame stand in the same places: the cosine of their embeddings is {apart:.2f} between the two kinds and "
        f"{alike:.2f} within one, and the layer that answers, alone, tells little. Query and value only choose which "
        "words are looked at; the example adapts what they mean, too: embeddings and feed-forward layers."
    )


if __name__ == "__main__":
    main()
