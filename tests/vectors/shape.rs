//! Record sizes and timing of downloads: `shape.json`. The vectors have mtg-multi's longest record,
//! 16,379 bytes; that of mtbox is a full TLS 1.3 record.

use mtbox::mimicry::calibrate::Fit;
use mtbox::mimicry::shaper::{DELAY_MAX_US, Grant, PAUSE_MS, Pace, Shaper};
use serde_json::Value;

use super::read::{list, load, name, number};

fn float(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {}", name(case)))
}

#[test]
fn the_built_in_pace_has_the_quantiles_of_mtg_multi() {
    let file = load("shape.json");
    let case = &file["weibull_default"];
    let pace = Pace::default();
    assert_eq!((pace.k(), pace.lambda_ms()), (float(case, "k"), float(case, "lambda_ms")));
    let quantiles = case["quantiles"].as_array().unwrap();
    assert!(quantiles.len() > 5);
    for case in quantiles {
        let (u, delay_us) = (float(case, "u"), float(case, "delay_ms") * 1_000.0);
        let capped = delay_us.min(f64::from(DELAY_MAX_US));
        assert!((f64::from(pace.delay_us(u)) - capped).abs() <= 0.51, "u = {u}");
    }
}

#[test]
fn fits_agree_with_those_of_independent_code() {
    for case in list("shape.json", "weibull_fit") {
        let durations: Vec<u64> =
            case["durations_us"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
        let mut fit = Fit::default();
        fit.learn(durations);
        let mut pace = None;
        while fit.is_running() {
            pace = fit.step();
        }
        let pace = pace.unwrap_or_else(|| panic!("no fit of {}", name(&case)));
        let tolerance = float(&case, "tolerance");
        let error = |got: f64, key| (got / float(&case, key) - 1.0).abs();
        assert!(error(pace.k(), "k") < tolerance, "{}: {pace:?}", name(&case));
        assert!(error(pace.lambda_ms(), "lambda") < tolerance, "{}: {pace:?}", name(&case));
    }
}

#[test]
fn records_of_a_burst_have_the_sizes_of_the_schedule() {
    let file = load("shape.json");
    let sizes = &file["record_payload_sizes_like_mtg"];
    assert_eq!(sizes["drs_reset_after_idle_ms"], PAUSE_MS);
    let longest = number(sizes, "static");
    let schedule = sizes["drs"].as_array().unwrap();
    assert!(schedule.len() > 5);
    for case in schedule {
        let mut shaper = Shaper::new(Pace::default(), true, true);
        let before = usize::try_from(number(case, "record")).unwrap() - 1;
        shaper.record_sent(before, 5_000, || u32::MAX);
        let mut seen = Vec::new();
        for chance in 0..100 {
            match shaper.grant(6_000, || chance) {
                Grant::One(16_401) => seen.push(longest),
                Grant::One(size) => seen.push(i64::try_from(size).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        let bounds = (seen.iter().min().copied(), seen.iter().max().copied());
        let expected = (Some(number(case, "min")), Some(number(case, "max")));
        assert_eq!(bounds, expected, "record {}", before + 1);
    }
}
