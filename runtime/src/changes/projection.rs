//! Projections: only the parts of a twin's JSON that a subscriber or a list asked for.

use serde_json::Value;

use super::patch::{Members, members, open_member};

/// Most fields of a projection.
const FIELDS_MAX: usize = 64;
/// Most parts of a field's path.
const PARTS_MAX: usize = 8;
/// Longest path, in bytes.
const PATH_MAX: usize = 256;

/// Which parts of a twin a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Projection {
    /// Name and what of it; empty for all of it. In order of the names.
    parts: Vec<(Box<str>, Projection)>,
}

impl Projection {
    /// The projection of dotted paths such as `state.execution`; of all where there are none.
    pub(super) fn of(fields: Option<&[String]>) -> Result<Option<Self>, String> {
        let Some(fields) = fields.filter(|fields| !fields.is_empty()) else {
            return Ok(None);
        };
        if fields.len() > FIELDS_MAX {
            return Err(format!(
                "{} fields are named (at most {FIELDS_MAX} are allowed)",
                fields.len()
            ));
        }
        let mut projection = Self::default();
        for field in fields {
            let parts: Vec<&str> = field.split('.').collect();
            if field.len() > PATH_MAX || parts.len() > PARTS_MAX || parts.iter().any(|part| part.is_empty()) {
                let shown: String = field.chars().take(60).collect();
                return Err(format!(
                    "{shown:?} is not a field's path (example: state.execution)"
                ));
            }
            projection.add(&parts, true);
        }
        Ok(Some(projection))
    }

    fn add(&mut self, path: &[&str], fresh: bool) {
        let Some((name, rest)) = path.split_first() else {
            self.parts.clear();
            return;
        };
        if self.parts.is_empty() && !fresh {
            // All of this is wanted already.
            return;
        }
        match self.parts.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(at) => self.parts[at].1.add(rest, false),
            Err(at) => {
                let mut part = Self::default();
                part.add(rest, true);
                self.parts.insert(at, ((*name).into(), part));
            }
        }
    }

    /// The object's text with only the parts wanted; an object of which nothing is left is left out.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() / 4);
        if !self.write(text, &mut out) {
            out.push_str("{}");
        }
        out
    }

    fn write(&self, text: &str, out: &mut String) -> bool {
        let Some(Members(members)) = members(text) else {
            return false;
        };
        let begin = out.len();
        out.push('{');
        let mut first = true;
        for (name, value) in members {
            let Ok(at) = self
                .parts
                .binary_search_by(|(known, _)| known.as_ref().cmp(&name))
            else {
                continue;
            };
            let (before, was_first, part) = (out.len(), first, &self.parts[at].1);
            open_member(&mut first, &name, out);
            if part.parts.is_empty() {
                out.push_str(value.get());
            } else if !part.write(value.get(), out) {
                out.truncate(before);
                first = was_first;
            }
        }
        if first {
            out.truncate(begin);
            return false;
        }
        out.push('}');
        true
    }
}

/// Only the fields at dotted paths of a twin's JSON; paths that lead nowhere are left out.
#[must_use]
pub fn project(value: &Value, fields: &[String]) -> Value {
    let projected = match Projection::of(Some(fields)) {
        Ok(Some(projection)) => projection.apply(&value.to_string()),
        Ok(None) => return value.clone(),
        Err(_) => return Value::Object(serde_json::Map::new()),
    };
    // It was cut out of JSON, so it is JSON.
    serde_json::from_str(&projected).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_keeps_the_paths_asked_for() {
        let text = r#"{"state":{"execution":"idle","quality":"good"},"kpis":{"oee":0.5},"rev":3}"#;
        let project = |fields: &[&str]| {
            let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
            Projection::of(Some(&fields))
                .expect("paths")
                .expect("a projection")
                .apply(text)
        };
        assert_eq!(
            project(&["state.execution", "kpis"]),
            r#"{"state":{"execution":"idle"},"kpis":{"oee":0.5}}"#
        );
        assert_eq!(project(&["kpis", "kpis.oee"]), r#"{"kpis":{"oee":0.5}}"#);
        assert_eq!(project(&["kpis.oee", "kpis"]), r#"{"kpis":{"oee":0.5}}"#);
        assert_eq!(project(&["state.absent", "rev.deeper"]), "{}");
        assert!(Projection::of(Some(&["a..b".to_owned()])).is_err());
        assert_eq!(Projection::of(Some(&[])), Ok(None));
    }
}
