//! The fake's tables, as `deploy/snowflake/003_tables.sql` makes them, and who may write into them.

use std::{collections::BTreeMap, io::Read};

use serde_json::Value;

use super::http::Request;

struct Column {
    name: String,
    kind: String,
    length: usize,
    required: bool,
}

/// What becomes of a row.
pub(super) enum Verdict {
    Inserted,
    Refused(String),
}

/// Tables with their rows.
#[derive(Default)]
pub(crate) struct Tables {
    columns: BTreeMap<String, Vec<Column>>,
    rows: BTreeMap<String, Vec<Value>>,
}

impl Tables {
    pub(super) fn of_deploy() -> Self {
        let mut tables = Self::default();
        let mut into: Option<String> = None;
        for line in include_str!("../../../deploy/snowflake/003_tables.sql").lines() {
            if let Some(rest) = line.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
                into = Some(rest.trim_end_matches(" (").to_owned());
            } else if line == ")" {
                into = None;
            } else if let Some(table) = &into {
                let mut words = line.trim().trim_end_matches(',').splitn(2, ' ');
                let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
                let length = kind
                    .strip_prefix("VARCHAR(")
                    .and_then(|rest| rest.split(')').next()?.parse().ok());
                tables.columns.entry(table.clone()).or_default().push(Column {
                    name: name.to_owned(),
                    kind: kind.split(['(', ' ']).next().expect("a type").to_owned(),
                    length: length.unwrap_or(usize::MAX),
                    required: kind.contains("NOT NULL"),
                });
            }
        }
        assert!(tables.has("SENSOR_READINGS_RAW") && tables.has("JOB_TRACKING"));
        tables
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    pub(super) fn rows(&self, table: &str) -> &[Value] {
        self.rows.get(table).map_or(&[], Vec::as_slice)
    }

    /// A column that a row lacks would be null whatever its default, and one that the table lacks would be lost.
    pub(super) fn columns_are_all_there(&self, table: &str, row: &Value) -> Result<(), String> {
        let object = row.as_object().ok_or("a row is no object")?;
        let columns = &self.columns[table];
        let unknown = object
            .keys()
            .find(|key| columns.iter().all(|column| column.name != **key));
        let absent = columns.iter().find(|column| !object.contains_key(&column.name));
        match (unknown, absent) {
            (Some(key), _) => Err(format!("{table} has no column {key}")),
            (_, Some(column)) => Err(format!("a row of {table} lacks {}", column.name)),
            _ => Ok(()),
        }
    }

    pub(super) fn insert(&mut self, table: &str, row: Value) -> Verdict {
        let wrong = self.columns[table]
            .iter()
            .find(|column| !column.takes(&row[&column.name]));
        if let Some(column) = wrong {
            return Verdict::Refused(format!("{} does not take this value", column.name));
        }
        if row["MESSAGE_ID"]
            .as_str()
            .is_some_and(|id| id.starts_with("poison"))
        {
            return Verdict::Refused("a value of the row was refused".into());
        }
        self.rows.entry(table.to_owned()).or_default().push(row);
        Verdict::Inserted
    }
}

impl Column {
    fn takes(&self, value: &Value) -> bool {
        if value.is_null() {
            return !self.required;
        }
        match self.kind.as_str() {
            "VARCHAR" => value
                .as_str()
                .is_some_and(|text| text.chars().count() <= self.length),
            "NUMBER" => value.is_u64() || value.is_i64(),
            "FLOAT" => value.is_number(),
            "BOOLEAN" => value.is_boolean(),
            // 2026-11-23T07:57:28.560, without a zone.
            "TIMESTAMP_NTZ" => value.as_str().is_some_and(|text| {
                text.len() == 23 && text.as_bytes()[10] == b'T' && text.as_bytes()[19] == b'.'
            }),
            _ => true,
        }
    }
}

/// Whether a request bears a token that the registered key signed, as Snowflake wants it.
pub(super) fn claims(request: &Request, fingerprint: &str) -> Result<(), String> {
    let token = request.bearer().ok_or("no token")?;
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else {
        return Err("no JWT".into());
    };
    let (claims, signature_bytes) = (base64url(claims)?, base64url(signature)?);
    let claims: Value = serde_json::from_slice(&claims).map_err(|error| error.to_string())?;
    if claims["iss"] != format!("MYORG-ACCOUNT1.SVC.SHA256:{fingerprint}")
        || claims["sub"] != "MYORG-ACCOUNT1.SVC"
    {
        return Err(format!("the key of {claims} is not registered"));
    }
    // Some official clients give milliseconds.
    let seconds = |name: &str| {
        let number = claims[name].as_u64()?;
        Some(if number > 1_000_000_000_000 {
            number / 1_000
        } else {
            number
        })
    };
    let (issued, ends) = (seconds("iat"), seconds("exp"));
    let now = crate::support::example::now_ms() / 1_000;
    if !matches!((issued, ends), (Some(issued), Some(ends)) if issued <= now + 60 && now < ends && ends - issued <= 3_600)
    {
        return Err(format!("{claims} is not valid now"));
    }
    let public: &[u8] = if fingerprint == include_str!("../keys/fingerprint.txt").trim() {
        include_bytes!("../keys/public.der")
    } else {
        include_bytes!("../keys/second.der")
    };
    ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public)
        .verify(
            &token.as_bytes()[..head.len() + 1 + parts[1].len()],
            &signature_bytes,
        )
        .map_err(|_| "the signature is wrong".to_owned())
}

fn base64url(text: &str) -> Result<Vec<u8>, String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string())
}

/// What a body unpacks to.
pub(super) fn unpacked(request: &Request) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    match request.header("content-encoding") {
        None => whole.extend_from_slice(&request.body),
        Some("gzip") => {
            let mut reader = flate2::read::GzDecoder::new(&request.body[..]);
            reader
                .read_to_end(&mut whole)
                .map_err(|error| error.to_string())?;
        }
        Some("zstd") => {
            whole = zstd::decode_all(&request.body[..]).map_err(|error| error.to_string())?;
        }
        Some(other) => return Err(format!("content encoding {other}")),
    }
    Ok(whole)
}
