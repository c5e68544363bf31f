//! A condition on items' attributes as a request states it, and its check against the attributes there
//! are: what is wrong is named by its place in the request.

use crate::config::LimitsConfig;
use crate::problem::Problem;
use crate::view::View;
use retrieval::{Predicate, RetrievalError};
use serde::Deserialize;

/// Which items may be answered. An item without a value satisfies no condition on it.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(no_recursion, example = json!({"all": [
    {"equals": {"attribute": "genre", "value": "Sci-Fi"}},
    {"range": {"attribute": "year", "from": 1977, "to": 1999}}
]}))]
pub(crate) enum ItemFilter {
    /// Items with this text, among others where an item has several.
    Equals {
        /// A text attribute.
        attribute: String,
        /// The text, at most `limits.key_bytes` long.
        value: String,
    },
    /// Items with one of these texts.
    OneOf {
        /// A text attribute.
        attribute: String,
        /// The texts, at most 1000, each at most `limits.key_bytes` long.
        values: Vec<String>,
    },
    /// Items with a number between two, both included; an absent one is no bound.
    Range {
        /// A number attribute.
        attribute: String,
        /// Smallest number.
        from: Option<f64>,
        /// Largest number.
        to: Option<f64>,
    },
    /// Items that satisfy every one.
    All(Vec<ItemFilter>),
    /// Items that satisfy at least one.
    Any(Vec<ItemFilter>),
    /// Items that do not satisfy it.
    Not(Box<ItemFilter>),
}

impl ItemFilter {
    /// # Errors
    /// 400: a text longer than a key may be, with its place.
    pub(crate) fn check_values(&self, place: &str, limits: &LimitsConfig) -> Result<(), Problem> {
        let text = |place: String, value: &str| match value.len() {
            bytes if bytes > limits.key_bytes => Err(Problem::bad_request(format!(
                "{place} has {bytes} bytes; at most {} are accepted (limits.key_bytes)",
                limits.key_bytes
            ))),
            _ => Ok(()),
        };
        let list = |kind: &str, inner: &[ItemFilter]| {
            let mut inner = inner.iter().enumerate();
            inner.try_for_each(|(index, inner)| inner.check_values(&format!("{place}.{kind}[{index}]"), limits))
        };
        match self {
            ItemFilter::Equals { value, .. } => text(format!("{place}.equals.value"), value),
            ItemFilter::OneOf { values, .. } => {
                let mut values = values.iter().enumerate();
                values.try_for_each(|(index, value)| text(format!("{place}.one_of.values[{index}]"), value))
            }
            ItemFilter::Range { .. } => Ok(()),
            ItemFilter::All(inner) => list("all", inner),
            ItemFilter::Any(inner) => list("any", inner),
            ItemFilter::Not(inner) => inner.check_values(&format!("{place}.not"), limits),
        }
    }

    /// The predicate, if the view's attributes can answer it.
    ///
    /// # Errors
    /// 400: an attribute that does not exist or is of the other type, or too many conditions, with its
    /// place.
    pub(crate) fn predicate(self, view: &View) -> Result<Predicate, Problem> {
        let predicate = self.checked("filter", view)?;
        // Sizes count over the whole.
        view.metadata().check(&predicate).map_err(|error| at("filter", &error))?;
        Ok(predicate)
    }

    fn checked(self, place: &str, view: &View) -> Result<Predicate, Problem> {
        let leaf = |kind: &str, predicate: Predicate| {
            let checked = view.metadata().check(&predicate);
            checked.map(|()| predicate).map_err(|error| at(&format!("{place}.{kind}"), &error))
        };
        let list = |kind: &str, inner: Vec<ItemFilter>| -> Result<Vec<Predicate>, Problem> {
            let one = |(index, inner): (usize, ItemFilter)| inner.checked(&format!("{place}.{kind}[{index}]"), view);
            inner.into_iter().enumerate().map(one).collect()
        };
        Ok(match self {
            ItemFilter::Equals { attribute: column, value } => leaf("equals", Predicate::Equals { column, value })?,
            ItemFilter::OneOf { attribute: column, values } => leaf("one_of", Predicate::OneOf { column, values })?,
            ItemFilter::Range { attribute: column, from, to } => leaf("range", Predicate::Range { column, from, to })?,
            ItemFilter::All(inner) => Predicate::All(list("all", inner)?),
            ItemFilter::Any(inner) => Predicate::Any(list("any", inner)?),
            ItemFilter::Not(inner) => Predicate::Not(Box::new(inner.checked(&format!("{place}.not"), view)?)),
        })
    }
}

/// In a request columns are called attributes.
fn at(place: &str, error: &RetrievalError) -> Problem {
    match error {
        RetrievalError::Column { name, kind, known } => {
            // A name is echoed only as far as it can be one.
            let name: String = name.chars().take(64).collect();
            Problem::bad_request(format!(
                "{place}.attribute: there is no {kind} attribute {name:?}; {kind} attributes are {known:?}"
            ))
        }
        error => Problem::bad_request(format!("{place}: {error}")),
    }
}
