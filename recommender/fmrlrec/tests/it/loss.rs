//! The tiled loss against a plain one in f64, and its gradients against finite differences.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use fmrlrec::Cpu;
use fmrlrec::ops::{
    Factored, NestedBackend, Objective, Scoring, host_values, lru_scan, lru_scan_backward, nested_cross_entropy,
    nested_norm, nested_norm_backward, portable,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Logits of every (position, dim), in f64.
fn logits(x: &[f32], table: &[f32], objective: &Objective) -> Vec<Vec<f64>> {
    let Objective { dims, logit_scales, .. } = objective;
    let width = *dims.last().unwrap();
    let score = |x: &[f32], item: &[f32], dim| (0..dim).map(|c| f64::from(x[c]) * f64::from(item[c])).sum::<f64>();
    let of = |x, dim, scale| table.chunks(width).map(|item| scale * score(x, item, dim)).collect();
    let rows = x.chunks(width).flat_map(|x| dims.iter().zip(logit_scales).map(move |(dim, scale)| (x, *dim, *scale)));
    rows.map(|(x, dim, scale)| of(x, dim, scale)).collect()
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
    logits.iter().map(|l| l - sum).collect()
}

/// The objective with the teacher's logits given, so that they are constant.
fn plain_loss(x: &[f32], table: &[f32], labels: &[u32], objective: &Objective, teacher: &[Vec<f64>]) -> f64 {
    let dims = objective.dims.len();
    let mut sum = 0.0;
    for (at, logits) in logits(x, table, objective).iter().enumerate() {
        let (row, dim) = (at / dims, at % dims);
        let log_p = log_softmax(logits);
        let hard = -log_p[labels[row] as usize];
        let taught = log_softmax(&teacher[row * dims + dims - 1]);
        let soft: f64 = taught.iter().zip(&log_p).map(|(t, l)| -t.exp() * l).sum();
        let share = if dim + 1 == dims { 0.0 } else { objective.distillation };
        sum += objective.weights[dim] * ((1.0 - share) * hard + share * soft);
    }
    sum / labels.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tiles_weights_and_distillation_are_the_plain_loss(
        seed in 0u64..1000,
        positions in 1usize..150,
        items in 2usize..700,
        dims in prop::sample::select(vec![vec![3], vec![2, 5], vec![1, 4, 8]]),
        distillation in prop::sample::select(vec![0.0, 0.4]),
    ) {
        let width = *dims.last().unwrap();
        let (x, table) = (random(seed, positions * width), random(seed + 1, items * width));
        let labels: Vec<u32> = (0..positions).map(|p| (p * 7 % items) as u32).collect();
        let weights = (0..dims.len()).map(|at| 0.2 + at as f64).collect();
        let logit_scales = (0..dims.len()).map(|at| 1.5 - 0.4 * at as f64).collect();
        let objective = Objective { dims, weights, logit_scales, distillation };
        let scoring = Scoring { x: &x, table: &table, factored: &[], features: &[], labels: &labels };
        let result = nested_cross_entropy(scoring, &objective);
        let teacher = logits(&x, &table, &objective);
        let hard = Objective { distillation: 0.0, ..objective.clone() };
        prop_assert!((result.loss - plain_loss(&x, &table, &labels, &hard, &teacher)).abs() < 1e-4);
        for at in [0, x.len() - 1] {
            let numeric = slope(&x, at, |x| plain_loss(x, &table, &labels, &objective, &teacher));
            prop_assert!((f64::from(result.dx[at]) - numeric).abs() < 1e-3);
        }
        for at in [0, table.len() - 1] {
            let numeric = slope(&table, at, |table| plain_loss(&x, table, &labels, &objective, &teacher));
            prop_assert!((f64::from(result.dtable[at]) - numeric).abs() < 1e-3);
        }
    }

    #[test]
    fn factored_slices_give_the_same_loss_and_gradients(
        seed in 0u64..1000,
        positions in 1usize..150,
        items in 2usize..700,
        factored in 1usize..3,
    ) {
        let (dims, f) = ([2, 5, 9], 4);
        let (head, slices) = (dims[2 - factored], &[2..5, 5..9][2 - factored..]);
        let features = random(seed + 2, items * f);
        let weight = random(seed + 3, 9 * f);
        let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        // Table columns past the head are features times weight.
        let mut table = random(seed + 1, items * 9);
        for (row, features) in table.chunks_mut(9).zip(features.chunks(f)) {
            (head..9).for_each(|c| row[c] = product(features, &weight[c * f..][..f]));
        }
        let x = random(seed, positions * 9);
        let labels: Vec<u32> = (0..positions).map(|p| (p * 7 % items) as u32).collect();
        let objective = Objective { logit_scales: vec![1.5, 0.5, 1.0], ..Objective::mean(&dims) };
        let whole = nested_cross_entropy(Scoring { x: &x, table: &table, factored: &[], features: &[], labels: &labels }, &objective);

        let cut = |rows: &[f32]| -> Vec<f32> { rows.chunks(9).flat_map(|row| row[..head].to_vec()).collect() };
        let (x_head, table_head) = (cut(&x), cut(&table));
        let by_column = |c: usize, k: usize| weight[c * f + k];
        let products: Vec<f32> = x.chunks(9).flat_map(|x| slices.iter().flat_map(move |slice| {
            let slice = slice.clone();
            (0..f).map(move |k| slice.clone().map(|c| x[c] * by_column(c, k)).sum::<f32>())
        })).collect();
        let scoring = Scoring { x: &x_head, table: &table_head, factored: &products, features: &features, labels: &labels };
        let parts = nested_cross_entropy(scoring, &objective);

        prop_assert!((whole.loss - parts.loss).abs() < 1e-5);
        for (a, b) in [(cut(&whole.dx), parts.dx), (cut(&whole.dtable), parts.dtable)] {
            prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        // The chain rule takes the factored gradient back to x: dx = dproducts W^T.
        for (row, (dx, dproducts)) in whole.dx.chunks(9).zip(parts.dfactored.chunks(factored * f)).enumerate() {
            for (at, slice) in slices.iter().enumerate() {
                for c in slice.clone() {
                    let back = product(&dproducts[at * f..][..f], &weight[c * f..][..f]);
                    prop_assert!((dx[c] - back).abs() < 1e-5, "row {row}, column {c}: {} and {back}", dx[c]);
                }
            }
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
        for (at, du) in du.iter().enumerate() {
            prop_assert!((f64::from(*du) - slope(&u, at, |u| value(u, &lambda))).abs() < 2e-3);
        }
        for (at, dlambda) in dlambda.iter().enumerate() {
            prop_assert!((f64::from(*dlambda) - slope(&lambda, at, |lambda| value(&u, lambda))).abs() < 2e-2);
        }
    }

    #[test]
    fn the_norms_backward_is_its_derivative(seed in 0u64..1000, n in 1usize..6, widths in norm_widths()) {
        let d: usize = widths.iter().sum();
        let (x, params, weight) = (random(seed, n * d), random(seed + 1, 2 * d), random(seed + 2, n * d));
        let value = |x: &[f32], params: &[f32]| -> f64 {
            nested_norm(x, params, &widths).iter().zip(&weight).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        let (dx, dparams) = nested_norm_backward(&x, &params, &widths, &weight);
        for (at, dparam) in dparams.iter().enumerate() {
            prop_assert!((f64::from(*dparam) - slope(&params, at, |params| value(&x, params))).abs() < 2e-3);
        }
        // In f64, since a narrow slice with a small variance is steep.
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let (x, params, weight) = (wide(&x), wide(&params), wide(&weight));
        let exact = nested_norm_backward(&x, &params, &widths, &weight).0;
        let sum = |x: &[f64]| -> f64 { nested_norm(x, &params, &widths).iter().zip(&weight).map(|(y, w)| y * w).sum() };
        for (at, (dx, exact)) in dx.iter().zip(&exact).enumerate() {
            let moved = |by: f64| { let mut x = x.clone(); x[at] += by; sum(&x) };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            prop_assert!((exact - slope).abs() < 1e-4 * (1.0 + exact.abs()), "{exact} and {slope}");
            prop_assert!((f64::from(*dx) - exact).abs() < 1e-2 * (1.0 + exact.abs()), "{dx} and {exact}");
        }
    }
}

/// Slices of several widths, with and without a rest beside whole registers.
fn norm_widths() -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::select(vec![vec![3], vec![8], vec![2, 4, 8], vec![8, 8, 17], vec![5, 30]])
}

fn slope(values: &[f32], at: usize, f: impl Fn(&[f32]) -> f64) -> f64 {
    let mut moved = values.to_vec();
    moved[at] = values[at] + 1e-2;
    let (up, above) = (f(&moved), moved[at]);
    moved[at] = values[at] - 1e-2;
    (up - f(&moved)) / (f64::from(above) - f64::from(moved[at]))
}

/// Values, shape and back: both implementations on the CPU backend.
fn tensor(values: &[f32], columns: usize) -> FloatTensor<Cpu> {
    let data = TensorData::new(values.to_vec(), [values.len() / columns, columns]);
    Tensor::<Cpu, 2>::from_data(data, &Default::default()).into_primitive().tensor()
}

fn values(tensor: FloatTensor<Cpu>) -> Vec<f32> {
    host_values(Tensor::<Cpu, 2>::from_primitive(TensorPrimitive::Float(tensor)))
}

fn close(a: FloatTensor<Cpu>, b: FloatTensor<Cpu>, tolerance: f32) {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() <= tolerance, "{a} and {b}"));
}

#[test]
fn portable_scan_agrees_with_the_host_one() {
    let d = 3;
    for t in [1, 2, 7, 33] {
        let (u, grad) = (random(1, t * 2 * d), random(2, t * 2 * d));
        let lambda: Vec<f32> = random(3, 2 * d).iter().map(|value| value * 0.7).collect();
        let keep: Vec<f32> = (0..t).map(|at| if at % 9 == 0 || at == 4 { 0.0 } else { 1.0 }).collect();
        let h = Cpu::lru_scan(tensor(&u, 2 * d), tensor(&lambda, d), &keep);
        close(h.clone(), portable::lru_scan::<Cpu>(tensor(&u, 2 * d), tensor(&lambda, d), &keep), 1e-5);
        let host = Cpu::lru_scan_backward(h.clone(), tensor(&lambda, d), &keep, tensor(&grad, 2 * d));
        let portable = portable::lru_scan_backward::<Cpu>(h, tensor(&lambda, d), &keep, tensor(&grad, 2 * d));
        host.into_iter().zip(portable).for_each(|(a, b)| close(a, b, 1e-4));
    }
}

#[test]
fn portable_norm_agrees_with_the_host_one() {
    let widths = [4, 4, 8, 19];
    let d: usize = widths.iter().sum();
    // More rows than are added up at a time.
    for n in [1, 2, 700] {
        let (x, params, grad) = (random(1, n * d), random(2, 2 * d), random(3, n * d));
        let (x, params, grad) = (|| tensor(&x, d), || tensor(&params, d), || tensor(&grad, d));
        let host = Cpu::nested_norm(x(), params(), &widths);
        close(host, portable::nested_norm::<Cpu>(x(), params(), &widths), 1e-5);
        let host = Cpu::nested_norm_backward(x(), params(), &widths, grad());
        let portable = portable::nested_norm_backward::<Cpu>(x(), params(), &widths, grad());
        host.into_iter().zip(portable).for_each(|(a, b)| close(a, b, 1e-3));
    }
}

#[test]
fn portable_loss_agrees_with_the_host_one() {
    let (p, items, f) = (20, 5000, 6);
    let labels: Vec<u32> = (0..p as u32).map(|at| at * 211 % items as u32).collect();
    let (dims, weights, logit_scales) = (vec![2, 5, 9], vec![0.5, 0.2, 0.3], vec![1.5, 1.0, 0.5]);
    let objective = Objective { dims, weights, logit_scales, distillation: 0.3 };
    for columns in [9, 5, 2] {
        let slices = objective.dims.iter().filter(|dim| **dim > columns).count();
        let inputs = || {
            let factored = (slices > 0).then(|| Factored {
                products: tensor(&random(3, p * slices * f), slices * f),
                features: tensor(&random(4, items * f), f),
            });
            (tensor(&random(1, p * columns), columns), tensor(&random(2, items * columns), columns), factored)
        };
        let (x, table, factored) = inputs();
        let host = Cpu::nested_cross_entropy(x, table, factored, &labels, &objective);
        let (x, table, factored) = inputs();
        let portable = portable::nested_cross_entropy::<Cpu>(x, table, factored, &labels, &objective);
        close(host.loss, portable.loss, 1e-5);
        close(host.dx, portable.dx, 1e-5);
        close(host.dtable, portable.dtable, 1e-6);
        assert_eq!(host.dfactored.is_some(), portable.dfactored.is_some());
        host.dfactored.into_iter().zip(portable.dfactored).for_each(|(a, b)| close(a, b, 1e-5));
    }
}
