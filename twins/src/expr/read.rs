//! From text to an expression, by the `cel` crate's parser.
//!
//! Promises: bounded in length, depth and size; what CEL has and we have not is refused by name, with the functions
//! there are. Knows nothing of which names exist.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::{
    IdedExpr, Program,
    common::ast::{CallExpr, Expr as Cel, LiteralValue, operators as op},
};

use super::{Expr, ExprError, Node, Op, Tree};

/// Longest text, in bytes.
const TEXT_MAX: usize = 2_048;
/// Most nodes of an expression.
pub(super) const NODES_MAX: usize = 256;
/// Deepest nesting: evaluation recurses.
const DEPTH_MAX: usize = 48;
/// Deepest nesting of brackets and signs: the parser recurses, and deeper than we do.
const NESTING_MAX: usize = 24;

const FUNCTIONS: [&str; 13] = [
    "min",
    "max",
    "abs",
    "round",
    "floor",
    "ceil",
    "sqrt",
    "coalesce",
    "known",
    "startsWith",
    "endsWith",
    "contains",
    "double",
];

pub(super) fn read(text: &str) -> Result<Expr, ExprError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ExprError::new("the expression is empty"));
    }
    if text.len() > TEXT_MAX {
        return Err(ExprError::new(format!(
            "the expression has {} bytes (at most {TEXT_MAX} are allowed)",
            text.len()
        )));
    }
    if nesting(text) > NESTING_MAX {
        return Err(ExprError::new(format!(
            "the expression nests deeper than {NESTING_MAX} levels"
        )));
    }
    // The parser is generated code over foreign text; should it panic, the text is to blame.
    let program = match catch_unwind(AssertUnwindSafe(|| Program::compile(text))) {
        Ok(Ok(program)) => program,
        Ok(Err(problems)) => return Err(syntax(text, &problems)),
        Err(_) => return Err(ExprError::new("the expression cannot be parsed")),
    };
    let mut reader = Reader::default();
    reader.read(program.expression(), 0).map_err(|(node, detail)| {
        let offset = program.source_info().offset_for(node);
        let position = offset.map(|(start, _)| start as usize);
        let at = position.map(|position| format!(" at character {}", position + 1));
        ExprError {
            detail: detail + &at.unwrap_or_default(),
            position,
        }
    })?;
    Ok(Expr(
        Tree {
            text: text.into(),
            nodes: reader.nodes.into(),
            numbers: reader.numbers.into(),
            texts: reader.texts.into(),
            names: reader.names.into(),
        }
        .into(),
    ))
}

/// How deep brackets, signs and chains of conditions nest, roughly and on the safe side.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut signs, mut conditions) = (0_usize, 0, 0_usize, 0);
    for character in text.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => conditions += 1,
            _ => {}
        }
        signs = match character {
            '!' | '-' => signs + 1,
            character if character.is_whitespace() => signs,
            _ => 0,
        };
        deepest = deepest.max(depth + signs + conditions);
    }
    deepest
}

fn syntax(text: &str, problems: &cel::parser::ParseErrors) -> ExprError {
    let example = "(example: power_kw / max(throughput_rate, 1.0))";
    let Some(first) = problems.errors.first() else {
        return ExprError::new(format!("the expression cannot be parsed {example}"));
    };
    // Lines and columns count from 1; (0, 0) is nowhere.
    let column = usize::try_from(first.pos.1).unwrap_or(0);
    let position = (first.pos.0 == 1 && column > 0).then(|| (column - 1).min(text.chars().count()));
    let at = position.map(|position| format!(" at character {}", position + 1));
    let message: String = first.msg.chars().take(200).collect();
    ExprError {
        detail: format!("{message}{} {example}", at.unwrap_or_default()),
        position,
    }
}

type Refused = (u64, String);

#[derive(Default)]
struct Reader {
    nodes: Vec<Node>,
    numbers: Vec<f64>,
    texts: Vec<Box<str>>,
    names: Vec<Box<str>>,
}

