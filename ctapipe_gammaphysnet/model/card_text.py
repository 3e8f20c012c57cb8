"""A model card as readable text."""

import math

from ..terminal import without_commands
from .card import is_complete

__all__ = ["format_card", "incomplete_members"]

_MAX_LISTED_VALUES = 12
_MISSING_PIXELS = {
    "zero": "zero: where charge or peak time is missing, both are 0",
    "separate": "separate: a missing charge is 0, a missing peak time -20 ns",
}
# No sentence is longer, but lists of numbers in base64 are.
_MAX_LISTED_CHARACTERS = 2000


def incomplete_members(card):
    """Describe the members of a model that are not fully trained.

    Parameters
    ----------
    card : ModelCard
        The model's card.

    Returns
    -------
    str
        A sentence for a warning; empty if all are complete.
    """
    seeds = {
        network.telescope.type: [m.seed for m in network.members if not is_complete(m)]
        for network in card.networks
    }
    found = "; ".join(
        f"{without_commands(telescope)}, seed {', '.join(map(str, numbers))}"
        for telescope, numbers in seeds.items()
        if numbers
    )
    return found and (
        f"its training was interrupted, these members are not complete: {found}. "
        "Continue with 'ctapipe-train-gammaphysnet --resume'"
    )


def _scalar(value):
    text = "not given" if value is None else str(value)
    if len(text) > _MAX_LISTED_CHARACTERS:
        text = f"{text[:40]}... ({len(text)} characters)"
    return text


def _is_nested(value):
    return isinstance(value, dict | list) and len(value) > 0


def _tree(key, value, indent):
    """Yield the lines of a nested JSON value; long lists are cut."""
    start = f"{'  ' * indent}{key}:"
    if isinstance(value, list) and not any(map(_is_nested, value)):
        shown = ", ".join(map(_scalar, value[:_MAX_LISTED_VALUES]))
        cut = f", ... ({len(value)} values)" if len(value) > _MAX_LISTED_VALUES else ""
        yield f"{start} {shown or 'none'}{cut}"
    elif not isinstance(value, dict | list):
        yield f"{start} {_scalar(value)}"
    elif not value:
        yield f"{start} none"
    else:
        yield start
        items = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for name, item in items:
            yield from _tree(name, item, indent + 1)


def _summary(network):
    """Nested summary of a `NetworkCard`, without the lists of its pixels."""
    camera, optics = network.telescope.camera, network.telescope.optics
    return {
        "optics": {
            "name": optics.name,
            "equivalent focal length / m": optics.equivalent_focal_length_m,
            "effective focal length / m": optics.effective_focal_length_m,
            "mirror area / m²": optics.mirror_area_m2,
            "mirrors": optics.n_mirrors,
        },
        "camera": {
            "name": camera.name,
            "pixels": f"{len(camera.pix_x_m)}, {camera.pix_type}",
            "pixel rotation / deg": camera.pix_rotation_deg,
            "camera rotation / deg": camera.cam_rotation_deg,
            "geometry": camera.geometry_sha256[:12],
        },
        "architecture": network.network.model_dump(mode="json"),
        **_field(network.geomagnetic_field_ut),
        "input": network.input.model_dump()
        | {"missing_pixels": _MISSING_PIXELS[network.input.missing_pixels]},
        "targets": network.targets,
        "domain": _domain(network.domain),
        "training": network.training,
        "parent": _parent(network.parent),
        "members": {
            f"seed {member.seed}": member.training
            | (_calibration(member.calibration) if network.network.errors else {})
            for member in network.members
        },
    }


def _calibration(calibration):
    """Calibration of a member that predicts errors."""
    found = {
        f"68.27 % of {task} within scales of": [
            f"{math.exp(log_radius):.3g}" for log_radius in curve.log_radius
        ]
        for task, curve in calibration.errors.items()
    }
    for task, offset in calibration.offsets.items():
        found[f"offset of {task}"] = [f"{component:.3g}" for component in offset]
    if calibration.axis is not None:
        found["error of the image's axis / rad"] = [
            f"{math.exp(value):.3g}" for value in calibration.axis.log_angle
        ]
    if calibration.log_odds is not None:
        slope, offset = calibration.log_odds
        found["log odds of gammaness"] = f"times {slope:.3g}, plus {offset:.3g}"
    return {"calibration": found or "none: errors as of a Laplace distribution"}


def _field(field_ut):
    if field_ut is None:
        return {}
    return {"geomagnetic field / µT (north, west, up)": list(field_ut)}


def _domain(domain):
    if domain is None:
        return "not recorded: data are not compared with the training's conditions"
    quantiles = "5 %, median, 95 %"
    return {
        f"pedestal / p.e. ({quantiles})": list(domain.pedestal_pe),
        f"noise / p.e. ({quantiles})": list(domain.noise_pe),
        f"missing pixels ({quantiles})": list(domain.missing_pixels),
        f"spread of peak times / ns ({quantiles})": list(domain.peak_time_spread_ns),
        f"intensity / p.e. ({quantiles})": list(domain.intensity_pe),
        "energies of gammas / TeV": list(domain.energy_tev),
        "altitudes / deg": sorted({altitude for altitude, _ in domain.pointings_deg}),
        "azimuths / deg": sorted({azimuth for _, azimuth in domain.pointings_deg}),
        "image extractors": list(domain.image_extractors) or "not known",
        "image cleaners": list(domain.image_cleaners) or "not known",
    }


def _parent(parent):
    if parent is None:
        return "none: the training began with random weights"
    showers = parent.showers.showers if parent.showers else 0
    return {
        "telescope": parent.type,
        "model file (SHA-256)": parent.sha256,
        "model files before it (SHA-256)": list(parent.before),
        "created": parent.created,
        "note": " ".join(parent.note.split()) or None,
        "seeds": list(parent.seeds),
        "showers seen in training": f"at least {showers}"
        if parent.knows_all_showers
        else f"at least {showers}, others are not known",
        "domain": _domain(parent.domain),
    }


def format_card(card):
    """Describe a model in readable text.

    Parameters
    ----------
    card : ModelCard
        The card.

    Returns
    -------
    str
        Lines of text. Long lists are cut, pixel lists are left out, and characters
        that a terminal could interpret as commands are replaced.
    """
    lines = [f"Model of {card.format}, format {card.format_version}"]
    lines += _tree("note", " ".join(card.note.split()) or None, 0)
    lines += _tree("created", card.created, 0)
    lines += _tree("software", card.software, 0)
    for network in card.networks:
        lines += _tree(f"telescope {network.telescope.type}", _summary(network), 0)
    return "\n".join(map(without_commands, lines))
