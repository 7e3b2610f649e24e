"""One request that is pinned to a version, through a gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upkeep.serving.cluster import Probe
from upkeep.serving.manifests import VERSION_HEADER
from upkeep.serving.trust import trusted
from upkeep.spec.model import ModelSpec


def ask(address: str, host: str, spec: ModelSpec, version: str, rows: Sequence[Mapping[str, Any]]) -> Probe:
    """Ask ``version`` about ``rows`` at ``address`` (``http://…``, without a path), by the route's ``host``.

    Ok is a 200 with a prediction for each row; whatever goes wrong is told and never raised.
    """
    import httpx

    try:
        answer = httpx.post(
            f"{address}/v1/models/{spec.name}:predict",
            json={"instances": [dict(row) for row in rows]},
            headers={"host": host, VERSION_HEADER: version},
            timeout=spec.rollout.timeout + 1.0,
            trust_env=False,
            verify=trusted(),
        )
    except (TypeError, ValueError) as error:
        return Probe(ok=False, status=None, message=f"these rows are no JSON: {error}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Probe(ok=False, status=None, message=f"no answer: {error or type(error).__name__}")
    if answer.status_code != 200:
        return Probe(ok=False, status=answer.status_code, message=answer.text[:300])
    try:
        predictions = answer.json()["predictions"]
        whole = isinstance(predictions, list) and len(predictions) == len(rows)
    except (ValueError, KeyError, TypeError):
        whole = False
    message = "" if whole else f"no answer for each row: {answer.text[:200]}"
    return Probe(ok=whole, status=200, message=message)