impl Reader {
    fn read(&mut self, expression: &IdedExpr, depth: usize) -> Result<u16, Refused> {
        let refuse = |what: &str| {
            Err((
                expression.id,
                format!("{what} cannot be used in an expression here"),
            ))
        };
        if depth > DEPTH_MAX {
            return Err((
                expression.id,
                format!("the expression nests deeper than {DEPTH_MAX} levels"),
            ));
        }
        let node = match &expression.expr {
            Cel::Literal(literal) => match literal {
                LiteralValue::Boolean(yes) => leaf(Op::Bool, u16::from(*yes.inner())),
                LiteralValue::Double(number) => self.number(*number.inner()),
                LiteralValue::Int(number) => self.number(*number.inner() as f64),
                LiteralValue::UInt(number) => self.number(*number.inner() as f64),
                LiteralValue::String(text) => {
                    self.texts.push(text.inner().into());
                    leaf(Op::Text, place(self.texts.len() - 1))
                }
                LiteralValue::Null => return refuse("null"),
                LiteralValue::Bytes(_) => return refuse("a literal of bytes"),
            },
            Cel::Ident(_) => self.name(Op::Name, expression)?,
            Cel::Select(select) if select.test => {
                let mut path = path(&select.operand).ok_or((expression.id, "has() needs a name".into()))?;
                path.push('.');
                path.push_str(&select.field);
                self.named(Op::Known, &path)
            }
            Cel::Select(_) => self.name(Op::Name, expression)?,
            Cel::Call(call) => return self.call(expression.id, call, depth + 1),
            Cel::List(_) => return refuse("a list (but for `name in [\"a\", \"b\"]`)"),
            Cel::Map(_) | Cel::Struct(_) => return refuse("a map"),
            Cel::Comprehension(_) => return refuse("a loop (exists, all, map, filter)"),
            Cel::Unspecified => return refuse("nothing"),
        };
        self.push(expression.id, node)
    }

    fn call(&mut self, id: u64, call: &CallExpr, depth: usize) -> Result<u16, Refused> {
        let name = call.func_name.as_str();
        let binary = match name {
            op::LOGICAL_AND => Op::And,
            op::LOGICAL_OR => Op::Or,
            op::ADD => Op::Add,
            op::SUBSTRACT => Op::Subtract,
            op::MULTIPLY => Op::Multiply,
            op::DIVIDE => Op::Divide,
            op::MODULO => Op::Modulo,
            op::EQUALS => Op::Equal,
            op::NOT_EQUALS => Op::NotEqual,
            op::LESS => Op::Less,
            op::LESS_EQUALS => Op::LessOrEqual,
            op::GREATER => Op::Greater,
            op::GREATER_EQUALS => Op::GreaterOrEqual,
            "min" => Op::Min,
            "max" => Op::Max,
            "coalesce" => Op::Coalesce,
            "startsWith" | "endsWith" | "contains" => return self.text_test(id, call, depth),
            op::IN => return self.one_of(id, call, depth),
            op::CONDITIONAL => {
                let [condition, yes, no] = self.arguments::<3>(id, call, depth)?;
                let node = Node {
                    op: Op::If,
                    a: condition,
                    b: yes,
                    c: no,
                };
                return self.push(id, node);
            }
            "double" => return self.arguments::<1>(id, call, depth).map(|[only]| only),
            "known" => {
                let [only] = &call.args[..] else {
                    return Err((id, "known() needs one name".into()));
                };
                let node = self.name(Op::Known, only)?;
                return self.push(id, node);
            }
            _ => {
                let unary = match name {
                    op::LOGICAL_NOT => Op::Not,
                    op::NEGATE => Op::Negate,
                    "abs" => Op::Abs,
                    "round" => Op::Round,
                    "floor" => Op::Floor,
                    "ceil" => Op::Ceil,
                    "sqrt" => Op::Sqrt,
                    op::INDEX | op::OPT_INDEX | op::OPT_SELECT => {
                        return Err((id, "an index cannot be used in an expression here".into()));
                    }
                    _ => return Err((id, unknown_function(name))),
                };
                let [only] = self.arguments::<1>(id, call, depth)?;
                return self.push(
                    id,
                    Node {
                        b: 0,
                        ..pair(unary, only, 0)
                    },
                );
            }
        };
        // `a && b && c` comes as one call of three; min and max take as many as one likes.
        if call.target.is_some() || call.args.len() < 2 {
            return Err((id, format!("{} needs two values or more", shown(name))));
        }
        let mut joined = self.read(&call.args[0], depth)?;
        for argument in &call.args[1..] {
            let next = self.read(argument, depth)?;
            joined = self.push(id, pair(binary, joined, next))?;
        }
        Ok(joined)
    }

