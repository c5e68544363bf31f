//! The iterative k-core: drop users and items with too few interactions until none is left to drop.
//! The result does not depend on the order of dropping: it is the largest set that satisfies both.

use crate::BuildError;
use crate::config::KCoreConfig;
use crate::tables::{collect, context, register};
use arrow::array::RecordBatch;

/// Keeps the rows (columns `user`, `item`, ...) of the k-core, in no stated order.
///
/// # Errors
/// Nothing is left.
pub(crate) async fn k_core(rows: RecordBatch, config: KCoreConfig) -> Result<RecordBatch, BuildError> {
    let fail = |e: datafusion::error::DataFusionError| BuildError::query("k-core", e.strip_backtrace());
    let KCoreConfig { min_user, min_item } = config;
    let round = format!(
        "SELECT * FROM kept \
         WHERE item IN (SELECT item FROM kept GROUP BY item HAVING count(*) >= {min_item}) \
           AND \"user\" IN (SELECT \"user\" FROM kept GROUP BY \"user\" HAVING count(*) >= {min_user})"
    );
    let context = context();
    let mut kept = rows;
    // Each round but the last drops a row, so this ends.
    loop {
        register(&context, "kept", kept.clone())?;
        let next = collect(context.sql(&round).await.map_err(fail)?).await.map_err(fail)?;
        if next.num_rows() == kept.num_rows() {
            return Ok(next);
        }
        if next.num_rows() == 0 {
            return Err(BuildError::config(
                "k_core",
                format!("no interaction is left with min_user {min_user} and min_item {min_item}; lower them"),
            ));
        }
        kept = next;
    }
}
