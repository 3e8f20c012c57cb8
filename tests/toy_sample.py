"""
Toy air showers, for tests of the chain.

The images are drawn so that what the network has to learn can be read off them:

- the light comes from a point on the shower axis, some 8 km up along the axis, as
  seen from each telescope. The image therefore lies away from the source direction
  by an angle that grows with the impact distance, and its major axis points back to
  the source;
- its length and its time gradient grow with the impact distance, and the later end is
  the one away from the source;
- its charge is proportional to the energy and falls with the impact distance;
- a gamma is one narrow ellipse, a proton is several blobs beside the axis, and it
  needs three times the energy for the same light.

A short YAML card (``*.toy.yaml``, see `ToyCard`) describes a sample and
`ToyShowerSource` reads it, so that once this module is imported every ctapipe tool can
process toy showers as it does simulated ones. `write_toy_file` does so with
``ctapipe-process``.
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import tables
import yaml
from astropy.coordinates import AltAz, EarthLocation
from astropy.coordinates.matrix_utilities import rotation_matrix
from astropy.table import Table
from astropy.time import Time
from ctapipe.containers import (
    ArrayEventContainer,
    CoordinateFrameType,
    DL1CameraContainer,
    EventIndexContainer,
    EventType,
    ObservationBlockContainer,
    ObservationBlockState,
    PointingMode,
    SchedulingBlockContainer,
    SchedulingBlockType,
    SimulatedCameraContainer,
    SimulatedEventContainer,
    SimulatedShowerContainer,
    SimulationConfigContainer,
    TelescopeImpactParameterContainer,
    TelescopePointingContainer,
    TelescopeTriggerContainer,
    TriggerContainer,
)
from ctapipe.coordinates import (
    CameraFrame,
    TelescopeFrame,
    altaz_to_righthanded_cartesian,
    impact_distance,
)
from ctapipe.core import run_tool
from ctapipe.instrument import (
    CameraDescription,
    CameraGeometry,
    CameraReadout,
    OpticsDescription,
    SubarrayDescription,
    TelescopeDescription,
)
from ctapipe.instrument.optics import ReflectorShape
from ctapipe.io import DataLevel, EventSource
from ctapipe.tools.process import ProcessorTool
from scipy.spatial import KDTree

LSTCAM = (
    Path(__file__).absolute().parents[1]
    / "ctapipe_gammaphysnet/simulation/data/LSTCam.camgeom.fits.gz"
)

#: Ground frame positions of the four LSTs of CTAO-North, in metres.
LST_POSITIONS = (
    (-70.93, -52.07, 43.0),
    (-35.27, 66.14, 32.0),
    (75.28, 50.49, 28.7),
    (30.91, -64.54, 32.0),
)
LST_FOCAL_LENGTH = 28.0 * u.m
LST_EFFECTIVE_FOCAL_LENGTH = 29.30565 * u.m
LA_PALMA = EarthLocation.from_geodetic(
    lon=-17.892 * u.deg, lat=28.762 * u.deg, height=2147 * u.m
)
START = Time("2024-01-01T00:00:00", scale="tai")

GAMMA_ID, PROTON_ID = 0, 101
#: Ratio of a proton's energy to that of the gamma that gives the same light.
PROTON_ENERGY_FACTOR = 3.0

MAX_CORE_DISTANCE = 150.0 * u.m
#: Distance along the axis from the core to where the light comes from, in metres, and
#: its relative spread.
LIGHT_DISTANCE_M = 8000.0
LIGHT_DISTANCE_SPREAD = 0.05
#: Photoelectrons that a gamma of 1 TeV gives right under the shower, and the impact
#: distance over which they fall by a factor e.
LIGHT_YIELD = 5000.0
LIGHT_RADIUS_M = 150.0
TRIGGER_CHARGE = 100
NOISE_PE = 1.5

READOUT_SAMPLES = 40
TIME_OF_MAXIMUM_NS = 20.0
#: Time gradient per impact distance, in ns / deg / m.
TIME_GRADIENT_SLOPE = 0.05


def hexagonal_camera(
    n_rings: int = 5,
    pitch: u.Quantity = 0.216 * u.m,
    name: str = "ToyCam",
    rotation: u.Quantity = 0 * u.deg,
) -> CameraGeometry:
    """
    Build a hexagonal camera of hexagonal pixels.

    Five rings at the default pitch and at the focal length of an LST see as much sky as
    its camera, 4.4 degrees across, in 91 pixels instead of 1855.

    Parameters
    ----------
    n_rings : int
        Number of rings of pixels around the central one.
    pitch : Quantity[length]
        Distance between the centres of neighbouring pixels.
    name : str
        Name of the camera; two different cameras need two names.
    rotation : Quantity[angle]
        Angle by which the lattice is turned; at 0 rows lie along x.

    Returns
    -------
    CameraGeometry
        The camera, ``3 n_rings (n_rings + 1) + 1`` pixels, not yet in a frame.
    """
    steps = np.arange(-n_rings, n_rings + 1)
    q, r = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = np.abs(q + r) <= n_rings
    q, r = q[inside], r[inside]
    x, y = q + r / 2, r * np.sqrt(3) / 2
    angle = rotation.to_value(u.rad)
    n_pixels = len(q)
    return CameraGeometry(
        name=name,
        pix_id=np.arange(n_pixels),
        pix_x=(x * np.cos(angle) - y * np.sin(angle)) * pitch,
        pix_y=(x * np.sin(angle) + y * np.cos(angle)) * pitch,
        pix_area=np.full(n_pixels, np.sqrt(3) / 2) * pitch**2,
        pix_type="hexagon",
        pix_rotation=rotation,
        cam_rotation=0 * u.deg,
    )


def toy_telescope(
    geometry: CameraGeometry,
    focal_length: u.Quantity = LST_FOCAL_LENGTH,
    effective_focal_length: u.Quantity | None = None,
    name: str = "LST",
    size_type: str = "LST",
) -> TelescopeDescription:
    """
    Put a camera on a telescope with the mirror of an LST.

    Parameters
    ----------
    geometry : CameraGeometry
        The camera, in metres; not modified.
    focal_length : Quantity[length]
        Equivalent focal length.
    effective_focal_length : Quantity[length] or None
        Effective focal length, which gives the plate scale; None: the same.
    name : str
        Name of the telescope and of its optics.
    size_type : str
        Class of the telescope: ``"LST"``, ``"MST"`` or ``"SST"``.

    Returns
    -------
    TelescopeDescription
        The telescope, its camera in the CameraFrame of the effective focal length.
    """
    if effective_focal_length is None:
        effective_focal_length = focal_length
    geometry = copy.copy(geometry)
    geometry.frame = CameraFrame(
        focal_length=effective_focal_length, rotation=geometry.cam_rotation
    )
    # One narrow pulse: images start at DL1 here, waveforms are never made.
    readout = CameraReadout(
        name=geometry.name,
        sampling_rate=1 * u.GHz,
        reference_pulse_shape=np.array([[0.0, 0.5, 1.0, 0.5, 0.0]]),
        reference_pulse_sample_width=1 * u.ns,
        n_channels=1,
        n_pixels=geometry.n_pixels,
        n_samples=READOUT_SAMPLES,
    )
    optics = OpticsDescription(
        name=name,
        size_type=size_type,
        n_mirrors=1,
        equivalent_focal_length=focal_length,
        effective_focal_length=effective_focal_length,
        mirror_area=386 * u.m**2,
        n_mirror_tiles=198,
        reflector_shape=ReflectorShape.PARABOLIC,
    )
    camera = CameraDescription(name=geometry.name, geometry=geometry, readout=readout)
    return TelescopeDescription(name=name, optics=optics, camera=camera)


def toy_subarray(
    telescopes: Sequence[tuple[TelescopeDescription, Sequence[float]]] | None = None,
) -> SubarrayDescription:
    """
    Build an array on La Palma.

    Parameters
    ----------
    telescopes : sequence of (TelescopeDescription, (x, y, z)) or None
        The telescopes and their ground frame positions in metres, numbered from 1;
        None: the four LSTs of CTAO-North.

    Returns
    -------
    SubarrayDescription
        The array.
    """
    if telescopes is None:
        lst = toy_telescope(
            CameraGeometry.from_table(Table.read(LSTCAM)),
            effective_focal_length=LST_EFFECTIVE_FOCAL_LENGTH,
        )
        telescopes = [(lst, position) for position in LST_POSITIONS]
    return SubarrayDescription(
        name="toy",
        tel_positions={
            tel_id: np.asarray(position, dtype=float) * u.m
            for tel_id, (_, position) in enumerate(telescopes, start=1)
        },
        tel_descriptions={
            tel_id: telescope
            for tel_id, (telescope, _) in enumerate(telescopes, start=1)
        },
        reference_location=LA_PALMA,
    )


def small_array(
    n_rings: int = 5,
    name: str = "ToyCam",
    rotation: float = 0.0,
    positions: Sequence[Sequence[float]] = LST_POSITIONS,
) -> list[dict]:
    """
    Describe telescopes with small cameras for the ``array`` of a `ToyCard`.

    Parameters
    ----------
    n_rings : int
        Rings of pixels of each camera; the pitch is such that it sees as much sky as
        LSTCam.
    name : str
        Name of the cameras.
    rotation : float
        Rotation of their lattices, in degrees.
    positions : sequence of (x, y, z)
        Ground frame positions in metres, one telescope each.

    Returns
    -------
    list of dict
        One entry per telescope; lists of several cameras may be joined.
    """
    pitch = 2.06 / np.sqrt(3 * n_rings * (n_rings + 1) + 1)
    camera = {
        "n_rings": n_rings,
        "pitch": float(pitch),
        "name": name,
        "rotation": rotation,
    }
    return [camera | {"position": [float(x) for x in pos]} for pos in positions]


@dataclass(frozen=True)
class ToyCard:
    """
    What a sample of toy showers consists of.

    Parameters
    ----------
    particle : str
        ``"gamma"``, ``"proton"`` or ``"mixed"``, half of each.
    n_events : int
        Number of showers that trigger at least one telescope.
    seed : int
        Seed of the random numbers; the same card gives the same showers.
    obs_id : int
        Number of the observation.
    altitude, azimuth : float
        Pointing of all telescopes, in degrees.
    spread : float
        Largest offset of a shower from the pointing, in degrees; directions fill that
        circle uniformly.
    min_energy, max_energy : float
        Energy range of gammas in TeV, filled uniformly in the logarithm; protons have
        three times the energy.
    array : str or list of dict
        ``"lst"``, or telescopes as given by `small_array`.
    """

    particle: str = "gamma"
    n_events: int = 100
    seed: int = 0
    obs_id: int = 1
    altitude: float = 70.0
    azimuth: float = 180.0
    spread: float = 1.5
    min_energy: float = 0.03
    max_energy: float = 10.0
    array: str | list[dict] = "lst"

    def __post_init__(self):
        if self.particle not in {"gamma", "proton", "mixed"}:
            raise ValueError(
                f"particle must be gamma, proton or mixed, not {self.particle!r}"
            )

    @classmethod
    def read(cls, path: Path) -> "ToyCard":
        """
        Read a card.

        Parameters
        ----------
        path : Path
            The YAML file; keys that it lacks take their defaults.

        Returns
        -------
        ToyCard
            The card.
        """
        return cls(**yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})

    def write(self, path: Path) -> None:
        """
        Write the card.

        Parameters
        ----------
        path : Path
            The YAML file; `ToyShowerSource` wants it to end in ``.toy.yaml``.
        """
        Path(path).write_text(yaml.safe_dump(asdict(self)), encoding="utf-8")

    def subarray(self) -> SubarrayDescription:
        """
        Build the array.

        Returns
        -------
        SubarrayDescription
            The telescopes named by ``array``.
        """
        if self.array == "lst":
            return toy_subarray()
        return toy_subarray(
            [
                (
                    toy_telescope(
                        hexagonal_camera(
                            n_rings=entry["n_rings"],
                            pitch=entry["pitch"] * u.m,
                            name=entry["name"],
                            rotation=entry["rotation"] * u.deg,
                        )
                    ),
                    entry["position"],
                )
                for entry in self.array
            ]
        )

    def pointing(self) -> AltAz:
        """
        Give the common pointing of the telescopes.

        Returns
        -------
        AltAz
            The direction.
        """
        return AltAz(alt=self.altitude * u.deg, az=self.azimuth * u.deg)

    def energy_range(self) -> tuple[u.Quantity, u.Quantity]:
        """
        Give the range of the true energies, all particles together.

        Returns
        -------
        tuple of Quantity[energy]
            Lowest and highest energy.
        """
        low = PROTON_ENERGY_FACTOR if self.particle == "proton" else 1
        high = 1 if self.particle == "gamma" else PROTON_ENERGY_FACTOR
        return self.min_energy * low * u.TeV, self.max_energy * high * u.TeV


class PixelGrid:
    """
    The pixels of a camera in the sky, to sort photons into them.

    Parameters
    ----------
    geometry : CameraGeometry
        The camera, in its CameraFrame.
    """

    def __init__(self, geometry: CameraGeometry):
        on_sky = geometry.transform_to(TelescopeFrame())
        self.centers = np.column_stack(
            [on_sky.pix_x.to_value(u.deg), on_sky.pix_y.to_value(u.deg)]
        )
        # The cells nearest to the centres of a hexagonal lattice are its pixels,
        # except at the border, where they have to be cut at the pixel's corner.
        self._corner = on_sky.pixel_width.to_value(u.deg).max() / np.sqrt(3)
        self._tree = KDTree(self.centers)

    def count(self, positions: np.ndarray) -> np.ndarray:
        """
        Count photons per pixel.

        Parameters
        ----------
        positions : ndarray of float, shape (n_photons, 2)
            TelescopeFrame longitude and latitude in degrees.

        Returns
        -------
        ndarray of int32, shape (n_pixels,)
            Photons in each pixel; those beside the camera are lost.
        """
        n_pixels = len(self.centers)
        # The tree answers n_pixels where no centre is near enough.
        _, pixel = self._tree.query(positions, distance_upper_bound=self._corner)
        return np.bincount(pixel, minlength=n_pixels + 1)[:n_pixels].astype(np.int32)


def view_rotation(pointing: AltAz) -> np.ndarray:
    """
    Give the rotation into the field of view.

    For one direction at a time, astropy's frames are slow.

    Parameters
    ----------
    pointing : AltAz
        Pointing of the telescopes.

    Returns
    -------
    ndarray of float, shape (3, 3)
        Turns a unit vector of the AltAz frame into one of the TelescopeFrame.
    """
    return rotation_matrix(-pointing.alt, "y") @ rotation_matrix(pointing.az, "z")


def to_vector(lon: float, lat: float) -> np.ndarray:
    """
    Turn a direction into a unit vector.

    Parameters
    ----------
    lon, lat : float
        Longitude and latitude in radians.

    Returns
    -------
    ndarray of float, shape (3,)
        The vector.
    """
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def to_lon_lat(vectors: np.ndarray) -> np.ndarray:
    """
    Turn unit vectors into directions.

    Parameters
    ----------
    vectors : ndarray of float, shape (..., 3)
        The vectors.

    Returns
    -------
    ndarray of float, shape (..., 2)
        Longitudes, from -180 to 180, and latitudes in degrees.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.rad2deg(np.stack([np.arctan2(y, x), np.arcsin(z)], axis=-1))


