//! Items that came after training: projected from their features to an item vector, at every dim at
//! once, and read in histories beside the Bundle's own.
//!
//! The projector is all that stands between features and an item vector, so an item with features needs
//! no training. What training learned of items one by one (`model.item_embedding`) it lacks.

use super::Bundle;
use crate::ops::host_values;
use crate::{BundleError, Cpu};
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

/// A feature that the Bundle projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureWidth {
    /// Name in the Snapshot and in requests.
    pub name: String,
    /// Numbers of a vector.
    pub width: usize,
}

/// How much longer than the longest trained item vector a projected one may be: what is far longer comes
/// from features unlike those of the training, and would win every ranking by its length alone.
const MOST_TIMES_LONGER: f64 = 10.0;

impl Bundle {
    /// The features that were trained on, in the order in which they are put side by side.
    ///
    /// # Errors
    /// There are none, or the Bundle is too old to say how wide each of several is.
    pub fn features(&self) -> Result<Vec<FeatureWidth>, BundleError> {
        let names = &self.config.features;
        let refused = |reason: &str| Err(BundleError::Feature { field: "features".into(), reason: reason.into() });
        let widths = match (names.len(), self.feature_widths.len()) {
            (0, _) => return refused("are of no use: the Bundle has learned items one by one and from no feature"),
            (1, 0) => &[self.feature_dim][..],
            (names, widths) if names == widths => &self.feature_widths[..],
            _ => return refused("cannot be taken apart: the Bundle does not say how wide each is; train it again"),
        };
        Ok(names.iter().zip(widths).map(|(name, &width)| FeatureWidth { name: name.clone(), width }).collect())
    }

    /// The item vector `[D]` of an item with these features; its prefixes are those of the smaller dims.
    /// A feature that is absent counts as zeros, as in training. For an item of the Snapshot it is its
    /// row of the item table, but for rounding, less its learned embedding where the Bundle has those.
    ///
    /// # Errors
    /// A name that was not trained on, a vector of another width or with a value that is not finite, no
    /// vector at all, or a result far longer than any trained item's.
    pub fn item_vector(&self, features: &BTreeMap<String, Vec<f32>>) -> Result<Vec<f32>, BundleError> {
        let known = self.features()?;
        let refused = |field: String, reason: String| Err(BundleError::Feature { field, reason });
        if let Some(name) = features.keys().find(|name| !known.iter().any(|known| known.name == **name)) {
            let known: Vec<String> = known.iter().map(|known| format!("{} ({})", known.name, known.width)).collect();
            let reason = format!("was not trained on; the features and their widths are: {}", known.join(", "));
            return refused(format!("features.{name}"), reason);
        }
        if features.is_empty() {
            return refused("features".into(), "is empty; send at least one vector".into());
        }
        let mut row = Vec::with_capacity(self.feature_dim);
        for FeatureWidth { name, width } in known {
            match features.get(&name) {
                None => row.resize(row.len() + width, 0.0),
                Some(vector) if vector.len() != width => {
                    let found = vector.len();
                    return refused(format!("features.{name}"), format!("has {found} numbers; send {width}"));
                }
                Some(vector) => match vector.iter().position(|value| !value.is_finite()) {
                    None => row.extend_from_slice(vector),
                    Some(at) => return refused(format!("features.{name}[{at}]"), "is no finite number".into()),
                },
            }
        }
        self.project(row)
    }

    fn project(&self, row: Vec<f32>) -> Result<Vec<f32>, BundleError> {
        let refused = |reason: String| Err(BundleError::Feature { field: "features".into(), reason });
        let width = row.len();
        let row = Tensor::<Cpu, 2>::from_data(TensorData::new(row, [1, width]), &Default::default());
        let Some(vectors) = self.model().item_vectors(row) else {
            return refused("are of no use: the Bundle has no projector".into());
        };
        let vector: Vec<f32> = host_values(vectors);
        let (length, longest) = (length(&vector), self.longest_item());
        // Written so that NaN is refused too.
        if length <= MOST_TIMES_LONGER * longest {
            return Ok(vector);
        }
        refused(format!(
            "give an item vector of length {length:.3e}, and the longest trained one is {longest:.3e}; send vectors of \
             the encoder that made the training's features"
        ))
    }

    /// Length of the longest trained item vector.
    pub(super) fn longest_item(&self) -> f64 {
        let width = self.config.model.largest_dim();
        *self.longest_item.get_or_init(|| self.table.chunks_exact(width).skip(1).map(length).fold(0.0, f64::max))
    }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}
