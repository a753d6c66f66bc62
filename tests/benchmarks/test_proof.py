"""The experiment of `benchmarks.proof`: its truth is the truth, and a killed sweep goes on."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import proof, proof_page, proof_world


def people_and_mask(count, views, named):
    draw = torch.Generator().manual_seed(views)
    people = proof_world.draw_people(count, 2, draw)
    return people, proof_world.views(people, views, draw, named=named)


@pytest.mark.parametrize(("views", "named"), [(0, False), (1, False), (6, False), (3, True)])
def test_the_least_error_is_that_of_the_best_answer_and_no_other_weight_does_better(views, named):
    """In samples: the closed form is met, and the error grows to either side."""
    people, mask = people_and_mask(20_000, views, named)
    assert (mask.sum(dim=2) == views).all()
    assert (mask[torch.arange(len(mask)), :, people.yaw] == named).all()
    best = people.best(mask)
    errors = [float((best * by - people.named).square().mean()) for by in (1.0, 0.8, 1.2)]
    assert errors[0] == pytest.approx(proof_world.least_error(views, named=named), abs=0.01)
    if views:
        assert min(errors[1:]) > errors[0]


def test_the_clip_shows_the_named_view_of_the_named_person():
    """All over the clip is one code, that of the person and the yaw of which the text is made."""
    people, _ = people_and_mask(64, 1, True)
    for row, (who, yaw) in enumerate(zip(people.who, people.yaw, strict=True)):
        code = people.codes[row, who, yaw][:, None, None, None]
        assert torch.equal(people.clip()[row], code.expand_as(people.clip()[row]))
    words = people.text()[:, 0]
    alike = (words[:, None] == words).all(dim=2)
    same = (people.who[:, None] == people.who) & (people.yaw[:, None] == people.yaw)
    assert torch.equal(alike, same)


def test_a_model_that_answers_best_has_no_excess_and_one_that_mixes_people_leaks(monkeypatch):
    """The measure of models that are known: the best answer, and one of both people's."""
    kind = proof.Variant(people=2)
    monkeypatch.setattr(proof, "attention", lambda *_: {})
    for leak in (0.0, 0.25):
        monkeypatch.setattr(
            proof, "estimate",
            lambda _m, _k, people, mask, leak=leak: (
                (1 - leak) * people.best(mask) + leak * people.others().best(mask)
            ),
        )  # fmt: skip
        found = proof.measure(None, kind)
        assert found["leak"]["7 named"] == pytest.approx(leak, abs=1e-4)
        assert found["weight"]["7 named"] == pytest.approx(1 - leak, abs=1e-4)
        assert (found["excess"]["7 named"] < 1e-9) == (leak == 0)


def test_a_killed_sweep_goes_on(tmp_path, monkeypatch):
    """Trainings whose line is whole are not repeated; one whose line is torn is."""
    trained = []

    def run(name, seed, steps, batch, rate):
        trained.append((name, seed))
        return {"variant": name, "seed": seed, "steps": steps, "batch": batch, "rate": rate,
                "seconds": 1.0, "excess": {}}  # fmt: skip

    monkeypatch.setattr(proof, "run", run)
    options = proof.ProofBenchmark(("full", "gray"), seeds=2, results=tmp_path / "r.jsonl")
    proof.main(options)
    assert trained == [("full", 0), ("gray", 0), ("full", 1), ("gray", 1)]
    lines = options.results.read_text().splitlines(keepends=True)
    options.results.write_text("".join(lines[:3]) + lines[3][:20])
    trained.clear()
    proof.main(options)
    assert trained == [("gray", 1)]
    rows = proof.read(options.results)
    assert [(row["variant"], row["seed"]) for row in rows][-1] == ("gray", 1)
    assert len(rows) == 4, json.dumps(rows)
    with pytest.raises(SystemExit, match="other steps"):
        proof.main(replace(options, steps=5))


def test_the_tables_of_the_page_are_those_of_the_results():
    """What `--table` would write is there."""
    text = proof_page.tables(proof.read(proof.RESULTS), tuple(proof.VARIANTS))
    assert text in proof_page.PAGE.read_text(encoding="utf-8")


def test_intervals_hold_the_mean_of_what_they_were_made_of():
    """Nine of ten and more, of many draws of five from a normal distribution."""
    draw = torch.Generator().manual_seed(0)
    found = [proof_page.mean(torch.randn(5, generator=draw).tolist()) for _ in range(2000)]
    inside = sum(abs(one.value) <= one.half for one in found) / len(found)
    assert 0.94 < inside < 0.96