def draw_shower(
    rng: np.random.Generator, card: ToyCard, to_view: np.ndarray
) -> SimulatedShowerContainer:
    """
    Draw what is true of a shower.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    card : ToyCard
        The sample.
    to_view : ndarray of float, shape (3, 3)
        `view_rotation` of the card's pointing.

    Returns
    -------
    SimulatedShowerContainer
        Particle, energy, direction, and the core position in the ground frame.
    """
    is_proton = {"gamma": False, "proton": True, "mixed": rng.random() < 0.5}[
        card.particle
    ]
    log_energy = rng.uniform(np.log(card.min_energy), np.log(card.max_energy))
    energy = np.exp(log_energy) * (PROTON_ENERGY_FACTOR if is_proton else 1)
    radius, core_radius = np.sqrt(rng.random(2)) * [card.spread, 1]
    angle, core_angle = rng.uniform(0, 2 * np.pi, 2)
    offset = np.deg2rad(radius) * np.array([np.cos(angle), np.sin(angle)])
    az, alt = to_lon_lat(to_vector(*offset) @ to_view)
    return SimulatedShowerContainer(
        energy=energy * u.TeV,
        alt=alt * u.deg,
        az=az % 360 * u.deg,
        core_x=core_radius * np.cos(core_angle) * MAX_CORE_DISTANCE,
        core_y=core_radius * np.sin(core_angle) * MAX_CORE_DISTANCE,
        h_first_int=rng.uniform(15, 35) * u.km.to(u.m) * u.m,
        x_max=(300 + 40 * np.log(energy)) * u.g / u.cm**2,
        starting_grammage=0 * u.g / u.cm**2,
        shower_primary_id=PROTON_ID if is_proton else GAMMA_ID,
    )


