//! What the shape of a CEL text says against parsing it: the parser recurses, and foreign text must not exhaust it.
//!
//! Promises: a text that passes is parsed in bounded depth. Knows nothing of CEL beyond its brackets and operators.

/// Deepest nesting of brackets and signs.
const NESTING_MAX: usize = 24;
/// Longest chain of operators of one kind: it becomes an expression as deep as it is long.
const CHAIN_MAX: usize = 200;

/// Why a text (named `what`, e.g. `filter`) is not even parsed; `None` where nothing speaks against it.
#[must_use]
pub fn shape(what: &str, text: &str) -> Option<String> {
    let (mut depth, mut deepest, mut signs, mut chain) = (0_usize, 0, 0_usize, 0_usize);
    let mut quote = None;
    for character in text.chars() {
        match quote {
            // An escaped quote counts as the end: what follows is then counted although it is text, on the safe side.
            Some(open) if character == open => quote = None,
            Some(_) => continue,
            None => {}
        }
        match character {
            '"' | '\'' => quote = Some(character),
            '(' | '[' | '{' | '?' => {
                depth += 1;
                chain += 1;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '*' | '/' | '%' | '.' | '<' | '>' | '=' => chain += 1,
            _ => {}
        }
        // `!!!x` and `- - x` nest without brackets.
        signs = match character {
            '!' | '-' => signs + 1,
            character if character.is_whitespace() => signs,
            _ => 0,
        };
        if matches!(character, '&' | '|' | ',') {
            // Those are balanced by the parser, or form lists.
            chain = 0;
        }
        deepest = deepest.max(depth + signs);
        if chain > CHAIN_MAX {
            return Some(format!(
                "the {what} holds a chain of more than {CHAIN_MAX} operators"
            ));
        }
    }
    (deepest > NESTING_MAX).then(|| format!("the {what} nests deeper than {NESTING_MAX} levels"))
}
