"""``upkeep init``: the spec it writes names the data so that it is found from the spec's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import upkeep
from upkeep.spec.load import load

ROWS = "customer,age,plan,left\n" + "".join(
    f"c{number},{20 + number % 50},{'free' if number % 3 else 'pro'},{'yes' if number % 4 else 'no'}\n"
    for number in range(200)
)


@pytest.mark.parametrize(
    ("data", "to", "source"),
    [
        ("customers.csv", "upkeep.yaml", "customers.csv"),
        ("customers.csv", "specs/upkeep.yaml", "../customers.csv"),
        ("customers.csv", "specs/churn/upkeep.yaml", "../../customers.csv"),
        ("./customers.csv", "./upkeep.yaml", "./customers.csv"),
        ("{here}/customers.csv", "specs/upkeep.yaml", "{here}/customers.csv"),
        ("customers.csv", "{here}/specs/upkeep.yaml", "../customers.csv"),
    ],
)
def test_the_source_resolves_from_the_specs_folder(
    data: str, to: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs/churn").mkdir(parents=True)
    (tmp_path / "customers.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    data, to, source = (text.format(here=tmp_path) for text in (data, to, source))
    made = upkeep.init(data, target="left", path=to)
    assert load(to).data.source == source
    assert made.spec["data"]["source"] == source
    assert Path(upkeep.load_spec(to).data.source) == tmp_path / "customers.csv"
    assert upkeep.check(to).ok
