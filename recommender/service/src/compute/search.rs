//! The one place that asks the item table. Filters, batches and funnels of `retrieval` plug in here;
//! nothing else in the service knows how items are found.

use crate::problem::Problem;
use crate::tiers::SearchMode;
use crate::view::{Allowed, View};
use retrieval::{Bitset, Filter, MAX_WITHOUT, RetrievalError, Scored, TailedFilter};

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
    pub(crate) hidden: [&'a [u32]; 3],
    /// If there, only these ids may come back; ascending.
    pub(crate) only: Option<&'a [u32]>,
    /// If there, only these items may come back.
    pub(crate) filter: Option<Allowed>,
    /// Whether the recall of search plans was measured with searches like this one.
    pub(crate) as_tuned: bool,
}

/// What a [`Search`] forbids of one of the two tables, in the form that the scan reads.
struct Forbidden {
    without: Vec<u32>,
    deny: Option<Bitset>,
    allow: Option<Bitset>,
}

/// The ids of one table within all: `start` is the last id before its first.
#[derive(Clone, Copy)]
struct Part {
    start: u32,
    items: usize,
}

impl Part {
    /// The ids of an ascending list that are in this part, as ids of its table.
    fn of<'a>(self, list: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let from = list.partition_point(|&id| id <= self.start);
        let to = list.partition_point(|&id| id as usize <= self.start as usize + self.items);
        list[from..to].iter().map(move |id| id - self.start)
    }
}

impl Search<'_> {
    fn allows(&self, id: u32) -> bool {
        let within = |list: &[u32]| list.binary_search(&id).is_ok();
        !self.hidden.iter().any(|list| within(list))
            && self.only.is_none_or(within)
            && self.filter.as_ref().is_none_or(|filter| filter.contains(id))
    }

    /// Short lists stay lists, which are asked for few rows; long ones become sets of bits.
    fn forbidden(&self, part: Part) -> Result<Forbidden, RetrievalError> {
        let hidden: Vec<u32> = self.hidden.iter().flat_map(|list| part.of(list)).collect();
        let short = hidden.len() <= MAX_WITHOUT;
        let set = |ids: &mut dyn Iterator<Item = u32>| Bitset::from_ids(part.items, ids);
        Ok(Forbidden {
            deny: if short { None } else { Some(set(&mut hidden.iter().copied())?) },
            without: if short { hidden } else { Vec::new() },
            allow: self.only.map(|only| set(&mut part.of(only))).transpose()?,
        })
    }
}

impl Forbidden {
    fn filter<'a>(&'a self, predicate: Option<&'a Bitset>) -> Filter<'a> {
        let mut filter = Filter::all().without(&self.without);
        if let Some(set) = &self.deny {
            filter = filter.deny(set);
        }
        if let Some(set) = &self.allow {
            filter = filter.allow(set);
        }
        if let Some(set) = predicate {
            filter = filter.allow(set);
        }
        filter
    }
}

