"""The command line, and that the reference page tells of all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from upkeep.serving.manifests import ServedVersion, render_version
from upkeep.serving.server.__main__ import command_line, parse
from upkeep.serving.server.metrics import Metrics
from upkeep.spec.load import load

PAGE = (Path(__file__).parents[4] / "docs/reference/model-server.md").read_text()
ENVIRON = {"UPKEEP_VERSION": "v12", "UPKEEP_DIGEST": "a" * 64}


def test_both_spellings_say_the_same() -> None:
    one = parse(["--model-name", "m", "--http-port=1", "--payload-drop", "a, b,"], ENVIRON)
    assert one == parse(["--model_name=m", "--http_port", "1", "--payload_drop=a,b"], ENVIRON)
    assert (one.service, one.address, one.host) == ("m-v12", "/mnt/models", "127.0.0.1")
    assert one.payload_drop == ("a", "b")


def test_what_the_manifest_says_is_understood() -> None:
    import yaml

    spec = load(Path(__file__).parents[4] / "examples/flights/upkeep.yaml")
    spec = replace(spec, store="s3://upkeep")
    rendered = render_version(spec, ServedVersion(version="v3", digest="a" * 64, update="u"))
    model = yaml.safe_load(rendered)["spec"]["predictor"]["model"]
    environ = {entry["name"]: entry["value"] for entry in model["env"]}
    options = parse(model["args"], environ)
    assert (options.model_name, options.version, options.digest) == (spec.name, "v3", "a" * 64)


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ([], "v1"),
        (["--model-name", "m"], ""),
        (["--model-name", "m"], "12"),
        (["--model-name", "m", "--workers=2"], "v1"),
    ],
)
def test_wrong_flags_end_with_2(arguments: list[str], version: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, {"UPKEEP_VERSION": version})
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_the_reference_names_every_flag_and_metric() -> None:
    flags = [action.option_strings[-1] for action in command_line()._actions if action.dest != "help"]
    assert [flag for flag in flags if f"`{flag}`" not in PAGE] == []
    metrics = Metrics("m", "v1", "a" * 64)
    metrics.watch_drops(dict)
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("upkeep_")
    }
    assert len(names) == 7
    assert [name for name in names if f"`{name}`" not in PAGE] == []
