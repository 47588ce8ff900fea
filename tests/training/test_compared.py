"""Who writes better, as a judge says it: verdicts are counted, kept, and distrusted when due."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmctl.artifact import Artifact
from llmctl.judges.base import Contest, Preference
from llmctl.judges.match import MatchJudge
from llmctl.report.html import Report
from llmctl.training import compared

pytestmark = pytest.mark.model

MESSAGES = [{"role": "user", "content": "Why?"}]


def judged(folder: Path, said: list[Preference]) -> tuple[Artifact, compared.Compared]:
    artifact = Artifact(folder)
    asked = [Contest(str(at), MESSAGES, f"new {at}", f"old {at}") for at in range(len(said))]
    found = compared.Compared(asked, said)
    compared.noted(artifact, found)
    return artifact, found


def test_who_wins_by_length_alone_does_not_win_at_equal_length(tmp_path: Path) -> None:
    """The longer answer always wins, and the model's is the longer one in two of three."""
    texts = [("right and long", "no"), ("right and long", "no"), ("no", "right and long")] * 10
    asked = [Contest(str(at), MESSAGES, *both, reference="right") for at, both in enumerate(texts)]
    artifact = Artifact(tmp_path)
    compared.by_judge(artifact, MatchJudge(rule="contains"), asked)
    assert artifact.metrics["win_rate"] == pytest.approx(2 / 3)
    assert artifact.metrics["length_controlled_win_rate"] == pytest.approx(0.5, abs=0.1)
    assert artifact.metrics["longer_wins"] == 1.0
    assert artifact.metrics["win_rate_unmeasured"] == 0


def test_every_verdict_is_counted_kept_and_shown(tmp_path: Path) -> None:
    artifact, found = judged(
        tmp_path,
        [
            Preference("first", "it says why", consistent=True),
            Preference("second", "shorter", consistent=True),
            Preference("tie", "first in one order, second in the other", consistent=False),
            Preference(None, "not in form: no JSON"),
        ],
    )
    metrics = artifact.metrics
    assert metrics["win_rate"] == 0.5
    assert [metrics[f"win_rate_{each}"] for each in ("won", "lost", "ties")] == [1, 1, 1]
    assert metrics["win_rate_unmeasured"] == 1
    assert metrics["win_rate_unmeasured_reasons"] == {"not in form: no JSON": 1}
    assert metrics["position_consistency"] == pytest.approx(2 / 3)
    summary = dict(artifact.summary)
    assert summary["verdicts"] == "1 won, 1 lost, 1 ties, 1 unmeasured"
    assert summary["same verdict in both orders"] == "2 of 3: a coin would do as well"
    rows = [json.loads(line) for line in artifact.path("compared.jsonl").open()]
    assert [row["winner"] for row in rows] == ["after", "before", "tie", None]
    assert (rows[0]["before"], rows[0]["after"]) == ("old 0", "new 0")
    assert rows[2]["reason"] == "each order gave another verdict"  # the sides have other names here
    page = Report("")
    found.draw(page)
    assert "JUDGE: no verdict (not in form: no JSON)" in page.html()


@pytest.mark.parametrize(("same", "warned"), [(12, True), (18, False)])
def test_a_judge_that_follows_the_position_is_not_trusted(
    same: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 20 pairs: 12 are within what a coin gives (Wilson 0.39 to 0.78), 18 are not."""
    agreed = [Preference("first", "", consistent=True)] * same
    judged(tmp_path, agreed + [Preference("tie", "", consistent=False)] * (20 - same))
    assert (f"same in both orders of {same} of 20 pairs" in capsys.readouterr().err) is warned
