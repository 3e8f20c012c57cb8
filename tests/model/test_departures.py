"""What lies outside of the training's conditions is found, and nothing else."""

from collections import Counter

import numpy as np
import pytest

from ctapipe_gammaphysnet.events.background import Background
from ctapipe_gammaphysnet.model.card import DomainCard, InputCard
from ctapipe_gammaphysnet.model.card_text import format_card
from ctapipe_gammaphysnet.model.domain import (
    BACKGROUND_NOT_COMPARED,
    BACKGROUND_OUTSIDE,
    POINTING_OUTSIDE,
    DomainWatch,
    find_departures,
    find_other_processing,
    is_pointing_inside,
)

# As the image extractor LocalPeakWindowSum leaves them in a camera of 1855 pixels.
PEDESTAL, NOISE = 1.62, 1.18
PEDESTAL_SPREAD, NOISE_SPREAD = 0.04, 0.03
QUANTILES = np.array([-1.645, 0, 1.645])
DOMAIN = DomainCard(
    pedestal_pe=tuple(PEDESTAL + PEDESTAL_SPREAD * QUANTILES),
    noise_pe=tuple(NOISE + NOISE_SPREAD * QUANTILES),
    missing_pixels=(0.0, 0.0, 0.01),
    peak_time_spread_ns=(9.0, 10.0, 11.0),
    intensity_pe=(60.0, 200.0, 3000.0),
    energy_tev=(0.02, 10.0),
    pointings_deg=((70.0, 180.0), (60.0, 0.0)),
)


class Network:
    """What is read of a network's card."""

    def __init__(self, domain=DOMAIN, **card):
        self.domain, self.input = domain, InputCard(**card)


def images(rng, n=1000, pedestal=0.0, gain=1.0, missing=0.0):
    """Background of images like those of the training, or of another pedestal."""
    light = rng.exponential(0.02, n)  # of showers, outside the mask
    return Background(
        gain * (rng.normal(PEDESTAL, PEDESTAL_SPREAD, n) + light) + pedestal,
        gain * (rng.normal(NOISE, NOISE_SPREAD, n) + light),
        np.full(n, missing),
    )


def adds_to(counts):
    return lambda name, n: counts.update({name: n})


def watch_run(network, background, at_once=1):
    """Watch images, one by one as in an event loop; return the texts and counts."""
    texts, counts = [], Counter()
    watch = DomainWatch(texts.append, adds_to(counts), {1: "LST"})
    for start in range(0, len(background.missing), at_once):
        part = Background(*(v[start : start + at_once] for v in background))
        watch.check_background(1, network, part)
    return texts, counts


PROCESSED = DOMAIN.model_copy(
    update={
        "image_extractors": ("LocalPeakWindowSum", "GlobalPeakWindowSum"),
        "image_cleaners": ("TailcutsImageCleaner",),
    }
)


@pytest.mark.parametrize(
    ("domain", "used", "causes"),
    [
        (PROCESSED, {}, []),
        (PROCESSED, {"image extractor": "GlobalPeakWindowSum"}, []),
        (DOMAIN, {"image extractor": "FixedWindowSum"}, []),
        (PROCESSED, {"image extractor": "FixedWindowSum"}, ["image extractor"]),
        (
            PROCESSED,
            {"image extractor": "NeighborPeakWindowSum", "image cleaner": "Mine"},
            ["image extractor", "image cleaner"],
        ),
    ],
)
def test_another_extractor_or_cleaner_is_found(domain, used, causes):
    found = find_other_processing(domain, used)
    assert [cause for cause, _ in found] == causes
    for cause, text in found:
        assert f"its {cause} is {used[cause]}" in text


def test_processing_is_told_once_for_each_telescope_type():
    texts = []
    watch = DomainWatch(texts.append, lambda *_: None, {1: "LST", 2: "LST", 3: "MST"})
    for tel_id in (1, 1, 2, 3):
        watch.check_processing(
            tel_id, Network(PROCESSED), lambda _: {"image extractor": "FixedWindowSum"}
        )
    assert [text.split(" is outside")[0] for text in texts] == [
        "telescope 1 (the first of 2 of type LST; the others are not named)",
        "telescope 3",
    ]
    assert (
        "LocalPeakWindowSum or GlobalPeakWindowSum. Set CameraCalibrator." in texts[0]
    )
    assert watch.describe() == [
        "image extractor: 2 of 2 telescopes of type LST (1, 2)",
        "image extractor: 1 of 1 telescopes of type MST (3)",
    ]


def test_an_array_does_not_repeat_what_is_true_of_a_type():
    """4 LSTs and 25 MSTs: one warning for each type and cause."""
    network_of = {tel_id: "LST" if tel_id < 5 else "MST" for tel_id in range(1, 30)}
    texts, counts = [], Counter()
    watch = DomainWatch(texts.append, adds_to(counts), network_of)
    rng = np.random.default_rng(5)
    for tel_id in network_of:
        pedestal = 1.0 if tel_id < 29 else 0.0
        watch.check_background(tel_id, Network(), images(rng, 20, pedestal))
        watch.check_pointing(tel_id, Network(), np.full(20, 30.0))
    assert [text.split(" is outside")[0] for text in texts] == [
        "telescope 1 (the first of 4 of type LST; the others are not named)",
    ] * 2 + ["telescope 5 (the first of 25 of type MST; the others are not named)"] * 2
    assert counts[BACKGROUND_OUTSIDE] == 28 * 20
    assert any(
        text.startswith("pedestal: 24 of 25 telescopes of type MST (5, 6,")
        for text in watch.describe()
    )


