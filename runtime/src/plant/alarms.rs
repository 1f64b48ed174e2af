//! The alarms of a plant model: rules as they are written, which twins each is for, and what is wrong with them.
//!
//! Promises: a rule that is accepted can be judged: its conditions compile, every name in them is one that its twins
//! have, with the nearest one told where not, and no alarms suppress each other in a circle. Which metrics twins have:
//! those that the model declares, and those of the native format. Knows nothing of how a rule is judged.

mod check;

use std::collections::HashMap;

use gemba_twins::{
    alarm::{AlarmRule, AlarmRules, AttributeCondition, Priority, StaleRule},
    config::TwinConfig,
    event::{Body, Event, Position},
    id::{Kind, TenantId, TwinId, check_id},
    time::Timestamp,
    twin::{Effects, Twin},
};
use serde::{Serialize, Serializer};

pub(super) use self::check::check;
use super::{
    PlantModel, Span,
    fields::{Fields, shortened},
    model::word,
    written::{Problems, Tree},
};

/// Longest id of a rule.
const ID_MAX: usize = 64;
/// Longest condition, in bytes.
const CONDITION_MAX: usize = 2_048;
/// Kinds of twin by the words of the model.
const KINDS: [(&str, Kind); 2] = [("machine", Kind::Machine), ("location", Kind::Location)];
/// Priorities by the words of the model.
const PRIORITIES: [(&str, Priority); 4] = [
    ("low", Priority::Low),
    ("medium", Priority::Medium),
    ("high", Priority::High),
    ("urgent", Priority::Urgent),
];
/// A rule of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarm {
    /// Its name.
    pub id: Box<str>,
    /// The twins it is for.
    pub applies_to: AppliesTo,
    /// When it is active, in CEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Box<str>>,
    /// Data that must not stay away, instead of a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// How urgent it is.
    #[serde(serialize_with = "as_priority")]
    pub priority: Priority,
    /// What a person reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// How far a value has to come back behind its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadband: Option<f64>,
    /// How long the condition has to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delay: Option<Span>,
    /// How long it has to fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_delay: Option<Span>,
    /// How long it is not raised again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refractory: Option<Span>,
    /// It stays until it is reset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub latching: bool,
    /// When it is suppressed by design, in CEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<Box<str>>,
}

/// Which twins a rule is for: all of a kind, those of them whose attributes fit, or those listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppliesTo {
    /// The kind.
    #[serde(serialize_with = "as_kind")]
    pub kind: Kind,
    /// CEL over `attributes`, as the model says them.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Box<str>>,
    /// Ids; empty takes all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Box<str>>,
}

/// Data that must not stay away.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stale {
    /// One metric; `None` takes any data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Box<str>>,
    /// For how long; `None` takes the twin's `stale_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
}

fn as_priority<S: Serializer>(value: &Priority, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(&PRIORITIES, *value))
}

fn as_kind<S: Serializer>(value: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(&KINDS, *value))
}

/// Reads one rule.
pub(super) fn alarm(tree: &Tree, path: String, problems: &mut Problems) -> Option<Alarm> {
    let known = [
        "id",
        "applies_to",
        "condition",
        "stale",
        "priority",
        "text",
        "deadband",
        "on_delay",
        "off_delay",
        "refractory",
        "latching",
        "suppressed_by",
    ];
    let mut fields = Fields::of(tree, path, &known, problems)?;
    let id = fields.id("id");
    if let Some(id) = &id
        && (id.len() > ID_MAX || id.contains(':'))
    {
        fields.problem(
            "id",
            &format!("at most {ID_MAX} characters without ':' are allowed"),
        );
    }
    let applies_to = applies_to(&mut fields);
    let condition = expression(&mut fields, "condition");
    let stale = stale(&mut fields);
    match (fields.get("condition").is_some(), fields.get("stale").is_some()) {
        (true, true) => fields.problem("stale", "stands beside a condition (take one of the two out)"),
        (false, false) => fields.problem("condition", "is missing (or say what must not go stale)"),
        _ => {}
    }
    let deadband = match fields.get("deadband") {
        None => None,
        Some(Tree::Number(number)) => number.as_f64().filter(|number| *number >= 0.0),
        Some(_) => None,
    };
    if fields.get("deadband").is_some() && deadband.is_none() {
        fields.problem(
            "deadband",
            "a number of 0 or more is needed, in the unit of the value",
        );
    }
    let read = Alarm {
        id: id.clone().unwrap_or_default(),
        applies_to: applies_to.clone().unwrap_or(AppliesTo {
            kind: Kind::Machine,
            condition: None,
            ids: Vec::new(),
        }),
        condition,
        stale,
        priority: fields.one_of("priority", &PRIORITIES).unwrap_or(Priority::Medium),
        text: fields.words("text"),
        deadband,
        on_delay: fields.span("on_delay"),
        off_delay: fields.span("off_delay"),
        refractory: fields.span("refractory"),
        latching: fields.truth("latching"),
        suppressed_by: expression(&mut fields, "suppressed_by"),
    };
    id.and(applies_to).map(|_| read)
}

fn expression(fields: &mut Fields<'_, '_>, field: &str) -> Option<Box<str>> {
    let text = fields.text(field)?.trim();
    if text.is_empty() || text.len() > CONDITION_MAX {
        fields.problem(field, &format!("1 to {CONDITION_MAX} bytes of CEL are needed"));
        return None;
    }
    Some(text.into())
}

