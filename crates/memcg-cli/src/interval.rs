//! A time between two looks, as `--interval` and `--top` take it.
//!
//! Invariants: 0.05 s to a day.
//! Depends on: nothing.
//! Never: reads a unit; the number is of seconds.

#![forbid(unsafe_code)]

use std::str::FromStr;
use std::time::Duration;

/// A time between two looks, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval(pub Duration);

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Interval, String> {
        match text.parse::<f64>() {
            Ok(seconds) if (0.05..=86_400.0).contains(&seconds) => {
                Ok(Interval(Duration::from_secs_f64(seconds)))
            }
            _ => Err("it must be a number of seconds from 0.05 to 86400".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_sensible_number_of_seconds() {
        assert_eq!("0.5".parse(), Ok(Interval(Duration::from_millis(500))));
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "1s"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
