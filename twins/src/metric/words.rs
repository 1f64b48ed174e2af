//! What the words of a machine's control mean.

use crate::config::{Execution, TwinConfig};

/// The metrics that say what a machine does.
pub(crate) fn is_execution(name: &str) -> bool {
    matches!(name, "execution" | "state")
}

/// The execution state of a control's word: by the plant model, else by the words everybody knows.
pub(crate) fn execution(word: &str, config: Option<&TwinConfig>) -> Execution {
    let map = config.map_or(&[][..], |config| &config.execution_map);
    let mapped = map
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word))
        .map(|(_, execution)| *execution);
    mapped
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
}
