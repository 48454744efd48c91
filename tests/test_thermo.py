import astropy.units as u
import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from cpxt_hpc.science import thermo


@pytest.mark.parametrize("redshift", [0.02, 0.08, 0.3, 1.2])
def test_a_gas_of_known_density_is_recovered_from_the_norm_that_xspec_defines(redshift):
    """Forward: n_e = 2e-3 cm^-3 on 0.7 arcmin^2, 1.5 Mpc deep, to XSPEC's norm, with astropy's units."""
    density, depth = 2e-3 / u.cm**3, 1.5 * u.Mpc
    distance = FlatLambdaCDM(70 * u.km / u.s / u.Mpc, 0.3).angular_diameter_distance(redshift)
    area = (0.7 * u.arcmin**2).to(u.rad**2).value * distance**2
    emission = (density * density / 1.2 * area * depth).to(u.cm**-3)
    norm = (1e-14 * emission / (4 * np.pi * (distance * (1 + redshift)) ** 2)).to_value(u.cm**-5)
    found = thermo.electron_density(norm, 0.7, redshift=redshift, line_of_sight_mpc=1.5)
    # Both sides are the same formula in double precision; 1e-9 leaves room for astropy's distance integral.
    assert found == pytest.approx(2e-3, rel=1e-9)


def test_area_and_scale_agree_with_astropy():
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    assert thermo.kpc_per_arcmin(0.08) == pytest.approx(cosmology.kpc_proper_per_arcmin(0.08).value, rel=1e-9)
    side = cosmology.kpc_proper_per_arcmin(0.08) * 2 * u.arcmin
    assert thermo.region_area_cm2(4.0, 0.08) == pytest.approx((side**2).to_value(u.cm**2), rel=1e-9)


def test_density_scales_as_the_root_of_norm_over_depth_and_area():
    def density(norm=1e-4, area=1.0, depth=1.0):
        return thermo.electron_density(norm, area, redshift=0.1, line_of_sight_mpc=depth)

    assert density(norm=4e-4) == pytest.approx(2 * density())
    assert density(depth=4.0) == pytest.approx(0.5 * density())
    assert density(area=0.25) == pytest.approx(2 * density())


def test_pressure_and_entropy_carry_their_units():
    density, kt = 3e-3 / u.cm**3, 6.5 * u.keV
    assert thermo.pressure(3e-3, 6.5) == pytest.approx((density * kt).to_value(u.keV / u.cm**3))
    assert thermo.entropy(3e-3, 6.5) == pytest.approx((kt * density ** (-2 / 3)).to_value(u.keV * u.cm**2))


def test_errors_agree_with_independent_gaussian_draws():
    rng = np.random.default_rng(4)
    norm, norm_error, kt, kt_error = 2e-4, 4e-6, 6.0, 0.15
    norms, kts = rng.normal(norm, norm_error, 200_000), rng.normal(kt, kt_error, 200_000)
    at = {"redshift": 0.08, "line_of_sight_mpc": 1.0}
    density, drawn = thermo.electron_density(norm, 0.5, **at), thermo.electron_density(norms, 0.5, **at)
    # 200,000 draws fix a standard deviation to 0.16 %; second order terms are (2.5 %)^2: 1 % holds both.
    assert thermo.electron_density_error(density, norm, norm_error) == pytest.approx(drawn.std(), rel=0.01)
    assert thermo.pressure_error(density, kt, norm, norm_error, kt_error) == pytest.approx(
        thermo.pressure(drawn, kts).std(), rel=0.01
    )
    assert thermo.entropy_error(density, kt, norm, norm_error, kt_error) == pytest.approx(
        thermo.entropy(drawn, kts).std(), rel=0.01
    )


def test_what_is_not_known_is_nan_without_a_warning():
    norm = np.array([np.nan, -1e-5, 0.0, 1e-4])
    density = thermo.electron_density(norm, 1.0, redshift=0.1, line_of_sight_mpc=1.0)
    assert np.isnan(density[:2]).all()
    assert density[2] == 0.0
    np.testing.assert_array_equal(np.isnan(thermo.entropy(density, 5.0)), [True, True, True, False])
    np.testing.assert_array_equal(
        np.isnan(thermo.electron_density_error(density, norm, np.full(4, 1e-6))), [True, True, True, False]
    )
    assert np.isnan(thermo.electron_density(1e-4, 0.0, redshift=0.1, line_of_sight_mpc=1.0))


def test_scaling_maps_the_known_values_onto_zero_to_one():
    np.testing.assert_allclose(thermo.scaled_to_unit([2.0, np.nan, 6.0, 4.0]), [0.0, np.nan, 1.0, 0.5])
    assert np.isnan(thermo.scaled_to_unit([3.0, 3.0])).all()
    assert np.isnan(thermo.scaled_to_unit([np.nan])).all()


def test_relative_maps_follow_the_formulas_of_clusterpyxt():
    brightness, kt = np.array([1e-4, 4e-4, 9e-4, -1e-5]), np.array([8.0, 6.0, 3.0, 5.0])
    density = np.sqrt(brightness[:3])
    np.testing.assert_allclose(thermo.relative_density(brightness)[:3], density)
    for found, raw in (
        (thermo.relative_pressure(brightness, kt), density * kt[:3]),
        (thermo.relative_entropy(brightness, kt), kt[:3] * density ** (-2 / 3)),
    ):
        np.testing.assert_allclose(found[:3], (raw - raw.min()) / (raw.max() - raw.min()))
        assert np.isnan(found[3])
