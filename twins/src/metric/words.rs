//! What the words of a machine's control mean.

use crate::config::{Execution, TwinConfig};

/// The metrics that say what a machine does.
///
/// Sparkplug nodes put such a name at the end of a path, `Machine/Execution`; PackML's is `Status/StateCurrent`.
pub(crate) fn is_execution(name: &str) -> bool {
    match name.rsplit_once('/') {
        None => matches!(name, "execution" | "state"),
        Some((_, end)) => ["execution", "state", "statecurrent"]
            .iter()
            .any(|known| end.eq_ignore_ascii_case(known)),
    }
}

/// The execution state of a number: by the plant model as a word, else of PackML's state model (ISA-TR88.00.02).
pub(crate) fn execution_of_number(name: &str, number: f64, config: Option<&TwinConfig>) -> Execution {
    let word = number.to_string();
    let mapped = mapped(&word, config);
    let packml = || match number as i64 {
        _ if !name.to_ascii_lowercase().ends_with("statecurrent") => Execution::Unknown,
        6 | 16 => Execution::Producing,
        3 | 15 => Execution::Setup,
        4 | 5 | 13 | 14 | 17 => Execution::Idle,
        2 | 7 | 10 | 11 | 12 => Execution::Stopped,
        1 | 8 | 9 => Execution::Down,
        _ => Execution::Unknown,
    };
    mapped.unwrap_or_else(packml)
}

fn mapped(word: &str, config: Option<&TwinConfig>) -> Option<Execution> {
    let map = config.map_or(&[][..], |config| &config.execution_map);
    map.iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word))
        .map(|(_, execution)| *execution)
}

/// The execution state of a control's word: by the plant model, else by the words everybody knows.
pub(crate) fn execution(word: &str, config: Option<&TwinConfig>) -> Execution {
    mapped(word, config)
        .or_else(|| Execution::of_word(word))
        .unwrap_or(Execution::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_plant_model_comes_before_what_everybody_knows() {
        let config = TwinConfig {
            execution_map: vec![
                ("WARMUP".into(), Execution::Setup),
                ("active".into(), Execution::Idle),
            ],
            ..TwinConfig::default()
        };
        for (word, config, wanted) in [
            ("ACTIVE", None, Execution::Producing),
            ("ACTIVE", Some(&config), Execution::Idle),
            ("warmup", Some(&config), Execution::Setup),
            ("feed_hold", Some(&config), Execution::Stopped),
            ("gobbledygook", Some(&config), Execution::Unknown),
        ] {
            assert_eq!(execution(word, config), wanted, "{word}");
        }
    }

    #[test]
    fn numbers_are_packmls_states_unless_the_plant_model_says_otherwise() {
        let config = TwinConfig {
            execution_map: vec![("6".into(), Execution::Setup)],
            ..TwinConfig::default()
        };
        for (name, number, config, wanted) in [
            ("Status/StateCurrent", 6.0, None, Execution::Producing),
            ("Status/StateCurrent", 11.0, None, Execution::Stopped),
            ("Status/StateCurrent", 9.0, None, Execution::Down),
            ("Status/StateCurrent", 99.0, None, Execution::Unknown),
            ("Status/StateCurrent", 6.0, Some(&config), Execution::Setup),
            ("Machine/State", 6.0, None, Execution::Unknown),
        ] {
            assert!(is_execution(name));
            assert_eq!(
                execution_of_number(name, number, config),
                wanted,
                "{name} {number}"
            );
        }
        assert!(!is_execution("Machine/Speed") && !is_execution("statecurrent"));
    }
}