    fn arguments<const N: usize>(
        &mut self,
        id: u64,
        call: &CallExpr,
        depth: usize,
    ) -> Result<[u16; N], Refused> {
        if call.target.is_some() || call.args.len() != N {
            return Err((
                id,
                format!("{} needs {N} value{}", shown(&call.func_name), plural(N)),
            ));
        }
        let mut read = [0; N];
        for (place, argument) in read.iter_mut().zip(&call.args) {
            *place = self.read(argument, depth)?;
        }
        Ok(read)
    }

    /// `text.startsWith("x")`.
    fn text_test(&mut self, id: u64, call: &CallExpr, depth: usize) -> Result<u16, Refused> {
        let (Some(target), [argument]) = (&call.target, &call.args[..]) else {
            return Err((id, format!("{0} is written as text.{0}(\"…\")", call.func_name)));
        };
        let test = match call.func_name.as_str() {
            "startsWith" => Op::StartsWith,
            "endsWith" => Op::EndsWith,
            _ => Op::Contains,
        };
        let text = self.read(target, depth)?;
        let wanted = self.read(argument, depth)?;
        self.push(id, pair(test, text, wanted))
    }

    /// `name in ["a", "b"]`: the name is any of them.
    fn one_of(&mut self, id: u64, call: &CallExpr, depth: usize) -> Result<u16, Refused> {
        let [value, list] = &call.args[..] else {
            return Err((id, "in needs a value and a list".into()));
        };
        let Cel::List(list) = &list.expr else {
            return Err((id, "in needs a list of values, e.g. [\"idle\", \"down\"]".into()));
        };
        let mut joined = None;
        for element in &list.elements {
            let value = self.read(value, depth)?;
            let element = self.read(element, depth)?;
            let equal = self.push(id, pair(Op::Equal, value, element))?;
            joined = Some(match joined {
                None => equal,
                Some(before) => self.push(id, pair(Op::Or, before, equal))?,
            });
        }
        joined.ok_or((id, "in needs a list that is not empty".into()))
    }

    fn name(&mut self, op: Op, expression: &IdedExpr) -> Result<Node, Refused> {
        let path = path(expression).ok_or((
            expression.id,
            "a field of something that is not a name cannot be used here".into(),
        ))?;
        Ok(self.named(op, &path))
    }

    fn named(&mut self, op: Op, path: &str) -> Node {
        let known = self.names.iter().position(|known| **known == *path);
        let at = known.unwrap_or_else(|| {
            self.names.push(path.into());
            self.names.len() - 1
        });
        leaf(op, place(at))
    }

    fn number(&mut self, number: f64) -> Node {
        self.numbers.push(number);
        leaf(Op::Number, place(self.numbers.len() - 1))
    }

    fn push(&mut self, id: u64, node: Node) -> Result<u16, Refused> {
        if self.nodes.len() >= NODES_MAX {
            return Err((id, format!("the expression has more than {NODES_MAX} parts")));
        }
        self.nodes.push(node);
        Ok(place(self.nodes.len() - 1))
    }
}

fn leaf(op: Op, a: u16) -> Node {
    pair(op, a, 0)
}

fn pair(op: Op, a: u16, b: u16) -> Node {
    Node { op, a, b, c: 0 }
}

/// Tables are never longer than there are nodes.
fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// `a.b.c` as one name.
fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Cel::Ident(name) => Some(name.clone()),
        Cel::Select(select) if !select.test => {
            let mut path = path(&select.operand)?;
            path.push('.');
            path.push_str(&select.field);
            Some(path)
        }
        _ => None,
    }
}

/// An operator as people write it: `_+_` is `+`.
fn shown(name: &str) -> &str {
    let bare = name.trim_matches(|character| matches!(character, '_' | '@'));
    if bare.is_empty() { name } else { bare }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn unknown_function(name: &str) -> String {
    let name: String = name.chars().take(40).collect();
    let nearest = FUNCTIONS
        .into_iter()
        .max_by(|one, other| strsim::jaro_winkler(one, &name).total_cmp(&strsim::jaro_winkler(other, &name)));
    format!(
        "{name:?} is not a function here (did you mean {:?}? there are {})",
        nearest.unwrap_or_default(),
        FUNCTIONS.join(", ")
    )
}
