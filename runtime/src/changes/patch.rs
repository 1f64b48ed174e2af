//! Merge patches (RFC 7396) over a twin's JSON text.
//!
//! Promises: a patch applied to the old text gives the new one. For that, members that are null are left out first:
//! in a merge patch null means "remove", so a KPI without a value is told as absent. Works on text and compares the
//! raw members, because most of a twin stays as it was. Does not know what a twin is.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object, in their order, undecoded.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The members of an object's text; none where the text is not an object's.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    if text.starts_with('{') {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

/// Begins a member of the object that is being written.
pub(super) fn open_member(first: &mut bool, name: &str, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
    quote(name, out);
    out.push(':');
}

/// Writes a text as a JSON string.
pub(super) fn quote(text: &str, out: &mut String) {
    if text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// The text without members that are null. Lists stay as they are: a merge patch replaces them as a whole.
pub(super) fn without_nulls(text: &str) -> Cow<'_, str> {
    if !text.contains(":null") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    write_without_nulls(text, &mut out);
    Cow::Owned(out)
}

fn write_without_nulls(text: &str, out: &mut String) {
    let object = if text.contains(":null") {
        members(text)
    } else {
        None
    };
    let Some(Members(members)) = object else {
        out.push_str(text);
        return;
    };
    out.push('{');
    let mut first = true;
    for (name, value) in members {
        if value.get() != "null" {
            open_member(&mut first, &name, out);
            write_without_nulls(value.get(), out);
        }
    }
    out.push('}');
}

/// Writes the merge patch that makes `new` of `old`, both objects without nulls; `{}` where they are equal.
pub(super) fn write_patch(old: &str, new: &str, out: &mut String) {
    let (Some(Members(before)), Some(Members(after))) = (members(old), members(new)) else {
        out.push_str(new);
        return;
    };
    out.push('{');
    let mut first = true;
    let mut kept = 0;
    for (position, (name, value)) in after.iter().enumerate() {
        // Both texts come from the same code, so a member mostly stands where it stood.
        let same_place = before.get(position).filter(|(known, _)| known == name);
        let known = same_place
            .or_else(|| before.iter().find(|(known, _)| known == name))
            .map(|(_, value)| value.get());
        kept += usize::from(known.is_some());
        match known {
            Some(known) if known == value.get() => {}
            Some(known) if known.starts_with('{') && value.get().starts_with('{') => {
                open_member(&mut first, name, out);
                write_patch(known, value.get(), out);
            }
            _ => {
                open_member(&mut first, name, out);
                out.push_str(value.get());
            }
        }
    }
    if kept < before.len() {
        for (name, _) in before
            .iter()
            .filter(|(name, _)| after.iter().all(|(still, _)| still != name))
        {
            open_member(&mut first, name, out);
            out.push_str("null");
        }
    }
    out.push('}');
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// RFC 7396, section 2, word for word.
    pub(in crate::changes) fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let object = target.as_object_mut().expect("an object");
        for (name, value) in patch {
            if value.is_null() {
                object.remove(name);
            } else {
                apply(object.entry(name).or_insert(Value::Null), value);
            }
        }
    }

    fn patch(old: &str, new: &str) -> String {
        let mut out = String::new();
        write_patch(old, new, &mut out);
        out
    }

    #[test]
    fn a_patch_holds_what_changed_and_nothing_else() {
        for (old, new, wanted) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, r#"{"b":3}"#),
            (r#"{"a":1,"b":2}"#, r#"{"b":2}"#, r#"{"a":null}"#),
            (
                r#"{"a":{"x":1,"y":2}}"#,
                r#"{"a":{"y":3}}"#,
                r#"{"a":{"y":3,"x":null}}"#,
            ),
            (r#"{"a":{"x":1}}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"a":[1]}"#, r#"{"a":{"x":1}}"#, r#"{"a":{"x":1}}"#),
            (r#"{"a\"b":1}"#, r#"{"a\"b":2}"#, r#"{"a\"b":2}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#, "{}"),
            (r#"{"a":{"x":1}}"#, r#"{"a":{}}"#, r#"{"a":{"x":null}}"#),
        ] {
            assert_eq!(patch(old, new), wanted, "{old} to {new}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3_i32).prop_map(Value::from),
            "[a\"\\\\é]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc\"]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[abcd]", json(), 0..5)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    fn drop_nulls(value: &mut Value) {
        if let Value::Object(object) = value {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
    }

    proptest! {
        #[test]
        fn a_patch_leads_from_the_old_to_the_new(old in object(), new in object()) {
            let (old, new) = (old.to_string(), new.to_string());
            let (old, new) = (without_nulls(&old), without_nulls(&new));
            let mut patched: Value = serde_json::from_str(&old).expect("json");
            apply(&mut patched, &serde_json::from_str(&patch(&old, &new)).expect("json"));
            prop_assert_eq!(patched, serde_json::from_str::<Value>(&new).expect("json"));
        }

        #[test]
        fn only_null_members_go(value in object()) {
            let mut wanted = value.clone();
            drop_nulls(&mut wanted);
            let text = value.to_string();
            prop_assert_eq!(serde_json::from_str::<Value>(&without_nulls(&text)).expect("json"), wanted);
        }
    }
}
