"""Networks that gammalearn trained, as models of this package."""
