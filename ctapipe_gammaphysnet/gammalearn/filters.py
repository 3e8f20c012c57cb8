"""Images and events that gammalearn left out of a training.

Its settings name filters, functions with options. A model does not hold them, and this
package never applies them: a warning says which cuts of ours are the same.
"""

import re

__all__ = ["describe_filters"]

_LEAKAGE = {
    "leakage1_cut": "leakage_intensity_width_1",
    "leakage2_cut": "leakage_intensity_width_2",
}


def describe_filters(filters: dict[str, object]) -> list[str]:
    """Describe the filters of a training, and which criteria are the same.

    Parameters
    ----------
    filters : dict of str to object
        For each kind of filter, as the settings call it, its filters: options by name,
        or the text of an expression.

    Returns
    -------
    list of str
        A warning, none if there are no filters.
    """
    if not any(filters.values()):
        return []
    named, criteria, others = [], {}, []
    for kind, values in filters.items():
        if isinstance(values, dict):
            named += [f"{kind}: {name} {options}" for name, options in values.items()]
        elif values:
            named.append(f"{kind}: {values}")
            others.append(str(values))
    for name, options in _pairs(filters):
        found = _criteria(name.split(".")[-1], options)
        # Filters of a source come before those of its target.
        criteria = found | criteria
        if not found:
            others.append(name)
    return [_warning(named, criteria, others)]


def _pairs(filters):
    """All filters: their name and options."""
    for values in filters.values():
        if isinstance(values, dict):
            yield from values.items()


def _warning(named, criteria, others):
    text = (
        f"the training left out images or events by filters ({'; '.join(named)}). They "
        "are not part of the model, which predicts for images like those, too."
    )
    if criteria:
        pairs = ", ".join(f'["{n}", "{cut}"]' for n, cut in criteria.items())
        text += (
            f" Apply the same cuts with ImageQualityQuery.quality_criteria: [{pairs}]. "
            "They are the same if images are cleaned as in the training."
        )
    if others:
        text += (
            f" No criterion on image parameters is the same as {', '.join(others)}: "
            "choose criteria that leave out similar images"
        )
    return text.removesuffix(".")


def _criteria(name, options):
    """Criteria by name that are the same as a filter of images, none if unknown."""
    options = options if isinstance(options, dict) else {}
    # Otherwise it is the charge of the whole image, which is not a parameter.
    cleaned = True in (options.get("dl1"), options.get("cleaning"))
    match name:
        case "cleaning_filter":
            return {"signal after cleaning": "morphology_n_pixels > 0"}
        case "intensity_filter" if cleaned:
            return _between("intensity", "hillas_intensity", options.get("intensity"))
        case "leakage_filter":
            cuts = {cut: _number(options.get(cut)) for cut in _LEAKAGE}
            return {
                cut.removesuffix("_cut"): f"{_LEAKAGE[cut]} < {value:g}"
                for cut, value in cuts.items()
                if value is not None
            }
    return {}


def _between(name, parameter, limits):
    if not isinstance(limits, list) or len(limits) != 2:
        return {}
    low, high = map(_number, limits)
    if low is None or high is None:
        return {}
    cuts = {f"minimum {name}": (">", low), f"maximum {name}": ("<", high)}
    return {
        key: f"{parameter} {sign} {value:g}"
        for key, (sign, value) in cuts.items()
        if abs(value) != float("inf")
    }


def _number(value):
    """A number, or the text of one, such as ``np.inf``."""
    try:
        return float(re.sub(r"^(-?)(np|numpy|math)\.", r"\1", str(value)))
    except ValueError:
        return None