fn applies_to(fields: &mut Fields<'_, '_>) -> Option<AppliesTo> {
    let Some(tree) = fields.get("applies_to") else {
        fields.problem("applies_to", "is missing (e.g. {kind: machine})");
        return None;
    };
    let path = fields.at("applies_to");
    // The kind alone may stand for itself.
    if let Tree::Text(text) = tree {
        let found = KINDS.iter().find(|(word, _)| word == text);
        if found.is_none() {
            fields.problem(
                "applies_to",
                &format!("{:?} is not one of machine, location", shortened(text)),
            );
        }
        return found.map(|(_, kind)| AppliesTo {
            kind: *kind,
            condition: None,
            ids: Vec::new(),
        });
    }
    let mut inner = Fields::of(tree, path, &["kind", "where", "ids"], fields.problems)?;
    if inner.get("kind").is_none() {
        inner.problem("kind", "is missing (machine or location)");
    }
    let kind = inner.one_of("kind", &KINDS);
    let condition = expression(&mut inner, "where");
    let ids = inner.list("ids", |tree, path, problems| match tree {
        Tree::Text(text) if check_id("the id", text, gemba_twins::id::ID_MAX).is_ok() => {
            Some(text.as_str().into())
        }
        _ => {
            problems.add(path, "the id of a twin is needed");
            None
        }
    });
    Some(AppliesTo {
        kind: kind?,
        condition,
        ids,
    })
}

fn stale(fields: &mut Fields<'_, '_>) -> Option<Stale> {
    let tree = fields.get("stale")?;
    if matches!(tree, Tree::Text(_)) {
        return fields.span("stale").map(|after| Stale {
            metric: None,
            after: Some(after),
        });
    }
    if *tree == Tree::Bool(true) {
        return Some(Stale {
            metric: None,
            after: None,
        });
    }
    let path = fields.at("stale");
    let mut inner = Fields::of(tree, path, &["metric", "after"], fields.problems)?;
    Some(Stale {
        metric: inner.words("metric"),
        after: inner.span("after"),
    })
}

impl Alarm {
    fn prepared(&self) -> (&AppliesTo, Option<AttributeCondition>, AlarmRule) {
        let condition = self.applies_to.condition.as_deref();
        let condition = condition.and_then(|text| AttributeCondition::compile(text).ok());
        (&self.applies_to, condition, self.rule())
    }

    fn rule(&self) -> AlarmRule {
        let ms = |span: Option<Span>| span.map_or(0, Span::ms);
        AlarmRule {
            id: self.id.clone(),
            condition: self.condition.clone().unwrap_or_default(),
            stale: self.stale.as_ref().map(|stale| StaleRule {
                metric: stale.metric.clone(),
                after_ms: stale.after.map(Span::ms),
            }),
            priority: self.priority,
            text: self.text.clone().unwrap_or_else(|| self.id.clone()),
            deadband: self.deadband.unwrap_or_default(),
            on_delay_ms: ms(self.on_delay),
            off_delay_ms: ms(self.off_delay),
            refractory_ms: ms(self.refractory),
            latching: self.latching,
            suppressed_by: self.suppressed_by.clone(),
        }
    }
}

/// The rules of a model, ready to be given to its twins.
pub(super) struct RulesByTwin<'m> {
    rules: Vec<(&'m AppliesTo, Option<AttributeCondition>, AlarmRule)>,
    /// Sets that were made already, by the rules in them.
    made: HashMap<Vec<usize>, AlarmRules>,
}

impl<'m> RulesByTwin<'m> {
    pub(super) fn of(model: &'m PlantModel) -> Self {
        Self {
            rules: model.alarms.iter().map(Alarm::prepared).collect(),
            made: HashMap::new(),
        }
    }

    /// The rules of a twin with these attributes.
    pub(super) fn take(&mut self, kind: Kind, id: &str, attributes: &str) -> AlarmRules {
        if self.rules.is_empty() {
            return AlarmRules::default();
        }
        let mut twin = None;
        let places: Vec<usize> = (0..self.rules.len())
            .filter(|place| {
                let (applies_to, condition, _) = &self.rules[*place];
                applies_to.takes(kind, id) && {
                    let mut fits = |condition: &AttributeCondition| {
                        let twin = twin.get_or_insert_with(|| described(kind, id, attributes));
                        twin.as_ref().is_some_and(|twin| condition.holds(twin))
                    };
                    match (&applies_to.condition, condition) {
                        (None, _) => true,
                        (Some(_), condition) => condition.as_ref().is_some_and(&mut fits),
                    }
                }
            })
            .collect();
        let rules = &self.rules;
        self.made
            .entry(places)
            .or_insert_with_key(|places| {
                AlarmRules::of(places.iter().map(|place| rules[*place].2.clone()).collect())
            })
            .clone()
    }
}

impl AppliesTo {
    fn takes(&self, kind: Kind, id: &str) -> bool {
        self.kind == kind && (self.ids.is_empty() || self.ids.iter().any(|listed| **listed == *id))
    }
}

/// A twin of which nothing is known but its attributes.
fn described(kind: Kind, id: &str, attributes: &str) -> Option<Twin> {
    let id = TwinId::new(TenantId::parse("model").ok()?, kind, id).ok()?;
    let at = Timestamp::from_ms(0);
    let config = TwinConfig {
        model_version: 1,
        attributes: attributes.into(),
        ..TwinConfig::default()
    };
    let event = Event {
        twin: id.clone(),
        at,
        received_at: at,
        source: "".into(),
        message_id: "".into(),
        origin: None,
        body: Body::Configured(Box::new(config)),
    };
    let mut twin = Twin::new(id);
    twin.fold(Position::default(), &event, &mut Effects::default());
    Some(twin)
}
