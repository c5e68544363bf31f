//! Law 2 as a Bundle offers it: a state carried on item by item is the state of the whole history, at
//! every dim, and is the forward pass's user vector.

use crate::training::{config, snapshot};
use fmrlrec::{Bundle, Device, TrainConfig, UserState, train};
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