/// Answers every search of a batch, in order; all are at one dim. Searches by vector are one matrix
/// product with the item table; those by item are rare and go one by one.
pub(crate) fn top_k_batch(view: &View, mode: SearchMode, searches: &[Search<'_>]) -> Vec<Result<Vec<Scored>, Problem>> {
    let vectors: Vec<(&Search<'_>, &[f32])> = searches
        .iter()
        .filter_map(|search| match search.query {
            Query::Vector(vector) => Some((search, vector)),
            Query::Item { .. } => None,
        })
        .collect();
    let mut by_vector = together_or_alone(&vectors, |some| batch(view, mode, some)).into_iter();
    let answer = |search: &Search<'_>| match search.query {
        Query::Vector(_) => by_vector.next().unwrap_or_else(|| Err(Problem::internal("a batch gave too few results"))),
        Query::Item { .. } => one(view, search),
    };
    searches.iter().map(answer).collect()
}

/// All at once; if one of them fails (a value that is not finite), each alone, so that the others are answered as they
/// would have been without it.
fn together_or_alone<T, R>(all: &[T], find: impl Fn(&[T]) -> Result<Vec<R>, Problem>) -> Vec<Result<R, Problem>> {
    if let Ok(found) = find(all) {
        return found.into_iter().map(Ok).collect();
    }
    let lacking = || Problem::internal("a search gave no result");
    all.iter().map(|one| find(std::slice::from_ref(one))?.pop().ok_or_else(lacking)).collect()
}

fn batch(view: &View, mode: SearchMode, searches: &[(&Search<'_>, &[f32])]) -> Result<Vec<Vec<Scored>>, Problem> {
    let Some((_, first)) = searches.first() else { return Ok(Vec::new()) };
    let dim = first.len();
    let own = Part { start: 0, items: view.table()?.items() - view.added().len() };
    let tail = Part { start: own.items as u32, items: view.added().len() };
    let each = |part: Part| searches.iter().map(move |(search, _)| search.forbidden(part));
    let of_own: Vec<Forbidden> = each(own).collect::<Result<_, _>>()?;
    let of_tail: Vec<Forbidden> = each(tail).collect::<Result<_, _>>()?;
    let filters = searches.iter().zip(of_own.iter().zip(&of_tail)).map(|((search, _), (own, tail))| {
        let (in_own, in_tail) = search.filter.as_ref().map(|filter| (&*filter.own, &*filter.added)).unzip();
        TailedFilter { table: own.filter(in_own), tail: tail.filter(in_tail) }
    });
    let filters: Vec<TailedFilter<'_>> = filters.collect();
    let queries: Vec<f32> = searches.iter().flat_map(|(_, vector)| vector.iter().copied()).collect();
    // One k for all, the largest; who asked for fewer gets the first of them.
    let k = searches.iter().map(|(search, _)| search.k).max().unwrap_or(1);
    let mut found = match mode {
        SearchMode::Exact => view.table()?.top_k_batch(&queries, dim, k, &filters, 1)?,
        SearchMode::Tuned => tuned(view, searches, &queries, k, &filters)?,
    };
    found.iter_mut().zip(searches).for_each(|(items, (search, _))| items.truncate(search.k));
    Ok(found)
}

/// Each by the plan of its dim where the Bundle has one that holds for it, else exactly; so what one request
/// gets does not depend on those beside it. What was added is searched exactly.
fn tuned(
    view: &View,
    searches: &[(&Search<'_>, &[f32])],
    queries: &[f32],
    k: usize,
    filters: &[TailedFilter<'_>],
) -> Result<Vec<Vec<Scored>>, Problem> {
    let (table, dim) = (view.own_table(), searches[0].1.len());
    let mut found = vec![Vec::new(); searches.len()];
    let mut exactly = Vec::new();
    for (at, ((search, query), filter)) in searches.iter().zip(filters).enumerate() {
        match view.plans().search(table, query, search.k, &filter.table, search.as_tuned) {
            Some(by_plan) => found[at] = by_plan?,
            None => exactly.push(at),
        }
    }
    let of = |at: &usize| searches[*at].1.iter().copied();
    let some: Vec<f32> = exactly.iter().flat_map(of).collect();
    let some_filters: Vec<Filter<'_>> = exactly.iter().map(|&at| filters[at].table.clone()).collect();
    if !exactly.is_empty() {
        let exact = table.top_k_batch(&some, dim, k, &some_filters, 1)?;
        exactly.iter().zip(exact).for_each(|(&at, items)| found[at] = items);
    }
    Ok(view.table()?.with_tail(found, queries, dim, k, filters, 1)?)
}

fn one(view: &View, search: &Search<'_>) -> Result<Vec<Scored>, Problem> {
    let (table, allowed) = (view.table()?, |id: u32| search.allows(id));
    let found = match search.query {
        Query::Vector(vector) => table.top_k(vector, search.k, &allowed),
        Query::Item { id, dim } => table.most_similar(id, dim, search.k, &allowed),
    };
    found.map_err(Problem::from)
}

#[cfg(test)]
mod tests {
    use super::together_or_alone;
    use crate::problem::Problem;

    #[test]
    fn one_that_fails_fails_alone() {
        let check = |all: &[i32], expect: &[Option<i32>], calls: usize| {
            let called = std::cell::Cell::new(0);
            let halves = |some: &[i32]| -> Result<Vec<i32>, Problem> {
                called.set(called.get() + 1);
                let half = |number: &i32| (number % 2 == 0).then_some(number / 2);
                some.iter().map(|number| half(number).ok_or_else(|| Problem::bad_request("odd"))).collect()
            };
            let found: Vec<Option<i32>> = together_or_alone(all, halves).into_iter().map(Result::ok).collect();
            assert_eq!((found.as_slice(), called.get()), (expect, calls), "{all:?}");
        };
        check(&[2, 4, 8], &[Some(1), Some(2), Some(4)], 1);
        check(&[2, 3, 8], &[Some(1), None, Some(4)], 4);
        check(&[], &[], 1);
    }
}
