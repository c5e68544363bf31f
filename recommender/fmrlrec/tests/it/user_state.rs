//! Law 2 as a Bundle offers it: a state carried on item by item is the state of the whole history, at
//! every dim, and is the forward pass's user vector.

use crate::training::{config, snapshot};
use fmrlrec::{Bundle, Cut, Device, TrainConfig, UserState, train};
use proptest::prelude::*;
use std::sync::OnceLock;

const ITEMS: u32 = 24;

/// A trained Bundle of two blocks with normed vectors, made once.
fn bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<(tempfile::TempDir, Bundle)> = OnceLock::new();
    let (_, bundle) = BUNDLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = TrainConfig { epochs: 2, ..config() };
        config.model.blocks = 2;
        config.model.vector_norm = true;
        let path = dir.path().join("bundle");
        train(&snapshot(&dir.path().join("snapshot"), |_| ()), &config, &path, false, Device::Cpu, &mut ()).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        (dir, bundle)
    });
    bundle
}

fn close(one: &[f32], other: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(other) {
        prop_assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{} is not {}", a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn steps_from_anywhere_end_in_the_state_of_the_whole(
        history in prop::collection::vec(1..=ITEMS, 0..60),
        cut in 0.0_f64..1.0,
    ) {
        let bundle = bundle();
        let from = (history.len() as f64 * cut) as usize;
        for &dim in bundle.dims() {
            let mut state: UserState = bundle.fold(&history[..from], dim).unwrap();
            for item in &history[from..] {
                state = bundle.advance(&state, *item).unwrap();
            }
            close(state.vector(), bundle.fold(&history, dim).unwrap().vector())?;
            prop_assert_eq!(state.dim(), dim);
        }
    }

    /// A dim for each block: laws 1 and 2 hold for every cut as they do for the whole.
    #[test]
    fn a_cut_is_carried_on_like_the_whole_and_its_prefix_serves_smaller_dims(
        history in prop::collection::vec(1..=ITEMS, 1..30), from in 0usize..30, dims in prop::sample::select(vec![[16, 8], [8, 16], [4, 4], [16, 0], [0, 8]]),
    ) {
        let bundle = bundle();
        let cut = Cut::new(&dims, &bundle.shape()).unwrap();
        let rows: Vec<&[f32]> = history.iter().map(|id| &bundle.item_table()[*id as usize * 16..][..16]).collect();
        let from = from.min(rows.len());
        let mut state = bundle.fold_of(&rows[..from], 16, &cut).unwrap();
        for row in &rows[from..] {
            state = bundle.advance_by(&state, row).unwrap();
        }
        let whole = bundle.fold_of(&rows, 16, &cut).unwrap();
        close(state.vector(), whole.vector())?;
        prop_assert_eq!((state.cut(), state.bytes()), (&cut, whole.bytes()));
        for &dim in bundle.dims() {
            close(&whole.vector()[..dim], bundle.fold_of(&rows, dim, &cut).unwrap().vector())?;
        }
    }

    #[test]
    fn a_fold_is_the_forward_pass_and_its_prefix_the_smaller_dims(history in prop::collection::vec(1..=ITEMS, 0..=8)) {
        let bundle = bundle();
        let largest = bundle.fold(&history, 16).unwrap();
        for &dim in bundle.dims() {
            let vector = bundle.user_vector(&history, dim).unwrap();
            close(bundle.fold(&history, dim).unwrap().vector(), &vector)?;
            close(&largest.vector()[..dim], &vector)?;
        }
    }
}

#[test]
fn what_the_bundle_does_not_have_is_refused() {
    let bundle = bundle();
    let other = fmrlrec::BundleShape { blocks: 3, ..bundle.shape() };
    assert!(bundle.fold_of(&[], 8, &other.whole()).is_err(), "a cut of a deeper model");
    let refused = |done: Result<UserState, fmrlrec::BundleError>, part: &str| {
        let reason = done.unwrap_err().to_string();
        assert!(reason.contains(part), "{reason:?} lacks {part:?}");
    };
    refused(bundle.fold(&[1], 7), "dim 7 was not trained");
    refused(bundle.fold(&[ITEMS + 1], 8), "item id 25");
    let state = bundle.fold(&[1, 2], 8).unwrap();
    refused(bundle.advance(&state, ITEMS + 1), "item id 25");
    assert_eq!(state.bytes(), (8 + 2 * 2 * 8) * 4);
}
