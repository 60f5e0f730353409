//! Distances on the globe, by the haversine: right across the antimeridian and at the poles, exact to half a percent
//! (the globe is taken as a ball).

/// The earth's mean radius in metres (IUGG).
const RADIUS: f64 = 6_371_008.8;

/// Metres from one latitude and longitude to another, in degrees.
pub fn metres(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half_sine = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin();
    let (north, east) = (half_sine(from.0, to.0), half_sine(from.1, to.1));
    let across = from.0.to_radians().cos() * to.0.to_radians().cos();
    let square = north * north + across * east * east;
    2.0 * RADIUS * square.clamp(0.0, 1.0).sqrt().asin()
}

/// The largest error, in metres, that rounding both degrees to so many decimals can make: half the diagonal of a cell
/// at the equator.
pub(super) fn rounding_error(decimals: u8) -> f64 {
    let cell = RADIUS.to_radians() / 10f64.powi(i32::from(decimals));
    cell * std::f64::consts::FRAC_1_SQRT_2
}

/// Rounded to so many decimals; never a negative zero.
pub(super) fn rounded(value: f64, decimals: u8) -> f64 {
    let factor = 10f64.powi(i32::from(decimals));
    (value * factor).round() / factor + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn about(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= expected * 0.005 + 1e-6,
            "{found} {expected}"
        );
    }

    #[test]
    fn known_distances_are_right() {
        let (munich, berlin) = ((48.137_15, 11.576_12), (52.520_01, 13.404_95));
        about(metres(munich, berlin), 504_000.0);
        about(metres((0.0, 0.0), (0.0, 1.0)), 111_195.0);
        about(metres((60.0, 0.0), (60.0, 1.0)), 55_600.0);
        about(metres((0.0, 0.0), (0.0, 180.0)), 20_015_000.0);
        assert_eq!(metres(munich, munich), 0.0);
    }

    #[test]
    fn the_antimeridian_and_the_poles_are_places_like_others() {
        about(metres((10.0, 179.999), (10.0, -179.999)), 219.0);
        about(metres((0.0, 180.0), (0.0, -180.0)), 0.0);
        // at a pole every longitude is the same place
        about(metres((90.0, 0.0), (90.0, 123.0)), 0.0);
        about(metres((89.999, 0.0), (89.999, 180.0)), 222.4);
        about(metres((-90.0, 17.0), (90.0, -3.0)), 20_015_000.0);
    }

    #[test]
    fn rounding_makes_no_negative_zero() {
        assert_eq!(rounded(-0.000_001, 5).to_string(), "0");
        assert_eq!(rounded(48.137_154_9, 5).to_string(), "48.13715");
        assert_eq!(rounded(179.999_999, 5), 180.0);
        assert_eq!(rounded(-33.6, 0), -34.0);
    }

    prop_compose! {
        fn place()(latitude in -90.0f64..=90.0, longitude in -180.0f64..=180.0) -> (f64, f64) {
            (latitude, longitude)
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_as_far_and_a_detour_is_no_shorter(a in place(), b in place(), c in place()) {
            let direct = metres(a, b);
            prop_assert!((0.0..=20_016_000.0).contains(&direct));
            prop_assert!((direct - metres(b, a)).abs() < 1e-3);
            prop_assert!(direct <= metres(a, c) + metres(c, b) + 1.0);
        }

        #[test]
        fn a_rounded_place_is_within_the_rounding_error(place in place(), decimals in 0u8..=9) {
            let near = (rounded(place.0, decimals), rounded(place.1, decimals));
            prop_assert!(near.0.abs() <= 90.0 && near.1.abs() <= 180.0);
            prop_assert!(metres(place, near) <= rounding_error(decimals) * 1.001 + 1e-3);
        }
    }
}
