//! Why an item: what its score loses when an item of the history is left out. What lies before the newest is read once;
//! each of the newest that is left out costs a model step for each one after it, so only they are looked at, and only
//! when asked.

use crate::problem::Problem;
use crate::view::View;
use fmrlrec::Cut;
use retrieval::Scored;

/// Newest history items looked at.
const LOOKED_AT: usize = 10;
/// History items named for each result.
const NAMED: usize = 3;

/// Of each item, history items and what its score loses without them.
type Losses = Vec<Vec<(u32, f32)>>;

/// For each of `items`, the history items that pushed it most: id and what the score loses without it,
/// largest first; only losses are named. `read` is what the model read, oldest first. Then how many items the model
/// read for that.
///
/// # Errors
/// The Bundle's failure.
pub(crate) fn explain(
    view: &View,
    read: &[u32],
    (dim, cut): (usize, &Cut),
    items: &[Scored],
) -> Result<(Losses, usize), Problem> {
    let table = view.table()?;
    let vectors = items.iter().map(|item| table.vector(item.id, dim)).collect::<Result<Vec<_>, _>>()?;
    let mut losses: Losses = vec![Vec::new(); items.len()];
    let (older, newest) = read.split_at(read.len().saturating_sub(LOOKED_AT));
    if newest.is_empty() {
        return Ok((losses, 0));
    }
    // The state after what came before the item that is left out. The start token is an item too.
    let mut before = view.fold(older, dim, cut)?;
    let mut model_items = older.len().max(1);
    for (at, &left_out) in newest.iter().enumerate() {
        let rest = &newest[at + 1..];
        let mut user = before.clone();
        for &id in rest {
            user = view.advance(&user, id)?;
        }
        model_items += rest.len();
        if !rest.is_empty() {
            before = view.advance(&before, left_out)?;
            model_items += 1;
        }
        for ((item, vector), losses) in items.iter().zip(&vectors).zip(&mut losses) {
            let without: f32 = vector.iter().zip(user.vector()).map(|(a, b)| a * b).sum();
            losses.push((left_out, item.score - without));
        }
    }
    for losses in &mut losses {
        losses.retain(|(_, loss)| *loss > 0.0);
        losses.sort_by(|a, b| b.1.total_cmp(&a.1));
        losses.truncate(NAMED);
    }
    Ok((losses, model_items))
}
