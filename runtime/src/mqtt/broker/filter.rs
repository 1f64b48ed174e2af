//! Which subscription a message came by.
//!
//! rumqttc's own `matches` panics on a topic whose first letter is not ASCII, and does not know shared subscriptions.

/// Whether a topic fits a filter, by section 4.7 of MQTT 5; the group of a shared subscription does not count.
pub(super) fn matches(topic: &str, filter: &str) -> bool {
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => filter,
    };
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_filters_as_the_standard_says() {
        for (topic, filter, fits) in [
            ("gemba/v1/acme/readings/cnc-07", "gemba/v1/acme/#", true),
            ("gemba/v1/acme", "gemba/v1/acme/#", true),
            ("gemba/v1/globex/readings/x", "gemba/v1/acme/#", false),
            (
                "application/7/device/ab/event/up",
                "application/+/device/+/event/+",
                true,
            ),
            (
                "application/7/device/ab/event/up/x",
                "application/+/device/+/event/+",
                false,
            ),
            ("application/7", "application/+/device/+/event/+", false),
            (
                "v3/app@tenant/devices/dev1/up",
                "$share/gemba/v3/+/devices/+/up",
                true,
            ),
            ("a/b", "$share/gemba", false),
            ("überdruck/1", "#", true),
            ("überdruck/1", "+/1", true),
            ("$SYS/uptime", "#", false),
            ("$SYS/uptime", "+/uptime", false),
            ("$SYS/uptime", "$SYS/#", true),
            ("/a", "+/a", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(topic, filter), fits, "{topic} by {filter}");
        }
    }
}
