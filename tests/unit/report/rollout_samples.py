"""Rollouts for the page: one that was promoted, one that was taken back, one that waits, and hostile text."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from upkeep.report.rollout_view import Look, Move, RolloutsView, RolloutView, Traffic
from upkeep.rollout.analysis.combine import combine
from upkeep.rollout.analysis.sequential import Block, TwoArm, step_margin

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEPS = (5, 25, 50)


def _at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def rollout(canary_bad: float, *, seed: int = 1, version: str = "v13") -> RolloutView:
    """Fifty requests a second, a look every ten seconds, by the real tests."""
    chance = random.Random(seed)
    moves = [_move(0, 0, "pending", f"propose {version} at 0 %"), _move(20, 5, "step", f"{version}: 5 %")]
    arms = {"errors": TwoArm(margin=0.1, alpha_fail=0.005), "latency": TwoArm(margin=0.2, alpha_fail=0.005)}
    looks: list[Look] = []
    served = {"v12": [0, 0, 0], version: [0, 0, 0]}
    now, step, phase = 20, 0, "step"
    while now < 4000 and phase == "step":
        weight = STEPS[step]
        following = (*STEPS, 100)[step + 1]
        now += 10
        canary = round(500 * weight / 100)
        for name, margin, bad in (("errors", 0.005, canary_bad), ("latency", 0.01, 0.03)):
            failed = [
                sum(chance.random() < rate for _ in range(n))
                for rate, n in ((bad, canary), (0.002 if name == "errors" else 0.03, 500 - canary))
            ]
            arm = replace(arms[name], margin=step_margin(margin, following))
            arms[name] = arm.observe(
                weight, Block(canary_n=canary, canary_bad=failed[0], champion_n=500 - canary, champion_bad=failed[1])
            )
            for which, n, count in ((version, canary, failed[0]), ("v12", 500 - canary, failed[1])):
                served[which][0] += n if name == "errors" else 0
                served[which][1 if name == "errors" else 2] += count
            found = arms[name].evidence(name)
            looks.append(
                Look(
                    at=_at(now),
                    metric=name,
                    weight=weight,
                    difference=found.difference,
                    lower=found.lower,
                    upper=found.upper,
                    margin=found.margin,
                    e_fail=found.e_fail,
                    e_pass=found.e_pass,
                )
            )
        verdict = combine([arms[name].evidence(name) for name in arms], rollback=0.01).verdict
        if verdict == "fail":
            phase = "rolled_back"
            moves.append(_move(now, 0, "rolling_back", f"take {version} back: errors are worse", "fail"))
            moves.append(_move(now + 30, 0, "rolled_back", f"{version} is gone, its bytes are barred"))
        elif verdict == "pass":
            step += 1
            weight = (*STEPS, 100)[step]
            moves.append(_move(now, weight, "step" if step < 3 else "promoting", f"{version}: {weight} %", "pass"))
            if step == 3:
                phase = "succeeded"
                moves.append(_move(now + 600, 100, "succeeded", f"{version} is the champion", "pass"))
            else:
                arms = {name: arm.begin(step_margin(0.005, (*STEPS, 100)[step + 1])) for name, arm in arms.items()}
    return RolloutView(
        rollout=f"{version}-20260301T120000Z",
        canary=version,
        champion="v12",
        phase=phase,
        weight=moves[-1].weight,
        reason=f"{moves[-1].title}.",
        began=_at(0),
        ended=moves[-1].at if phase != "step" else None,
        steps=STEPS,
        moves=tuple(moves),
        looks=tuple(looks),
        analysis=combine([arms[name].evidence(name) for name in arms], rollback=0.01),
        traffic=tuple(
            Traffic(version=name, requests=n, failed=bad, slow=slow) for name, (n, bad, slow) in served.items()
        ),
    )


def _move(seconds: float, weight: int, phase: str, title: str, verdict: str = "") -> Move:
    return Move(
        at=_at(seconds),
        commit=f"{int(seconds):040x}",
        author="upkeep <upkeep@localhost>",
        person=False,
        phase=phase,
        weight=weight,
        title=title,
        verdict=verdict,
        evidence="e" * 64 if verdict else "",
    )


def waiting() -> RolloutView:
    """Committed a moment ago: nothing is known."""
    return RolloutView(
        rollout="v14-20260302T120000Z",
        canary="v14",
        champion="v13",
        phase="held",
        weight=5,
        reason="The evidence is insufficient after 24 h.",
        began=_at(0),
        steps=STEPS,
        waits_for="a person’s word",
        until=_at(86400),
        moves=(
            _move(0, 0, "pending", "propose v14 at 0 %"),
            replace(_move(50, 5, "paused", "raised by hand"), person=True, author="A. <a@example.com>"),
        ),
        notes=("Labels could not be read: the folder is gone.",),
    )


def hostile() -> RolloutView:
    bad = "<script>alert(1)</script>" + "x" * 300 + " \x00"
    moves = (replace(_move(0, 0, "pending", bad), author=bad, person=True),)
    return replace(waiting(), reason=bad, waits_for=bad, moves=moves, notes=(bad,))


def views() -> dict[str, RolloutsView]:
    def made(*rollouts: RolloutView) -> RolloutsView:
        return RolloutsView(
            model="flight-delays",
            description="Will a flight arrive more than 15 minutes late?",
            made=_at(90000),
            serves=(("v13", 100),),
            rollouts=rollouts,
            repository="https://git.example.com/platform/models.git",
        )

    return {
        "rollouts": made(rollout(0.05, seed=2, version="v14"), rollout(0.002)),
        "rollout waiting": made(waiting()),
        "rollout hostile": made(hostile()),
        "rollout none": made(),
    }