def light_positions(
    core: np.ndarray,
    axis: np.ndarray,
    light_distance: float,
    telescopes: np.ndarray,
    to_view: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find where in the field of view the source and the light of a shower are.

    Parameters
    ----------
    core, axis : ndarray of float, shape (3,)
        Core position in metres, and unit vector to the source, in the ground frame.
    light_distance : float
        Distance along the axis from the core to the point that shines, in metres.
    telescopes : ndarray of float, shape (n_tels, 3)
        Ground frame positions of the telescopes in metres.
    to_view : ndarray of float, shape (3, 3)
        `view_rotation` of their pointing.

    Returns
    -------
    source : ndarray of float, shape (2,)
        TelescopeFrame longitude and latitude of the source in degrees.
    light : ndarray of float, shape (n_tels, 2)
        The same of the point that shines, as seen from each telescope.
    """
    to_light = core + light_distance * axis - telescopes
    lines = np.vstack([axis, to_light / np.linalg.norm(to_light, axis=1)[:, None]])
    # The ground frame's y points west, azimuth is counted from north over east.
    positions = to_lon_lat(lines * [1, -1, 1] @ to_view.T)
    return positions[0], positions[1:]


def _draw_photons(
    rng: np.random.Generator, n_photons: int, length: float, is_proton: bool
) -> np.ndarray:
    """
    Draw where the photons of an image are, along and across its axis, in degrees.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    n_photons : int
        Number of photons.
    length : float
        Length of a gamma's image (standard deviation) in degrees.
    is_proton : bool
        Whether the image is made of blobs beside the axis.

    Returns
    -------
    ndarray of float, shape (n_photons, 2)
        Offsets from the point that shines.
    """
    offsets = rng.normal(size=(n_photons, 2))
    if not is_proton:
        return offsets * [length, rng.uniform(0.06, 0.1)]
    n_blobs = rng.integers(2, 5)
    blob = rng.choice(n_blobs, size=n_photons, p=rng.dirichlet(np.full(n_blobs, 2)))
    centers = rng.normal(scale=[length, 0.2], size=(n_blobs, 2))
    widths = rng.uniform(0.1, 0.2, size=(n_blobs, 2))
    return centers[blob] + offsets * widths[blob]


def draw_image(
    rng: np.random.Generator,
    shower: SimulatedShowerContainer,
    pixels: PixelGrid,
    source: np.ndarray,
    light: np.ndarray,
    impact: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Draw the image that a telescope takes of a shower.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    shower : SimulatedShowerContainer
        The shower.
    pixels : PixelGrid
        The telescope's camera.
    source, light : ndarray of float, shape (2,)
        TelescopeFrame longitude and latitude in degrees of the source and of the point
        that shines.
    impact : float
        Distance from the telescope to the shower axis in metres.

    Returns
    -------
    true_image : ndarray of int32, shape (n_pixels,)
        Photoelectrons of the shower.
    image : ndarray of float32, shape (n_pixels,)
        Charge in photoelectrons: the same with noise.
    peak_time : ndarray of float32, shape (n_pixels,)
        Arrival times in ns, from 0 to 40; random where there is no light.
    """
    is_proton = shower.shower_primary_id == PROTON_ID
    gamma_energy = shower.energy.to_value(u.TeV) / (
        PROTON_ENERGY_FACTOR if is_proton else 1
    )
    n_photons = rng.poisson(
        LIGHT_YIELD * gamma_energy * np.exp(-impact / LIGHT_RADIUS_M)
    )
    displacement = light - source
    distance = np.hypot(*displacement)
    along = displacement / distance
    axes = np.array([along, [-along[1], along[0]]])
    # Seen from below, along its axis, a shower is round; from beside it is long.
    length = np.hypot(0.12, 0.25 * distance)
    photons = light + _draw_photons(rng, n_photons, length, is_proton) @ axes
    true_image = pixels.count(photons)

    image = true_image + rng.normal(scale=NOISE_PE, size=true_image.shape)
    arrival = TIME_OF_MAXIMUM_NS + TIME_GRADIENT_SLOPE * impact * (
        (pixels.centers - light) @ along
    )
    arrival += rng.normal(size=true_image.shape) / np.sqrt(np.maximum(true_image, 1))
    random_time = rng.uniform(0, READOUT_SAMPLES, size=true_image.shape)
    peak_time = np.where(true_image > 0, arrival, random_time)
    return (
        true_image,
        image.astype(np.float32),
        peak_time.clip(0, READOUT_SAMPLES).astype(np.float32),
    )


class ToyShowerSource(EventSource):
    """
    Read a `ToyCard` as ctapipe reads a file of simulated events.

    A toy: for demonstrating and testing the chain, not for science. Events hold images
    and the truth, as calibrated simulations do.

    Parameters
    ----------
    input_url : str or Path
        The card, ``*.toy.yaml``.
    **kwargs
        As for `ctapipe.io.EventSource`.
    """

    def __init__(self, input_url=None, **kwargs):
        super().__init__(input_url=input_url, **kwargs)
        self.card = ToyCard.read(self.input_url)
        self._array = self.card.subarray()
        self._subarray = self._array
        if self.allowed_tels:
            self._subarray = self._array.select_subarray(self.allowed_tels)
        self._pointing = self.card.pointing()
        self._to_view = view_rotation(self._pointing)
        self._positions = u.Quantity(list(self._array.positions.values())).to_value(u.m)
        cameras = {tel.camera for tel in self._array.tel.values()}
        grids = {camera: PixelGrid(camera.geometry) for camera in cameras}
        self._grids = {
            tel_id: grids[tel.camera] for tel_id, tel in self._array.tel.items()
        }

    @staticmethod
    def is_compatible(file_path) -> bool:
        """
        Tell whether a file is a card, by its name.

        Parameters
        ----------
        file_path : str or Path
            The file.

        Returns
        -------
        bool
            Whether its name ends in ``.toy.yaml``.
        """
        return Path(file_path).name.endswith(".toy.yaml")

    @property
    def subarray(self) -> SubarrayDescription:
        """The telescopes, those of ``allowed_tels`` if it is set."""
        return self._subarray

    @property
    def is_simulation(self) -> bool:
        """True."""
        return True

    @property
    def datalevels(self) -> tuple[DataLevel, ...]:
        """Images, not yet cleaned."""
        return (DataLevel.DL1_IMAGES,)

    @property
    def scheduling_blocks(self) -> dict[int, SchedulingBlockContainer]:
        """The one scheduling block; it has the number of the observation."""
        obs_id = self.card.obs_id
        return {
            obs_id: SchedulingBlockContainer(
                sb_id=np.uint64(obs_id),
                sb_type=SchedulingBlockType.OBSERVATION,
                producer_id="simulation",
                pointing_mode=PointingMode.DRIFT,
            )
        }

    @property
    def observation_blocks(self) -> dict[int, ObservationBlockContainer]:
        """The one observation, with the pointing of the array."""
        obs_id = self.card.obs_id
        return {
            obs_id: ObservationBlockContainer(
                obs_id=np.uint64(obs_id),
                sb_id=np.uint64(obs_id),
                producer_id="simulation",
                state=ObservationBlockState.COMPLETED_SUCCEDED,
                subarray_pointing_lat=self._pointing.alt.to(u.deg),
                subarray_pointing_lon=self._pointing.az.to(u.deg),
                subarray_pointing_frame=CoordinateFrameType.ALTAZ,
                actual_start_time=START,
                scheduled_start_time=START,
            )
        }

    @property
    def simulation_config(self) -> dict[int, SimulationConfigContainer]:
        """How the showers are drawn; ``n_showers`` counts those that trigger."""
        card = self.card
        min_energy, max_energy = card.energy_range()
        return {
            card.obs_id: SimulationConfigContainer(
                run_number=np.int32(card.obs_id),
                energy_range_min=min_energy,
                energy_range_max=max_energy,
                prod_site_alt=LA_PALMA.height.to(u.m),
                spectral_index=-1.0,
                n_showers=card.n_events,
                shower_reuse=1,
                min_alt=self._pointing.alt.to(u.rad),
                max_alt=self._pointing.alt.to(u.rad),
                min_az=self._pointing.az.to(u.rad),
                max_az=self._pointing.az.to(u.rad),
                diffuse=True,
                min_viewcone_radius=0 * u.deg,
                max_viewcone_radius=card.spread * u.deg,
                min_scatter_range=0 * u.m,
                max_scatter_range=MAX_CORE_DISTANCE,
                core_pos_mode=0,
            )
        }

    def _generator(self) -> Iterator[ArrayEventContainer]:
        count = 0
        for event_id in range(1, self.card.n_events + 1):
            event = self._draw_event(event_id)
            # With ``allowed_tels`` there may be no telescope left.
            if event.trigger.tels_with_trigger:
                event.count = count
                count += 1
                yield event

    def _draw_event(self, event_id: int) -> ArrayEventContainer:
        # Each event has its own random numbers, and telescopes that are not allowed
        # are drawn as well: what is selected does not change what is drawn.
        rng = np.random.default_rng([self.card.seed, self.card.obs_id, event_id])
        images = {}
        while not images:
            shower = draw_shower(rng, self.card, self._to_view)
            core = u.Quantity([shower.core_x, shower.core_y, 0 * u.m]).to_value(u.m)
            axis = altaz_to_righthanded_cartesian(alt=shower.alt, az=shower.az)
            impacts = impact_distance(core, axis, self._positions)
            images = self._draw_images(rng, shower, core, axis, impacts)
        images = {t: images[t] for t in images if t in self._subarray.tel}

        event = ArrayEventContainer(
            index=EventIndexContainer(obs_id=self.card.obs_id, event_id=event_id),
            simulation=SimulatedEventContainer(shower=shower),
            trigger=self._trigger(event_id, list(images)),
        )
        self._fill_pointing(event)
        for tel_id, (true_image, image, peak_time) in images.items():
            event.dl1.tel[tel_id] = DL1CameraContainer(image=image, peak_time=peak_time)
            event.simulation.tel[tel_id] = SimulatedCameraContainer(
                true_image_sum=true_image.sum(dtype=np.int32),
                true_image=true_image,
                impact=TelescopeImpactParameterContainer(
                    distance=impacts[self._array.tel_index_array[tel_id]] * u.m,
                    distance_uncert=0 * u.m,
                    prefix="true_impact",
                ),
            )
        return event

    def _draw_images(
        self, rng, shower, core, axis, impacts
    ) -> dict[int, tuple[np.ndarray, ...]]:
        distance = LIGHT_DISTANCE_M * rng.normal(1, LIGHT_DISTANCE_SPREAD)
        source, lights = light_positions(
            core, axis, distance, self._positions, self._to_view
        )
        images = {
            tel_id: draw_image(rng, shower, self._grids[tel_id], source, light, impact)
            for tel_id, light, impact in zip(
                self._array.tel_ids, lights, impacts, strict=True
            )
        }
        return {t: img for t, img in images.items() if img[0].sum() >= TRIGGER_CHARGE}

    def _trigger(self, event_id: int, tel_ids: list[int]) -> TriggerContainer:
        trigger = TriggerContainer(
            event_type=EventType.SUBARRAY,
            time=START + event_id * u.s,
            tels_with_trigger=tel_ids,
        )
        for tel_id in tel_ids:
            trigger.tel[tel_id] = TelescopeTriggerContainer(
                time=trigger.time, event_type=EventType.SUBARRAY
            )
        return trigger

    def _fill_pointing(self, event: ArrayEventContainer) -> None:
        altitude, azimuth = self._pointing.alt.to(u.rad), self._pointing.az.to(u.rad)
        event.monitoring.pointing.array_altitude = altitude
        event.monitoring.pointing.array_azimuth = azimuth
        for tel_id in self._subarray.tel:
            event.monitoring.tel[tel_id].pointing = TelescopePointingContainer(
                altitude=altitude, azimuth=azimuth
            )


def plant_event_types(path: Path) -> np.ndarray:
    """Turn two thirds of a file's events into calibration and muons.

    Return which events are still showers, shape (n_events,), bool.
    """
    others = (EventType.FLATFIELD, EventType.SKY_PEDESTAL, EventType.SUBARRAY)
    others += (EventType.SINGLE_PE, EventType.MUON, EventType.SUBARRAY)
    with tables.open_file(path, "r+") as file:
        trigger = file.root.dl1.event.subarray.trigger
        planted = np.resize([kind.value for kind in others], trigger.nrows)
        trigger.modify_column(column=planted, colname="event_type")
    return planted == EventType.SUBARRAY.value


def write_toy_file(
    path: Path,
    particle: str = "gamma",
    n_events: int = 100,
    seed: int = 0,
    *,
    images: bool = True,
    parameters: bool = True,
    options: Sequence[str] = (),
    **card,
) -> Path:
    """
    Write a file of toy events with ``ctapipe-process``.

    Parameters
    ----------
    path : Path
        The HDF5 file; replaced if it exists.
    particle : str
        ``"gamma"``, ``"proton"`` or ``"mixed"``.
    n_events : int
        Number of showers.
    seed : int
        Seed of the random numbers.
    images, parameters : bool
        Whether to write the images, and the image parameters.
    options : sequence of str
        Further options of ``ctapipe-process``.
    **card
        Further fields of `ToyCard`.

    Returns
    -------
    Path
        The absolute path of the file.
    """
    path = Path(path).absolute()
    with tempfile.TemporaryDirectory() as directory:
        card_path = Path(directory) / "sample.toy.yaml"
        ToyCard(particle=particle, n_events=n_events, seed=seed, **card).write(
            card_path
        )
        argv = [
            f"--input={card_path}",
            f"--output={path}",
            "--overwrite",
            "--write-images" if images else "--no-write-images",
            "--write-parameters" if parameters else "--no-write-parameters",
            *options,
        ]
        run_tool(ProcessorTool(), argv=argv, cwd=directory, raises=True)
    return path
