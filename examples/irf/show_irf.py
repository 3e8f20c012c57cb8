"""Print a file of instrument response functions, as gammapy reads it.

python show_irf.py irf.fits.gz
"""

import argparse
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable
from gammapy.irf import load_irf_dict_from_file


def describe(path, offset):
    """Tabulate the response at the centres of its energy bins.

    Parameters
    ----------
    path : pathlib.Path
        File written by ctapipe-compute-irf.
    offset : astropy.units.Quantity
        Angle from the centre of the field of view.

    Returns
    -------
    astropy.table.QTable
        True energy, effective area, 68 % containment of the point spread function,
        median and half the 68 % interval of the energy dispersion; NaN where there was
        no event.
    """
    irf = load_irf_dict_from_file(path)
    energy = irf["aeff"].axes["energy_true"].center
    table = QTable({"energy": energy})
    table["effective area"] = irf["aeff"].evaluate(energy_true=energy, offset=offset)
    table["psf 68 %"] = irf["psf"].containment_radius(
        fraction=0.68, energy_true=energy, offset=offset
    )
    table["psf 68 %"][table["effective area"] == 0] = np.nan
    migra = irf["edisp"].axes["migra"]
    low, median, high = (
        [_quantile(irf["edisp"], migra, e, offset, q) for e in energy]
        for q in (0.16, 0.5, 0.84)
    )
    table["energy bias"] = np.array(median) - 1
    table["energy resolution"] = (np.array(high) - np.array(low)) / 2
    return table


def _quantile(edisp, migra, energy, offset, share):
    """E_reco / E_true below which a given share of the events lies."""
    density = edisp.evaluate(
        energy_true=energy, offset=offset, migra=migra.center
    ).to_value("")
    cumulative = np.append(0, np.cumsum(density * migra.bin_width.to_value("")))
    if not cumulative[-1] > 0:
        return np.nan
    return np.interp(share, cumulative / cumulative[-1], migra.edges.to_value(""))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="such as irf.fits.gz")
    parser.add_argument("--offset", type=u.Quantity, default=0.6 * u.deg)
    args = parser.parse_args()
    table = describe(args.path, args.offset)
    table["effective area"] = table["effective area"].to("m2")
    for name in table.colnames:
        table[name].info.format = ".3g"
    print(f"{args.path}, {args.offset} from the centre of the field of view")
    print(*table.pformat(max_lines=-1, max_width=-1), sep="\n")


if __name__ == "__main__":
    main()