def test_images_like_those_of_the_training_are_not_outside():
    rng = np.random.default_rng(0)
    alarms = sum(bool(watch_run(Network(), images(rng))[0]) for _ in range(100))
    assert alarms == 0


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"pedestal": 0.2}, "median charge"),
        ({"pedestal": -0.2}, "median charge"),
        ({"gain": 1.2}, "noise of pixels"),
        ({"gain": 0.8}, "noise of pixels"),
        ({"missing": 0.1}, "10 % of the pixels are missing"),
    ],
)
def test_other_images_are_found_in_each_run(change, cause):
    rng = np.random.default_rng(1)
    for _ in range(20):
        texts, counts = watch_run(Network(), images(rng, **change))
        assert sum(cause in text for text in texts) == 1
        assert len(texts) == len(set(texts)) <= 2
        assert counts[BACKGROUND_OUTSIDE] >= 800


def test_what_the_network_does_not_depend_on_is_not_compared():
    background = images(np.random.default_rng(2), pedestal=1.0)
    assert [d.cause for d in find_departures(Network(), background)] == ["pedestal"]
    assert find_departures(Network(charge_reference="background"), background) == []


def test_a_text_has_both_numbers_and_what_to_do():
    background = images(np.random.default_rng(2), pedestal=0.5)
    ((text, *_), _) = watch_run(Network(), background)
    assert text.startswith("telescope 1 is outside")
    assert "is 2.1" in text
    assert "in training 1.55 to 1.69 p.e." in text
    assert "charge_reference=background" in text


@pytest.mark.parametrize("n", [9, 10, 19, 20, 25, 30])
def test_the_last_images_are_compared_or_counted_as_not_compared(n):
    background = images(np.random.default_rng(2), n=n, pedestal=2.0)
    texts, counts = watch_run(Network(), background)
    assert len(texts) == (n >= 10)
    assert counts[BACKGROUND_OUTSIDE] == n - n % 10
    assert counts[BACKGROUND_NOT_COMPARED] == n % 10


def test_images_of_files_are_not_mixed():
    """Few good images of one file do not hide those of the next."""
    rng = np.random.default_rng(3)
    texts, counts = [], Counter()
    watch = DomainWatch(texts.append, adds_to(counts), {1: "LST"})
    watch.check_background(1, Network(), images(rng, 19), "first")
    watch.check_background(1, Network(), images(rng, 11, pedestal=2.0), "second")
    (text,) = texts
    assert text.startswith("second: telescope 1 is outside")
    assert "in 10 images" in text
    assert counts == {BACKGROUND_OUTSIDE: 10, BACKGROUND_NOT_COMPARED: 10}


@pytest.mark.parametrize("at_once", [1, 7, 20, 333, 1000])
def test_it_does_not_matter_how_many_images_come_at_once(at_once):
    """A pedestal that changes in the middle of a run is found, and counted."""
    rng = np.random.default_rng(4)
    good, bad = images(rng, n=560), images(rng, n=447, pedestal=1.0)
    both = Background(*map(np.concatenate, zip(good, bad, strict=True)))
    texts, counts = watch_run(Network(), both, at_once)
    assert len(texts) == 1
    assert counts[BACKGROUND_OUTSIDE] == 440
    assert counts[BACKGROUND_NOT_COMPARED] == 7


def test_images_without_any_background_are_outside():
    nothing = Background(np.full(60, np.nan), np.full(60, np.nan), np.ones(60))
    causes = [departure.cause for departure in find_departures(Network(), nothing)]
    assert causes == ["noise", "missing pixels"]


def test_zero_suppressed_images_are_called_so():
    nothing = Background(np.zeros(60), np.zeros(60), np.zeros(60))
    network = Network(charge_reference="background", charge_unit="noise")
    (departure,) = find_departures(network, nothing)
    assert "zero-suppressed" in departure.text


@pytest.mark.parametrize(
    ("card", "advice"),
    [({}, "Augmentation.gain or"), ({"charge_unit": "noise"}, "gain would not matter")],
)
def test_the_advice_on_noise_is_for_the_network(card, advice):
    background = images(np.random.default_rng(2), gain=1.3)
    texts = [d.text for d in find_departures(Network(**card), background)]
    assert advice in texts[-1]


def test_altitudes_within_5_deg_of_one_in_training_are_inside():
    altitude = np.array([76.0, 75.0, 70.0, 64.9, 60.0, 55.0, 54.0, 40.0, np.nan])
    inside = [False, True, True, True, True, True, False, False, True]
    assert is_pointing_inside(np.array([60.0, 70.0]), altitude).tolist() == inside
    assert is_pointing_inside(np.array([]), altitude).all()


def test_another_altitude_is_reported_once_and_counted():
    texts, counts = [], []
    watch = DomainWatch(texts.append, lambda *count: counts.append(count), {3: "LST"})
    for altitude in (70.0, 50.0, 50.0):
        watch.check_pointing(3, Network(), np.array([altitude]))
    assert counts == [(POINTING_OUTSIDE, 1)] * 2
    (text,) = texts
    assert "telescope 3" in text
    assert "50.0 deg, the nearest in training is 60.0 deg" in text


def test_a_card_shows_its_domain(make_model, toy_subarray):
    card = make_model(toy_subarray.tel[1]).card
    assert "domain: not recorded" in format_card(card)
    network = card.networks[0].model_copy(update={"domain": DOMAIN})
    text = format_card(card.model_copy(update={"networks": (network,)}))
    assert "not recorded" not in text
    assert "altitudes / deg: 60.0, 70.0" in text
    assert "energies of gammas / TeV: 0.02, 10.0" in text
