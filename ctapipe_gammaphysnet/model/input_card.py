"""The part of a model card about images: the input, and the conditions in training."""

from typing import Annotated, Literal

from pydantic import FailFast, Field, model_validator

from .card_fields import Card, PositiveFloat, Text

__all__ = ["DomainCard", "InputCard"]


class InputCard(Card):
    """Input of a network: charge and peak time of each pixel.

    The defaults are the paper's: both unchanged, for all pixels.
    """

    image: Literal["raw", "cleaned"] = Field(
        "raw",
        description="All pixels (raw), or only those in the image mask (cleaned): "
        "pixels outside the mask are 0 in both channels.",
    )
    charge_reference: Literal["none", "background"] = Field(
        "none",
        description="Charge subtracted from those of pixels outside the image mask: "
        "none, or that of the background pixels of the same image (background), the "
        "mean of their quantiles from 45 % to 55 %.",
    )
    charge_unit: Literal["p.e.", "noise"] = Field(
        "p.e.",
        description="Unit of the charge: p.e., or the noise of the background pixels "
        "of the same image (noise): half of the range of their central 68 %, whose "
        "ends are means of quantiles over 10 %, as is a normal distribution's of the "
        "width 1.",
    )
    background_rings: Annotated[int, Field(ge=0, le=10)] = Field(
        2,
        description="Background pixels are all outside the image mask and this number "
        "of rings of neighbours around it.",
    )
    charge: Literal["linear", "arcsinh"] = Field(
        "linear",
        description="Scaling of the charge: divided by charge_scale (linear), or the "
        "inverse hyperbolic sine of that (arcsinh).",
    )
    charge_scale: PositiveFloat = Field(
        1.0, description="Divisor of the charge, in charge_unit."
    )
    peak_time_unit: Literal["ns"] = Field("ns", description="Unit of the peak time.")
    peak_time_reference: Literal["none", "image"] = Field(
        "none",
        description="Time subtracted from the peak times: none, or the mean over the "
        "pixels in the image mask, weighted by charge (image); none if they have no "
        "charge.",
    )
    peak_time_scale: PositiveFloat = Field(
        1.0, description="Divisor of the peak time after that, ns."
    )
    peak_time_pixels: Literal["all", "cleaned"] = Field(
        "all",
        description="Pixels whose peak times are used: all, or those in the image mask "
        "and around it (cleaned); the other peak times are 0.",
    )
    peak_time_rings: Annotated[int, Field(ge=0, le=10)] = Field(
        0, description="With cleaned, number of rings of neighbours around the mask."
    )
    missing_pixels: Literal["zero", "separate"] = Field(
        "zero",
        description="Values that are not finite: both channels of the pixel are 0 "
        "(zero), or a charge is 0 and a peak time -20 ns, each on its own, as in "
        "gammalearn (separate).",
    )

    @model_validator(mode="after")
    def _separate_is_raw(self):
        if self.missing_pixels == "separate" and self.needs_mask:
            raise ValueError("missing_pixels can be separate only without image mask")
        return self

    @property
    def needs_mask(self):
        """Whether the image mask, from the image cleaning, is needed."""
        return (
            self.image == "cleaned"
            or self.peak_time_reference == "image"
            or self.peak_time_pixels == "cleaned"
            or self.needs_background
        )

    @property
    def needs_background(self):
        """Whether charges are relative to the background of their image."""
        return self.charge_reference == "background" or self.charge_unit == "noise"


#: 5 % quantile, median and 95 % quantile.
Quantiles = Annotated[tuple[float, float, float], FailFast()]


class DomainCard(Card):
    """Conditions of the images that a network was trained on, as augmented.

    Quantiles are those of the images: 5 %, 50 % and 95 %.
    """

    pedestal_pe: Quantiles = Field(
        description="Charge of the background pixels of an image, p.e., as for "
        "charge_reference."
    )
    noise_pe: Quantiles = Field(
        description="Noise of the background pixels of an image, p.e., as for "
        "charge_unit."
    )
    missing_pixels: Quantiles = Field(description="Fraction of missing pixels.")
    peak_time_spread_ns: Quantiles = Field(
        description="Standard deviation of the peak times of the background pixels, ns."
    )
    intensity_pe: Quantiles = Field(
        description="Charge of the pixels in the image mask, p.e."
    )
    energy_tev: Annotated[tuple[float, float], FailFast()] = Field(
        description="Lowest and highest energy of the gammas, TeV."
    )
    pointings_deg: Annotated[
        tuple[tuple[float, float], ...], Field(max_length=10_000), FailFast()
    ] = Field(
        description="Altitudes and azimuths at which the telescopes pointed, to 0.1 "
        "deg, or to 1 and 10 deg if they are more than 1000."
    )
    image_extractors: tuple[Text, ...] = Field(
        (), description="ctapipe's image extractors of the images; none if not known."
    )
    image_cleaners: tuple[Text, ...] = Field(
        (), description="ctapipe's image cleaners of the masks; none if not known."
    )
