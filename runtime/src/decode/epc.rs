//! Electronic Product Codes: what an RFID tag or an EPCIS event calls a thing.
//!
//! Promises: SGTIN-96 and SSCC-96 are decoded by the GS1 EPC Tag Data Standard's partition tables; every other tag and
//! every barcode passes as it is. Two ways to write the same EPC give the same [`Epc`]: bytes from a reader, and the
//! pure identity or tag URI of an event.

use std::fmt::Write;

use super::{Rejection, quoted};

/// Longest code that is taken, in bytes.
const CODE_MAX: usize = 256;
/// By partition: bits and digits of the company prefix; the other part takes the rest.
const COMPANY: [(u32, usize); 7] = [(40, 12), (37, 11), (34, 10), (30, 9), (27, 8), (24, 7), (20, 6)];

/// What stands on a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epc {
    /// The pure identity URI, e.g. `urn:epc:id:sgtin:0614141.812345.6789`; other codes as they came, hex in upper case.
    pub uri: Box<str>,
    /// Its parts, where they are known.
    pub parts: Option<EpcParts>,
}

/// The parts of a GS1 EPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpcParts {
    /// `sgtin` or `sscc`.
    pub scheme: &'static str,
    /// GS1 company prefix.
    pub company: Box<str>,
    /// Indicator and item reference of a trade item; extension and serial reference of a logistic unit.
    pub reference: Box<str>,
    /// The serial of a trade item.
    pub serial: Option<Box<str>>,
}

impl Epc {
    /// Reads a code: hexadecimal as readers give it, a URI as EPCIS does, or anything else as it is.
    pub fn read(code: &str) -> Result<Self, Rejection> {
        let code = code.trim();
        if code.is_empty() || code.len() > CODE_MAX || code.chars().any(char::is_control) {
            let detail = format!(
                "EPC {} has {} bytes (1 to {CODE_MAX} without control characters are read)",
                quoted(code),
                code.len()
            );
            return Err(Rejection::new("rfid.epc_invalid", detail));
        }
        if let Some(rest) = code
            .strip_prefix("urn:epc:id:")
            .or_else(|| code.strip_prefix("urn:epc:tag:"))
        {
            return Ok(of_uri(rest).unwrap_or_else(|| opaque(code)));
        }
        let is_hex = code.len() >= 8 && code.len().is_multiple_of(2);
        if is_hex && code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(of_hex(code).unwrap_or_else(|| opaque(&code.to_ascii_uppercase())));
        }
        Ok(opaque(code))
    }

    /// Reads the bytes of a tag's EPC memory.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hex = String::with_capacity(2 * bytes.len());
        for byte in bytes.iter().take(CODE_MAX / 2) {
            // Writing into a string cannot fail.
            let _ = write!(hex, "{byte:02X}");
        }
        of_hex(&hex).unwrap_or_else(|| opaque(&hex))
    }

    /// GTIN-14 of a trade item, SSCC-18 of a logistic unit, with their check digits.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        let parts = self.parts.as_ref()?;
        let (first, rest) = parts.reference.split_at_checked(1)?;
        let mut key = format!("{first}{}{rest}", parts.company);
        // Weights 3 and 1 from the right.
        let weigh =
            |(place, digit): (usize, u8)| u32::from(digit - b'0') * if place % 2 == 0 { 3 } else { 1 };
        let sum: u32 = key.bytes().rev().enumerate().map(weigh).sum();
        let _ = write!(key, "{}", (10 - sum % 10) % 10);
        Some(key)
    }
}

fn opaque(code: &str) -> Epc {
    Epc {
        uri: code.into(),
        parts: None,
    }
}

fn trade_item(company: &str, reference: &str, serial: &str) -> Epc {
    Epc {
        uri: format!("urn:epc:id:sgtin:{company}.{reference}.{serial}").into(),
        parts: Some(EpcParts {
            scheme: "sgtin",
            company: company.into(),
            reference: reference.into(),
            serial: Some(serial.into()),
        }),
    }
}

fn logistic_unit(company: &str, reference: &str) -> Epc {
    Epc {
        uri: format!("urn:epc:id:sscc:{company}.{reference}").into(),
        parts: Some(EpcParts {
            scheme: "sscc",
            company: company.into(),
            reference: reference.into(),
            serial: None,
        }),
    }
}

