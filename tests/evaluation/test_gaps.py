"""What is not shown is said, with the reason and what to do."""

import re
from dataclasses import replace

import numpy as np
import pytest
from predictions import make_algorithm, make_events, make_sample, make_settings, plant

from ctapipe_gammaphysnet.evaluation.gaps import (
    describe_gaps,
    describe_sparse_bins,
    find_gaps,
)
from ctapipe_gammaphysnet.evaluation.plots import draw_all
from ctapipe_gammaphysnet.evaluation.report import write_report, write_tables
from ctapipe_gammaphysnet.evaluation.results import evaluate
from ctapipe_gammaphysnet.evaluation.sample import count_valid
from ctapipe_gammaphysnet.figures.drawing import write_figures


def sample_of(n_gammas, n_background, **changes):
    events = make_events(n_gammas, n_background)
    predictions = plant(events)
    for name, value in changes.items():
        if name in events.colnames:
            events[name] = value
        else:
            predictions[name][:] = value
    return make_sample(events, make_algorithm("one", [predictions]))


def gaps_of(sample, **settings):
    settings = make_settings(n_resamples=2, **settings)
    return find_gaps(evaluate(sample, settings), settings)


def test_there_are_none_where_every_metric_is_known():
    assert gaps_of(sample_of(600, 400)) == {}


def test_bins_with_few_events_are_counted():
    """Those without any are not sparse, and two algorithms do not count twice."""
    sample = sample_of(600, 400)
    zenith = np.full(1000, 17.0)
    # 5 gammas and 3 background events in one bin, 7 gammas in another one.
    zenith[:5] = zenith[-3:] = 22.0
    zenith[5:12] = 37.0
    sample.events["zenith"] = zenith
    sample.algorithms.append(replace(sample.algorithms[0], name="two"))
    settings = make_settings(n_resamples=2, minimum=20)
    assert describe_sparse_bins(evaluate(sample, settings), settings) == [
        "2 of 5 bins of zenith angle have fewer than 20 gammas (--min-events)",
        "1 of 5 bins of zenith angle have fewer than 20 background events "
        "(--min-events)",
    ]


def test_bins_with_too_few_events_name_the_option_and_the_fullest():
    sample = sample_of(100, 90)
    fullest = np.histogram(sample.events["true_energy"][:100], [0.1, 1, 10])[0].max()
    gaps = gaps_of(sample, minimum=95)
    assert gaps["energy", "angular_resolution"] == (
        f"no bin of true energy has 95 gammas (--min-events): the fullest has {fullest}"
    )
    assert "95 gammas and as many background events" in gaps["energy", "auc"]
    (first, *_) = describe_gaps(gaps)
    assert first.startswith(
        "Angular resolution, Energy resolution, Energy bias, Impact resolution, Recall "
        "against true energy: no bin"
    )
    # With as many as it says there is a value.
    assert ("energy", "angular_resolution") not in gaps_of(sample, minimum=int(fullest))


@pytest.mark.parametrize(
    ("sample", "metric", "reason"),
    [
        (sample_of(100, 0), "auc", "no background among .* --background"),
        (sample_of(0, 100), "energy_bias", "no gammas among the compared events"),
        (sample_of(0, 100), "auc", "no gammas among the compared events"),
        (
            sample_of(100, 100, energy=np.nan),
            "energy_resolution",
            "no algorithm has valid predictions of the energy",
        ),
        (
            sample_of(100, 100, gammaness=0.0),
            "precision",
            "no event has a gammaness of at least 0.5",
        ),
        (
            sample_of(100, 100, true_energy=1000.0),
            "impact_resolution",
            "no bin of true energy has gammas",
        ),
        (
            sample_of(1, 1),
            "angular_resolution",
            r"has 20 gammas \(--min-events\): the fullest has 1",
        ),
    ],
)
def test_each_gap_has_its_reason_and_is_reported(sample, metric, reason, tmp_path):
    settings = make_settings(n_resamples=2)
    results = evaluate(sample, settings)
    gaps = find_gaps(results, settings)
    assert re.search(reason, gaps["energy", metric])
    write_tables(results, tmp_path)
    plots = draw_all(results, 0.5, gaps=gaps)
    write_figures({name: plots[name] for name in list(plots)[:1]}, tmp_path)
    counts = count_valid(sample.events, sample.algorithms)
    write_report(
        tmp_path / "report.html", {}, results, counts, [], missing=describe_gaps(gaps)
    )
    text = (tmp_path / "report.html").read_text()
    assert "What is not shown" in text
    assert gaps["energy", metric] in text


def test_events_without_intensity_say_so():
    gaps = gaps_of(sample_of(100, 100, intensity=np.nan))
    assert gaps["intensity", "auc"] == "the intensity of the events is not known"


def test_an_empty_panel_says_why():
    sample = sample_of(200, 200, gammaness=0.0)
    settings = make_settings(n_resamples=2)
    results = evaluate(sample, settings)
    gaps = find_gaps(results, settings)
    figure = draw_all(results, 0.5, gaps=gaps)["separation_energy"]
    said = [" ".join(t.get_text().split()) for axis in figure.axes for t in axis.texts]
    assert said == ["no event has a gammaness of at least 0.5"]


def test_what_was_not_drawn_is_in_the_report(tmp_path):
    sample = sample_of(100, 100)
    results = evaluate(sample, make_settings(n_resamples=2))
    counts = count_valid(sample.events, sample.algorithms)
    path = tmp_path / "report.html"
    write_report(
        path, {"\udce9": "a"}, results, counts, [], missing=["Not drawn: roc: <broken>"]
    )
    assert "Not drawn: roc: &lt;broken&gt;" in path.read_text()
    assert r"\udce9" in path.read_text()
