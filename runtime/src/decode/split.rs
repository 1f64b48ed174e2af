//! A body of many messages, cut into its items before any of them is read.
//!
//! Promises: one bad item does not sink the others: an array is cut at its commas by counting quotes and brackets, so
//! that an item which is not JSON (Python writes `NaN`) is still only that item. Items keep their order; nothing is
//! copied. Knows nothing of what is in an item.

use super::Rejection;

/// Most items of one body: far above what fits into a body of 8 MiB of ordinary readings.
pub const BATCH_ITEMS_MAX: usize = 100_000;

/// How a body holds its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One JSON value, or an array of them.
    Json,
    /// One JSON value on each line; empty lines do not count.
    NdJson,
}

/// Cuts a body into its items. An empty body and an empty array have none.
pub fn split_batch(body: &[u8], content: Content) -> Result<Vec<&[u8]>, Rejection> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    match content {
        _ if body.is_empty() => Ok(Vec::new()),
        Content::NdJson => limited(
            body.split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|item| !item.is_empty()),
        ),
        Content::Json if body[0] != b'[' => Ok(vec![body]),
        Content::Json => cut_array(body),
    }
}

fn limited<'a>(items: impl Iterator<Item = &'a [u8]>) -> Result<Vec<&'a [u8]>, Rejection> {
    let items: Vec<_> = items.take(BATCH_ITEMS_MAX + 1).collect();
    if items.len() > BATCH_ITEMS_MAX {
        let detail = format!("more than {BATCH_ITEMS_MAX} items (split the batch)");
        return Err(Rejection::new("batch.too_many_items", detail));
    }
    Ok(items)
}

/// Cuts an array that is the whole body at its commas, in one pass.
fn cut_array(body: &[u8]) -> Result<Vec<&[u8]>, Rejection> {
    let refuse = |detail: &str| Err(Rejection::new("json.malformed", detail));
    let (mut items, mut start, mut depth, mut at) = (Vec::new(), 1, 0_usize, 1);
    while at < body.len() {
        match body[at] {
            b'"' => at = end_of_text(body, at + 1),
            b'[' | b'{' => depth += 1,
            b']' if depth == 0 => {
                if at + 1 < body.len() {
                    return refuse(&format!(
                        "characters follow the array's end at byte {at} (send one array, or NDJSON)"
                    ));
                }
                let last = body[start..at].trim_ascii();
                if !(items.is_empty() && last.is_empty()) {
                    items.push(last);
                }
                return limited(items.into_iter());
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                items.push(body[start..at].trim_ascii());
                start = at + 1;
                if items.len() > BATCH_ITEMS_MAX {
                    return limited(items.into_iter());
                }
            }
            _ => {}
        }
        at += 1;
    }
    refuse("the array does not end (the body is cut off, or a bracket or quote is missing)")
}

/// The position of the quote that ends a text which begins at `at`; the end of the body where none does.
fn end_of_text(body: &[u8], mut at: usize) -> usize {
    while at < body.len() {
        match body[at] {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(body: &str, content: Content) -> Vec<String> {
        let items = split_batch(body.as_bytes(), content).expect("a body that can be cut");
        items
            .into_iter()
            .map(|item| String::from_utf8_lossy(item).into_owned())
            .collect()
    }

    #[test]
    fn one_object_an_array_and_lines_are_cut_into_items() {
        for (body, content, expected) in [
            (r#"{"a":[1,2]}"#, Content::Json, vec![r#"{"a":[1,2]}"#]),
            (
                r#" [ {"a":"],["} , {"b":"\"]"},3 ] "#,
                Content::Json,
                vec![r#"{"a":"],["}"#, r#"{"b":"\"]"}"#, "3"],
            ),
            ("[]", Content::Json, vec![]),
            ("", Content::Json, vec![]),
            ("\u{feff}[1]", Content::Json, vec!["1"]),
            ("[1,]", Content::Json, vec!["1", ""]),
            ("{}\r\n\n  {\"b\":1}\n", Content::NdJson, vec!["{}", "{\"b\":1}"]),
        ] {
            assert_eq!(items(body, content), expected, "{body}");
        }
    }

    #[test]
    fn an_item_that_is_not_json_leaves_the_others_whole() {
        assert_eq!(
            items(r#"[{"a":1},{"a":NaN},{"a":1,,},{"a":2}]"#, Content::Json),
            [r#"{"a":1}"#, r#"{"a":NaN}"#, r#"{"a":1,,}"#, r#"{"a":2}"#]
        );
    }

    #[test]
    fn an_array_that_does_not_end_is_refused_whole() {
        for body in [r#"[{"a":1}"#, r#"[{"a":"1}]"#, "[[1]", "[1] 2", "[1][2]"] {
            assert_eq!(
                split_batch(body.as_bytes(), Content::Json).expect_err(body).code,
                "json.malformed"
            );
        }
    }

    #[test]
    fn a_body_of_too_many_items_is_refused() {
        let body = format!("[{}1]", "1,".repeat(BATCH_ITEMS_MAX));
        assert_eq!(
            split_batch(body.as_bytes(), Content::Json)
                .expect_err("one more")
                .code,
            "batch.too_many_items"
        );
        let body = "1\n".repeat(BATCH_ITEMS_MAX);
        assert_eq!(
            split_batch(body.as_bytes(), Content::NdJson)
                .expect("just enough")
                .len(),
            BATCH_ITEMS_MAX
        );
    }

    proptest! {
        #[test]
        fn an_array_is_cut_as_a_json_parser_cuts_it(texts in prop::collection::vec(any::<String>(), 0..8)) {
            let array = serde_json::Value::from(texts.iter().map(|text| serde_json::json!({"t": [text, {"n": 1}]})).collect::<Vec<_>>());
            let body = array.to_string();
            let cut = split_batch(body.as_bytes(), Content::Json).expect("an array");
            let read: Vec<serde_json::Value> = cut.iter().map(|item| serde_json::from_slice(item).expect("an item")).collect();
            prop_assert_eq!(serde_json::Value::from(read), array);
        }

        #[test]
        fn any_bytes_are_cut_or_refused(body in prop::collection::vec(prop::sample::select(b"[]{}\",\\ 1n".to_vec()), 0..64)) {
            for content in [Content::Json, Content::NdJson] {
                if let Ok(items) = split_batch(&body, content) {
                    prop_assert!(items.iter().map(|item| item.len()).sum::<usize>() <= body.len());
                }
            }
        }
    }
}