/// What follows `urn:epc:id:` or `urn:epc:tag:`; a tag URI holds a filter before the rest.
fn of_uri(rest: &str) -> Option<Epc> {
    let (scheme, rest) = rest.split_once(':')?;
    let rest = match scheme {
        "sgtin" | "sscc" => rest,
        "sgtin-96" | "sgtin-198" | "sscc-96" => rest.split_once('.')?.1,
        _ => return None,
    };
    let mut parts = rest.splitn(3, '.');
    let (company, reference) = (parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(company) || !digits(reference) || company.len() + reference.len() > 17 {
        return None;
    }
    match (scheme.starts_with("sgtin"), parts.next()) {
        (true, Some(serial)) if !serial.is_empty() => Some(trade_item(company, reference, serial)),
        (false, None) => Some(logistic_unit(company, reference)),
        _ => None,
    }
}

/// 96 bits, from the highest.
struct Bits(u128);

impl Bits {
    fn take(&mut self, bits: u32) -> u128 {
        let taken = (self.0 >> (96 - bits)) & ((1 << bits) - 1);
        self.0 = (self.0 << bits) & ((1 << 96) - 1);
        taken
    }

    /// A number of so many bits as so many digits; `None` where it does not fit.
    fn digits(&mut self, bits: u32, digits: usize) -> Option<String> {
        let number = format!("{:0digits$}", self.take(bits));
        (number.len() == digits).then_some(number)
    }
}

fn of_hex(hex: &str) -> Option<Epc> {
    if hex.len() != 24 {
        return None;
    }
    let mut bits = Bits(u128::from_str_radix(hex, 16).ok()?);
    let header = bits.take(8);
    let _filter = bits.take(3);
    let (company_bits, company_digits) = *COMPANY.get(usize::try_from(bits.take(3)).ok()?)?;
    match header {
        0x30 => {
            let company = bits.digits(company_bits, company_digits)?;
            let reference = bits.digits(44 - company_bits, 13 - company_digits)?;
            let serial = bits.take(38).to_string();
            Some(trade_item(&company, &reference, &serial))
        }
        0x31 => {
            let company = bits.digits(company_bits, company_digits)?;
            let reference = bits.digits(58 - company_bits, 17 - company_digits)?;
            (bits.take(24) == 0).then(|| logistic_unit(&company, &reference))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_examples_of_the_tag_data_standard_are_read() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/samples/epc_tds_vectors.json"))
                .expect("the vectors");
        for vector in vectors.as_array().expect("a list") {
            let text = |name: &str| vector[name].as_str();
            let read = Epc::read(text("hex").expect("hex")).expect("an EPC");
            let tagged = Epc::read(text("tag_uri").expect("a URI")).expect("an EPC");
            assert_eq!(read, tagged, "{vector}");
            if let Some(pure) = text("pure_id") {
                assert_eq!(Epc::read(pure).as_ref(), Ok(&read));
                assert_eq!(&*read.uri, pure);
            }
            let key = read.key().expect("a key");
            if let Some(gs1) = text("gs1") {
                let serial = read.parts.as_ref().and_then(|parts| parts.serial.clone());
                assert_eq!(format!("(01){key}(21){}", serial.unwrap_or_default()), gs1);
            }
            if let Some(sscc) = text("sscc") {
                assert_eq!(key, sscc);
            }
        }
    }

    #[test]
    fn other_codes_pass_as_they_are() {
        for (code, uri) in [
            ("7eda9038051002710002c0ae", "7EDA9038051002710002C0AE"),
            ("E2801170", "E2801170"),
            ("pallet 7", "pallet 7"),
            (
                "urn:epc:id:sgln:0614141.07346.1234",
                "urn:epc:id:sgln:0614141.07346.1234",
            ),
            // Partition 7 does not exist.
            ("307C257BF7194E4000001A85", "307C257BF7194E4000001A85"),
        ] {
            let epc = Epc::read(code).expect(code);
            assert_eq!((&*epc.uri, epc.parts), (uri, None), "{code}");
        }
        assert!(Epc::read("").is_err());
        assert!(Epc::read("a\u{7}b").is_err());
        assert!(Epc::read(&"x".repeat(257)).is_err());
    }
}
