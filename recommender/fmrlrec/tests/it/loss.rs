//! The tiled loss against a plain one in f64, and its gradients against finite differences.

use fmrlrec::ops::{lru_scan, lru_scan_backward, nested_cross_entropy};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn plain_loss(x: &[f32], table: &[f32], labels: &[u32], dims: &[usize]) -> f64 {
    let width = *dims.last().unwrap();
    let mut sum = 0.0;
    for (x, label) in x.chunks(width).zip(labels) {
        for &dim in dims {
            let logit = |item: &[f32]| (0..dim).map(|c| f64::from(x[c]) * f64::from(item[c])).sum::<f64>();
            let logits: Vec<f64> = table.chunks(width).map(logit).collect();
            sum += logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[*label as usize];
        }
    }
    sum / (labels.len() * dims.len()) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tiles_change_nothing(seed in 0u64..1000, positions in 1usize..300, items in 2usize..90, dims in prop::sample::select(vec![vec![3], vec![2, 5], vec![1, 4, 8]])) {
        let width = *dims.last().unwrap();
        let (x, table) = (random(seed, positions * width), random(seed + 1, items * width));
        let labels: Vec<u32> = (0..positions).map(|p| (p * 7 % items) as u32).collect();
        let result = nested_cross_entropy(&x, &table, &labels, &dims);
        prop_assert!((result.loss - plain_loss(&x, &table, &labels, &dims)).abs() < 1e-5);
        for at in [0, x.len() / 2, x.len() - 1] {
            let numeric = slope(&x, at, |x| plain_loss(x, &table, &labels, &dims));
            prop_assert!((f64::from(result.dx[at]) - numeric).abs() < 1e-4);
        }
        for at in [0, table.len() / 2, table.len() - 1] {
            let numeric = slope(&table, at, |table| plain_loss(&x, table, &labels, &dims));
            prop_assert!((f64::from(result.dtable[at]) - numeric).abs() < 1e-4);
        }
    }

    #[test]
    fn the_scans_backward_is_its_derivative(seed in 0u64..1000, t in 1usize..12, d in 1usize..5) {
        let (u, lambda, weight) = (random(seed, t * 2 * d), random(seed + 1, 2 * d), random(seed + 2, t * 2 * d));
        let keep: Vec<f32> = (0..t).map(|at| if at % 4 == 0 { 0.0 } else { 1.0 }).collect();
        let value = |u: &[f32], lambda: &[f32]| -> f64 {
            lru_scan(u, lambda, &keep).iter().zip(&weight).map(|(h, w)| f64::from(*h) * f64::from(*w)).sum()
        };
        let (du, dlambda) = lru_scan_backward(&lru_scan(&u, &lambda, &keep), &lambda, &keep, &weight);
        for at in 0..u.len() {
            prop_assert!((f64::from(du[at]) - slope(&u, at, |u| value(u, &lambda))).abs() < 2e-3);
        }
        for at in 0..lambda.len() {
            prop_assert!((f64::from(dlambda[at]) - slope(&lambda, at, |lambda| value(&u, lambda))).abs() < 2e-2);
        }
    }
}

fn slope(values: &[f32], at: usize, f: impl Fn(&[f32]) -> f64) -> f64 {
    let mut moved = values.to_vec();
    moved[at] = values[at] + 1e-2;
    let (up, above) = (f(&moved), moved[at]);
    moved[at] = values[at] - 1e-2;
    (up - f(&moved)) / (f64::from(above) - f64::from(moved[at]))
}
