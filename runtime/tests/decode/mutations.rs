//! Damaged messages by the hundred thousand: no decoder panics, and none gives more than it got.
//!
//! The mutations are drawn from a fixed seed, so that a failure comes again. Fuzzing proper would need a nightly
//! compiler; this runs wherever the tests run.

use gemba_runtime::decode::{
    Content, DecodedReading, METRICS_MAX, Rejection, chirpstack, native_reading, native_scan, split_batch,
    the_things_stack,
};
use gemba_twins::event::Value;

/// Damaged messages of each decoder: about a second in a debug build.
const MESSAGES: u32 = 200_000;

const READING: &str = r#"{"sensor_id":"cnc-07","sensor_type":"MACHINE","location_id":"cell-2","timestamp":"2026-11-23T07:57:28.560Z","message_id":"01JD\u00e4","metrics":{"execution":"producing","cycle_count":1042,"energy_kwh":5123.4,"ok":true,"x":null},"quality_score":0.98,"device_metadata":{"firmware":[2,1]}}"#;
const SCAN: &str = r#"{"job_id":"J-1042","location":"cell-2","product_id":"P-7","operator_id":"op-3","scan_timestamp":1795420648560,"metadata":{"a":[{}]},"message_id":"01JE"}"#;
const CHIRPSTACK: &str = include_str!("../samples/chirpstack_v4_up.json");
const THINGS_STACK: &str = include_str!("../samples/tts_v3_uplink_value_and_unit.json");

/// Marsaglia's xorshift: repeatable, and all the chance that is needed here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit.max(1)
    }

    /// Damages a message in one to four places.
    fn damage(&mut self, message: &mut Vec<u8>) {
        const TOKENS: [&[u8]; 20] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b",",
            b":",
            b"null",
            b"NaN",
            b"1e999",
            b"-",
            b"\\u0000",
            b"\\ud800",
            b"\xff",
            b"\0",
            b"0.",
            b"99999999999999999999",
            b"[[[[[[[[",
            b"{\"\":",
            b"\xf0\x9f\x92\xa9",
        ];
        for _ in 0..=self.below(4) {
            let at = self.below(message.len());
            match self.below(6) {
                0 if !message.is_empty() => message[at] ^= 1 << self.below(8),
                1 => message.truncate(at),
                2 if !message.is_empty() => {
                    let end = (at + self.below(16)).min(message.len());
                    message.drain(at..end);
                }
                3 => {
                    let end = (at + self.below(64)).min(message.len());
                    let part = message[at..end].to_vec();
                    let to = self.below(message.len());
                    message.splice(to..to, part);
                }
                _ => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    message.splice(at..at, token.iter().copied());
                }
            }
        }
    }
}

/// Gives damaged messages to a decoder; answers how many were still read.
fn survive(seed: u64, sample: &str, mut decode: impl FnMut(&[u8]) -> bool) -> u32 {
    let mut chance = Chance(seed);
    let mut message = Vec::with_capacity(2 * sample.len());
    let mut read = 0;
    for _ in 0..MESSAGES {
        message.clear();
        message.extend_from_slice(sample.as_bytes());
        chance.damage(&mut message);
        read += u32::from(decode(&message));
    }
    read
}

fn sane(message: &[u8], decoded: Result<DecodedReading, Rejection>) -> bool {
    match decoded {
        Ok(reading) => {
            let of_value = |value: &Value| match value {
                Value::Number(number) => {
                    assert!(number.is_finite());
                    0
                }
                Value::Text(text) => text.len(),
                Value::Bool(_) => 0,
            };
            // Nested names repeat those above them, so a metric may be longer than what was written for it.
            let metrics: usize = reading
                .metrics
                .iter()
                .map(|(name, value)| name.len().min(16) + of_value(value))
                .sum();
            assert!(
                metrics <= message.len() + 64,
                "{} bytes of {}",
                metrics,
                message.len()
            );
            assert!((1..=METRICS_MAX).contains(&reading.metrics.len()));
            true
        }
        Err(rejection) => {
            assert!(rejection.detail.len() < 600, "{rejection}");
            assert!(!rejection.detail.is_empty() && rejection.code.contains('.'));
            false
        }
    }
}

#[test]
fn damaged_readings_are_read_or_rejected() {
    let read = survive(1, READING, |message| {
        sane(message, native_reading(Some("cnc-07"), message))
    });
    // If nearly all or none were read, the damage would not reach what it is meant to test.
    assert!((MESSAGES / 50..MESSAGES / 2).contains(&read), "{read} were read");
}

#[test]
fn damaged_scans_are_read_or_rejected() {
    let read = survive(2, SCAN, |message| match native_scan(None, message) {
        Ok(scan) => {
            assert!(scan.metadata.is_none_or(|text| text.len() <= message.len()));
            true
        }
        Err(rejection) => {
            assert!(rejection.detail.len() < 600, "{rejection}");
            false
        }
    });
    assert!((MESSAGES / 50..MESSAGES / 2).contains(&read), "{read} were read");
}

#[test]
fn damaged_chirpstack_events_are_read_or_rejected() {
    let topic = "application/a/device/b/event/up";
    let read = survive(3, CHIRPSTACK, |message| sane(message, chirpstack(topic, message)));
    assert!(
        (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
        "{read} were read"
    );
}

#[test]
fn damaged_messages_of_the_things_stack_are_read_or_rejected() {
    let topic = "v3/air@tenant1/devices/iam-hall/up";
    let read = survive(4, THINGS_STACK, |message| {
        sane(message, the_things_stack(topic, message))
    });
    assert!(
        (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
        "{read} were read"
    );
}

#[test]
fn damaged_batches_are_cut_or_refused() {
    let batch = format!("[{READING},\n{SCAN},\n{READING}]");
    survive(5, &batch, |body| {
        [Content::Json, Content::NdJson]
            .into_iter()
            .all(|content| match split_batch(body, content) {
                Ok(items) => {
                    assert!(items.iter().map(|item| item.len()).sum::<usize>() <= body.len());
                    true
                }
                Err(rejection) => {
                    assert!(rejection.detail.len() < 600, "{rejection}");
                    false
                }
            })
    });
}
