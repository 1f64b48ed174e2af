//! KPIs against worked numbers and the identities of ISO 22400.

use super::*;
use Execution::{Down, Idle, PlannedDown, Producing, Setup, Stopped};

fn figures(minutes: &[(Execution, i64)], good: f64, scrap: f64) -> Figures {
    let mut figures = Figures::default();
    for (execution, minutes) in minutes {
        figures.add_time(*execution, minutes * 60_000);
    }
    figures.count(Quantity::Good, good);
    figures.count(Quantity::Scrap, scrap);
    figures
}

fn value(figures: &Figures, name: &str, ideal_s: f64) -> f64 {
    let kpi = figures.kpi(name, Some(ideal_s)).expect("a KPI");
    kpi.expect("a value")
}

#[test]
fn oee_agrees_with_worked_shifts() {
    // Vorne's oee.com: shift 480 min, breaks 60, down 47, ideal 1.0 s, 19,271 parts, 423 rejected.
    let vorne = figures(
        &[(PlannedDown, 60), (Down, 47), (Producing, 373)],
        18_848.0,
        423.0,
    );
    // waycalculator.com: 420 of 480 min, 400 parts at an ideal minute, 380 good. It rounds before it multiplies
    // and prints 79.1 %.
    let way = figures(&[(Down, 60), (Producing, 420)], 380.0, 20.0);
    for (figures, ideal_s, wanted) in [
        (vorne, 1.0, ["88.81", "86.11", "97.80", "74.79"]),
        (way, 60.0, ["87.50", "95.24", "95.00", "79.17"]),
    ] {
        let shown = ["availability", "effectiveness", "quality_ratio", "oee"]
            .map(|name| format!("{:.2}", 100.0 * value(&figures, name, ideal_s)));
        assert_eq!(shown, wanted);
    }
}

#[test]
fn the_identities_of_iso_22400_hold() {
    // ISO 22400-2: OEE = PRI·GQ/PBT, for APT and PQ cancel out; NEE − OEE is the share of setup.
    for minutes in [
        [100, 20, 30, 5, 25, 60],
        [1, 0, 0, 0, 0, 0],
        [7, 3, 11, 13, 17, 1],
    ] {
        let states = [Producing, Setup, Idle, Stopped, Down, PlannedDown];
        let pairs: Vec<_> = states.into_iter().zip(minutes).collect();
        let figures = figures(&pairs, 90.0, 7.0);
        let [apt, aust, adot, stopped, down, _] = minutes.map(|minutes| minutes as f64);
        let adet = stopped + down;
        let pbt = apt + aust + adot + adet;
        for (name, wanted) in [
            ("oee", 0.5 * 90.0 / (60.0 * pbt)),
            ("nee", (apt + aust) / apt * 0.5 * 90.0 / (60.0 * pbt)),
            ("utilization_efficiency", apt / (apt + aust + adet)),
            ("allocation_efficiency", (apt + aust + adet) / pbt),
            ("technical_efficiency", apt / (apt + adet)),
            ("setup_rate", aust / (apt + aust)),
            ("cycle_time_s", 60.0 * apt / 97.0),
            ("throughput_per_h", 97.0 / (pbt / 60.0)),
        ] {
            let found = value(&figures, name, 0.5);
            assert!((found - wanted).abs() < 1e-12, "{name}: {found}, not {wanted}");
        }
    }
}

#[test]
fn figures_of_machines_are_added_not_their_ratios_averaged() {
    // A fast machine that made much and a slow one that stood: the mean of their OEE would be 0.45.
    let fast = figures(&[(Producing, 60)], 3_240.0, 360.0);
    let slow = figures(&[(Producing, 0), (Down, 60)], 0.0, 0.0);
    let mut line = fast.clone().with_ideal(Some(1.0));
    line.add(&slow.with_ideal(Some(100.0)));
    assert!((value(&line, "oee", 0.0) - 3_240.0 / 7_200.0).abs() < 1e-12);
    assert_eq!(line.kpi("availability", None), Some(Ok(0.5)));
}

#[test]
fn kpis_without_their_data_say_what_is_missing() {
    let mut figures = Figures::default();
    let kpi = |figures: &Figures, name, ideal| figures.kpi(name, ideal).expect("a KPI");
    assert_eq!(kpi(&figures, "oee", Some(1.0)), Err("no planned busy time yet"));
    assert_eq!(
        kpi(&figures, "quality_ratio", None),
        Err("neither good_count nor scrap_count received")
    );
    assert_eq!(
        kpi(&figures, "energy_kwh", None),
        Err("neither energy_kwh nor power_kw received")
    );
    figures.count(Quantity::Good, 0.0);
    assert_eq!(
        kpi(&figures, "quality_ratio", None),
        Err("neither scrap_count nor cycle_count received")
    );
    assert_eq!(
        kpi(&figures, "effectiveness", None),
        Err("no ideal_cycle in the plant model")
    );
    figures.count(Quantity::Cycles, 4.0);
    figures.count(Quantity::Good, 3.0);
    assert_eq!(kpi(&figures, "quality_ratio", None), Ok(0.75));
    assert_eq!(figures.kpi("no_kpi", None), None);
}

#[test]
fn a_power_factor_follows_from_energy_or_from_its_readings() {
    let mut figures = Figures {
        power_factor_sum: 1.8,
        power_factors: 2,
        ..Figures::default()
    };
    assert!((value(&figures, "power_factor", 0.0) - 0.9).abs() < 1e-12);
    // 3-4-5: 4 kWh and 3 kvarh are 5 kVAh.
    figures.used(Producing, 4.0);
    figures.count(Quantity::Reactive, 3.0);
    assert!((value(&figures, "power_factor", 0.0) - 0.8).abs() < 1e-12);
}

#[test]
fn endless_new_reasons_stay_within_bounds() {
    let mut figures = Figures::default();
    for number in 0..100 {
        figures.stood(&format!("reason {number}"), 10, 1);
    }
    assert_eq!(figures.stops.len(), REASONS_MAX + 1);
    assert_eq!(figures.stops.iter().map(|stop| stop.ms).sum::<i64>(), 1_000);
}
