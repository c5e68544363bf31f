//! `evaluate`: Bundle + Snapshot -> report.json and a table, ranking every item for every user.

use crate::arguments::{EvaluateArgs, SplitName};
use crate::artefacts::{check_report_output, open_bundle, open_snapshot, write_report};
use crate::output::{note, say};
use crate::progress::Progress;
use fmrlrec::{Part, Split};

/// Evaluates, writes the report, then prints the table.
pub(crate) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    check_report_output(&args.output)?;
    let bundle = open_bundle(&args.bundle)?;
    if let Some(block_dims) = &args.block_dims {
        bundle.shape().check_block_dims(block_dims)?;
    }
    let snapshot = open_snapshot(&args.snapshot)?;
    let split = match args.split {
        SplitName::Test => Split::Test,
        SplitName::Validation => Split::Validation,
    };
    let mut progress = Progress::new();
    let mut shown = |done, total| progress.update("evaluate", done as u64, total as u64);
    let old = args.against.as_deref().map(open_bundle).transpose()?;
    let part = match (&old, &args.block_dims) {
        (Some(old), _) => Part::Against(old),
        (None, Some(block_dims)) => Part::Cut(block_dims),
        (None, None) => Part::Whole,
    };
    let report = fmrlrec::evaluate(&bundle, &snapshot, split, part, &mut shown)?;
    progress.finish();
    if snapshot.fingerprint()? != bundle.trained_on() {
        note(&format!(
            "{} is not the Snapshot that {} was trained on: if its interactions differ, what it holds out may be what training saw",
            args.snapshot.display(),
            args.bundle.display(),
        ));
    }
    let path = write_report(&report, &args.output)?;
    say(&crate::table::quality(&report))?;
    say(&format!("{} users, {} items, {} split; {}", report.users, report.items, report.split, path.display()))
}
