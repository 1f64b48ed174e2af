//! Expressions as a table: what they give, what is absent and why, and what is refused.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use prost::Message;

use super::*;

/// A machine that draws 12 kW, makes 4 parts an hour and is producing; its spare counter was never received.
fn look(name: &str) -> Option<Operand<'_>> {
    Some(match name {
        "power_kw" => Operand::Number(12.0),
        "throughput_rate" => Operand::Number(4.0),
        "standby_kw" => Operand::Number(0.0),
        "kpis.oee" => Operand::Number(0.75),
        "execution" => Operand::Text("producing"),
        "door_open" => Operand::Bool(false),
        _ => return None,
    })
}

fn shown(text: &str) -> String {
    let expr = Expr::parse(text).expect("an expression");
    match expr.evaluate(&look) {
        Ok(Operand::Number(number)) => number.to_string(),
        Ok(Operand::Bool(yes)) => yes.to_string(),
        Ok(Operand::Text(text)) => text.into(),
        Err(absent) => format!("absent: {absent}"),
    }
}

#[test]
fn an_expression_gives_what_its_inputs_lead_to() {
    for (text, wanted) in [
        ("power_kw / max(throughput_rate, 1.0)", "3"),
        ("power_kw / throughput_rate", "3"),
        ("1 / 2", "0.5"),
        ("7 % 4", "3"),
        ("-power_kw + 2u * 3", "-6"),
        ("min(power_kw, 5, 7.5) - abs(-2)", "3"),
        ("round(2.5) + floor(-0.5) + ceil(0.2) + sqrt(16)", "7"),
        ("kpis.oee < 0.8 ? 1 : 0", "1"),
        ("execution == \"producing\" && !door_open", "true"),
        ("execution in [\"idle\", \"down\"]", "false"),
        ("execution.startsWith(\"prod\") || spare > 1", "true"),
        ("spare > 1 || execution.contains(\"duc\")", "true"),
        ("door_open && spare > 1", "false"),
        ("has(kpis.oee) && !known(spare)", "true"),
        ("coalesce(spare, power_kw, 1)", "12"),
        ("double(power_kw)", "12"),
        ("power_kw >= 12 && power_kw <= 12 && power_kw != 13", "true"),
        ("execution", "producing"),
    ] {
        assert_eq!(shown(text), wanted, "{text}");
    }
}

#[test]
fn what_cannot_be_known_is_absent_with_its_reason_and_never_zero() {
    for (text, wanted) in [
        ("power_kw / spare", "absent: spare has no value"),
        ("power_kw / standby_kw", "absent: division by zero"),
        ("power_kw % standby_kw", "absent: division by zero"),
        ("sqrt(-power_kw)", "absent: the result is not a finite number"),
        ("1e308 * power_kw", "absent: the result is not a finite number"),
        ("execution + 1", "absent: a number is needed"),
        ("power_kw && true", "absent: true or false is needed"),
        ("!door_open && spare > 1", "absent: spare has no value"),
        ("door_open ? 1 : spare", "absent: spare has no value"),
    ] {
        assert_eq!(shown(text), wanted, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_when_it_is_read() {
    for (text, wanted) in [
        ("", "the expression is empty"),
        ("power_kw +", "(example: power_kw / max(throughput_rate, 1.0))"),
        (
            "maximum(power_kw, 1)",
            "\"maximum\" is not a function here (did you mean \"max\"?",
        ),
        ("pow(power_kw, 2)", "\"pow\" is not a function here"),
        ("max(1)", "max needs two values or more"),
        ("abs(1, 2)", "abs needs 1 value"),
        (
            "[1, 2].map(x, x * 2)",
            "a loop (exists, all, map, filter) cannot be used",
        ),
        ("{\"a\": 1}", "a map cannot be used"),
        ("power_kw in [1].b", "in needs a list of values"),
        ("power_kw == null", "null cannot be used"),
        ("metrics[\"power_kw\"]", "an index cannot be used"),
        ("b\"abc\" == name", "a literal of bytes cannot be used"),
        ("\"a\" + 1", "+ needs a number, not a text"),
        ("1 == \"a\"", "== puts a number beside a text"),
        ("true ? 1 : \"a\"", "? : puts a number beside a text"),
        ("!3", "! needs true or false, not a number"),
        (
            "((((((((((((((((((((((((((1))))))))))))))))))))))))))",
            "nests deeper than 24 levels",
        ),
    ] {
        let error = Expr::parse(text).expect_err(text);
        assert!(error.detail.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn kinds_that_do_not_fit_are_found_before_there_are_values() {
    let kinds = |name: &str| match name {
        "execution" => Some(ValueKind::Text),
        "power_kw" => Some(ValueKind::Number),
        _ => None,
    };
    let check = |text: &str| Expr::parse(text).expect("an expression").check(&kinds);
    assert_eq!(
        check("execution * 2").map_err(|error| error.detail),
        Err("* needs a number, not a text (execution)".into())
    );
    assert_eq!(check("power_kw * 2"), Ok(Some(ValueKind::Number)));
    assert_eq!(check("power_kw > 2"), Ok(Some(ValueKind::Bool)));
    assert_eq!(check("recipe"), Ok(None));
}

#[test]
fn an_expression_names_what_it_asks_for_once_and_survives_its_way_to_disk() {
    let text = "power_kw > 2 && power_kw < 9 && execution == \"producing\" && has(kpis.oee) ? round(1.5) : -power_kw";
    let expr = Expr::parse(text).expect("an expression");
    assert_eq!(
        expr.names().collect::<Vec<_>>(),
        ["power_kw", "execution", "kpis.oee"]
    );
    let bytes = ExprWire::of(&expr).encode_to_vec();
    let back = ExprWire::decode(&bytes[..])
        .expect("bytes")
        .expr()
        .expect("an expression");
    assert_eq!(back, expr);
    assert_eq!(back.evaluate(&look), expr.evaluate(&look));
}

#[test]
fn a_damaged_expression_is_refused_and_not_evaluated() {
    let expr = Expr::parse("power_kw + 1").expect("an expression");
    let whole = ExprWire::of(&expr).encode_to_vec();
    let mut refused = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            // Whatever is still taken must end when it is evaluated.
            match ExprWire::decode(&bytes[..]).map(ExprWire::expr) {
                Ok(Ok(expr)) => drop(expr.evaluate(&look).map(|_| ())),
                _ => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}
