//! A condition on what is known of an item: genre, year, price, shop.

use crate::RetrievalError;

/// Most conditions of one predicate, those inside others counted.
pub const MAX_CONDITIONS: usize = 64;
/// Most values of one [`Predicate::OneOf`].
pub const MAX_VALUES: usize = 1_000;

/// Which items to let through. An item that has no value in a column satisfies no condition on it; `Not`
/// of a condition lets it through.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// Items that have this value (among others, in a column of many values).
    Equals {
        /// A text column.
        column: String,
        /// The value.
        value: String,
    },
    /// Items that have one of these values.
    OneOf {
        /// A text column.
        column: String,
        /// The values, at most [`MAX_VALUES`].
        values: Vec<String>,
    },
    /// Items with a number between two, both included; `None` is no bound.
    Range {
        /// A number column.
        column: String,
        /// Smallest number let through.
        from: Option<f64>,
        /// Largest number let through.
        to: Option<f64>,
    },
    /// Items that satisfy every one; all items if there is none.
    All(Vec<Predicate>),
    /// Items that satisfy at least one; no item if there is none.
    Any(Vec<Predicate>),
    /// Items that do not satisfy it.
    Not(Box<Predicate>),
}

impl Predicate {
    /// Refuses what is too large, or a bound that is no number.
    pub(crate) fn check(&self) -> Result<(), RetrievalError> {
        let conditions = self.conditions();
        if conditions > MAX_CONDITIONS {
            return Err(RetrievalError::Predicate { what: "conditions", count: conditions, most: MAX_CONDITIONS });
        }
        self.check_leaves()
    }

    fn check_leaves(&self) -> Result<(), RetrievalError> {
        match self {
            Predicate::OneOf { values, .. } if values.len() > MAX_VALUES => {
                Err(RetrievalError::Predicate { what: "values", count: values.len(), most: MAX_VALUES })
            }
            Predicate::Range { column, from, to } if from.iter().chain(to).any(|bound| bound.is_nan()) => {
                Err(RetrievalError::Bound { column: column.clone() })
            }
            Predicate::All(inner) | Predicate::Any(inner) => inner.iter().try_for_each(Predicate::check_leaves),
            Predicate::Not(inner) => inner.check_leaves(),
            _ => Ok(()),
        }
    }

    fn conditions(&self) -> usize {
        match self {
            Predicate::All(inner) | Predicate::Any(inner) => 1 + inner.iter().map(Predicate::conditions).sum::<usize>(),
            Predicate::Not(inner) => 1 + inner.conditions(),
            _ => 1,
        }
    }
}
