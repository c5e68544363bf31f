//! Why an item: what its score loses when an item of the history is left out. One model step for each
//! history item looked at, so only the newest are, and only when asked.

use crate::problem::Problem;
use crate::view::View;
use fmrlrec::Cut;
use retrieval::Scored;

/// Newest history items looked at.
const LOOKED_AT: usize = 10;
/// History items named for each result.
const NAMED: usize = 3;

/// For each of `items`, the history items that pushed it most: id and what the score loses without it,
/// largest first; only losses are named. `read` is what the model read, oldest first.
///
/// # Errors
/// The Bundle's failure.
pub(crate) fn explain(
    view: &View,
    read: &[u32],
    (dim, cut): (usize, &Cut),
    items: &[Scored],
) -> Result<Vec<Vec<(u32, f32)>>, Problem> {
    let table = view.table()?;
    let vectors = items.iter().map(|item| table.vector(item.id, dim)).collect::<Result<Vec<_>, _>>()?;
    let mut losses: Vec<Vec<(u32, f32)>> = vec![Vec::new(); items.len()];
    let first = read.len().saturating_sub(LOOKED_AT);
    for left_out in first..read.len() {
        let rest: Vec<u32> = read.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, id)| *id).collect();
        let user = view.fold(&rest, dim, cut)?;
        for ((item, vector), losses) in items.iter().zip(&vectors).zip(&mut losses) {
            let without: f32 = vector.iter().zip(user.vector()).map(|(a, b)| a * b).sum();
            losses.push((read[left_out], item.score - without));
        }
    }
    for losses in &mut losses {
        losses.retain(|(_, loss)| *loss > 0.0);
        losses.sort_by(|a, b| b.1.total_cmp(&a.1));
        losses.truncate(NAMED);
    }
    Ok(losses)
}
