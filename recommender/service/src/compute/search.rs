//! The one place that asks the item table. Filters, batches and funnels of `retrieval` plug in here;
//! nothing else in the service knows how items are found.

use crate::problem::Problem;
use retrieval::{NestedTable, Scored};

/// Where items are looked for.
pub(crate) enum Query<'a> {
    /// By inner product with a user vector, whose length is the dim.
    Vector(&'a [f32]),
    /// By cosine with an item, at a dim.
    Item {
        /// Item id.
        id: u32,
        /// A trained dim.
        dim: usize,
    },
}

/// One search.
pub(crate) struct Search<'a> {
    pub(crate) query: Query<'a>,
    pub(crate) k: usize,
    /// Ids that must not come back, as ascending lists.
    pub(crate) hidden: [&'a [u32]; 2],
    /// If there, only these ids may come back; ascending.
    pub(crate) only: Option<&'a [u32]>,
}

impl Search<'_> {
    fn allows(&self, id: u32) -> bool {
        let within = |list: &[u32]| list.binary_search(&id).is_ok();
        !self.hidden.iter().any(|list| within(list)) && self.only.is_none_or(within)
    }
}

/// Answers every search of a batch, in order; all are at one dim.
pub(crate) fn top_k_batch(table: &NestedTable, searches: &[Search<'_>]) -> Vec<Result<Vec<Scored>, Problem>> {
    let one = |search: &Search<'_>| {
        let allowed = |id: u32| search.allows(id);
        let found = match search.query {
            Query::Vector(vector) => table.top_k(vector, search.k, &allowed),
            Query::Item { id, dim } => table.most_similar(id, dim, search.k, &allowed),
        };
        found.map_err(Problem::from)
    };
    searches.iter().map(one).collect()
}
