//! The own operations in plain tensor operations, for a backend that has no kernels of its own. All
//! values stay on the device. The loss goes over the same item tiles as the host version; the scan
//! doubles its reach each round, `log2(longest sequence)` rounds in all.

use super::{Factored, LAYER_NORM_EPS, LossAndGrads, Objective, slices};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use std::ops::Range;

/// Items scored together.
const ITEMS: usize = 4096;

/// As [`super::NestedBackend::lru_scan`].
pub fn lru_scan<B: Backend>(u: FloatTensor<B>, lambda: FloatTensor<B>, keep: &[f32]) -> FloatTensor<B> {
    let (u, lambda) = (tensor::<B>(u), tensor::<B>(lambda));
    let since_start = distances(keep);
    primitive(doubling(u, lambda, &since_start, |x, step| shift(x, step, true)))
}

/// As [`super::NestedBackend::lru_scan_backward`].
pub fn lru_scan_backward<B: Backend>(
    h: FloatTensor<B>,
    lambda: FloatTensor<B>,
    keep: &[f32],
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let (h, lambda, grad) = (tensor::<B>(h), tensor::<B>(lambda), tensor::<B>(grad));
    let [re, im] = halves(lambda, 0);
    let conjugate = Tensor::cat(vec![re, im.neg()], 0);
    // Backward in time: how many tokens of the same sequence follow.
    let mut until_end = vec![0usize; keep.len()];
    for t in (1..keep.len()).rev() {
        until_end[t - 1] = if keep[t] == 0.0 { 0 } else { until_end[t] + 1 };
    }
    let g = doubling(grad, conjugate, &until_end, |x, step| shift(x, step, false));
    let keep = Tensor::<B, 2>::from_data(TensorData::new(keep.to_vec(), [keep.len(), 1]), &g.device());
    let [hr, hi] = halves(shift(h, 1, true) * keep, 1);
    let [gr, gi] = halves(g.clone(), 1);
    let re = (hr.clone() * gr.clone() + hi.clone() * gi.clone()).sum_dim(0);
    let im = (hr * gi - hi * gr).sum_dim(0);
    [primitive(g), primitive(Tensor::cat(vec![re, im], 0))]
}

/// As [`super::NestedBackend::nested_norm`].
pub fn nested_norm<B: Backend>(x: FloatTensor<B>, params: FloatTensor<B>, widths: &[usize]) -> FloatTensor<B> {
    let (x, params) = (tensor::<B>(x), tensor::<B>(params));
    let (scale, shift) = (params.clone().narrow(0, 0, 1), params.narrow(0, 1, 1));
    let parts = ranges(widths).map(|at| standardised(columns(&x, &at)).0).collect();
    primitive(Tensor::cat(parts, 1) * scale + shift)
}

/// As [`super::NestedBackend::nested_norm_backward`].
pub fn nested_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    params: FloatTensor<B>,
    widths: &[usize],
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let (x, params, grad) = (tensor::<B>(x), tensor::<B>(params), tensor::<B>(grad));
    let scaled = grad.clone() * params.narrow(0, 0, 1);
    let (mut dx, mut z) = (Vec::new(), Vec::new());
    for at in ranges(widths) {
        let (part, rate) = standardised(columns(&x, &at));
        let g = columns(&scaled, &at);
        let along = (g.clone() * part.clone()).mean_dim(1);
        dx.push((g.clone() - g.mean_dim(1) - part.clone() * along) * rate);
        z.push(part);
    }
    let dscale = (grad.clone() * Tensor::cat(z, 1)).sum_dim(0);
    [primitive(Tensor::cat(dx, 1)), primitive(Tensor::cat(vec![dscale, grad.sum_dim(0)], 0))]
}

/// Rows at mean 0 and variance 1, and what they were multiplied by, `[n, 1]`.
fn standardised<B: Backend>(x: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().powf_scalar(2.0).mean_dim(1);
    let rate = (variance + LAYER_NORM_EPS).sqrt().recip();
    (centred * rate.clone(), rate)
}

fn columns<B: Backend>(x: &Tensor<B, 2>, at: &Range<usize>) -> Tensor<B, 2> {
    x.clone().narrow(1, at.start, at.len())
}

fn ranges(widths: &[usize]) -> impl Iterator<Item = Range<usize>> {
    widths.iter().scan(0, |start, width| {
        let at = *start..*start + width;
        *start = at.end;
        Some(at)
    })
}

/// Round k adds `lambda^(2^k)` times what lies `2^k` tokens away in the same sequence.
fn doubling<B: Backend>(
    mut x: Tensor<B, 2>,
    lambda: Tensor<B, 2>,
    reach: &[usize],
    shift: impl Fn(Tensor<B, 2>, usize) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let longest = reach.iter().copied().max().unwrap_or(0);
    let [mut re, mut im] = halves(lambda, 0);
    let mut step = 1;
    while step <= longest {
        let inside: Vec<f32> = reach.iter().map(|reach| if *reach >= step { 1.0 } else { 0.0 }).collect();
        let inside = Tensor::from_data(TensorData::new(inside, [reach.len(), 1]), &x.device());
        let [xr, xi] = halves(shift(x.clone(), step) * inside, 1);
        let far = vec![xr.clone() * re.clone() - xi.clone() * im.clone(), xr * im.clone() + xi * re.clone()];
        x = x + Tensor::cat(far, 1);
        (re, im) = (re.clone() * re.clone() - im.clone() * im.clone(), re * im * 2.0);
        step *= 2;
    }
    x
}

/// Tokens of the same sequence before each token.
fn distances(keep: &[f32]) -> Vec<usize> {
    let mut since = 0;
    let mut next = |keep: &f32| {
        since = if *keep == 0.0 { 0 } else { since + 1 };
        since
    };
    keep.iter().enumerate().map(|(t, keep)| if t == 0 { next(&0.0) } else { next(keep) }).collect()
}

/// Rows moved by `step`, zeros where none come from.
fn shift<B: Backend>(x: Tensor<B, 2>, step: usize, later: bool) -> Tensor<B, 2> {
    let [t, d] = x.dims();
    if t <= step {
        return x.zeros_like();
    }
    let zeros = Tensor::zeros([step, d], (&x.device(), x.dtype()));
    if later {
        Tensor::cat(vec![zeros, x.narrow(0, 0, t - step)], 0)
    } else {
        Tensor::cat(vec![x.narrow(0, step, t - step), zeros], 0)
    }
}

fn halves<B: Backend>(x: Tensor<B, 2>, dim: usize) -> [Tensor<B, 2>; 2] {
    let half = x.dims()[dim] / 2;
    [x.clone().narrow(dim, 0, half), x.narrow(dim, half, half)]
}

/// As [`super::NestedBackend::nested_cross_entropy`].
pub fn nested_cross_entropy<B: Backend>(
    x: FloatTensor<B>,
    table: FloatTensor<B>,
    factored: Option<Factored<B>>,
    labels: &[u32],
    objective: &Objective,
) -> LossAndGrads<B> {
    let table = tensor::<B>(table);
    let (items, width) = (table.dims()[0], table.dims()[1]);
    let slices = slices(&objective.dims);
    assert_eq!(objective.weights.len(), slices.len(), "one weight a dim");
    assert_eq!(objective.logit_scales.len(), slices.len(), "one logit scale a dim");
    let columns = slices.iter().take_while(|slice| slice.end <= width).count();
    let (products, features) = match factored {
        Some(Factored { products, features }) => (Some(tensor::<B>(products)), Some(tensor::<B>(features))),
        None => (None, None),
    };
    let problem = Problem { x: tensor(x), table, products, features, slices, columns };
    let ids: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [labels.len()]), &problem.x.device());

    let tiles = || (0..items).step_by(ITEMS).map(|start| start..(start + ITEMS).min(items));
    let log_sums = problem.log_sums(tiles(), &objective.logit_scales);
    let loss = problem.loss(&log_sums, ids.clone(), objective);
    let mut dx = problem.x.zeros_like();
    let mut dproducts = problem.products.as_ref().map(Tensor::zeros_like);
    let mut dtable = Vec::new();
    for tile in tiles() {
        let grads = problem.logit_gradients(tile.clone(), &log_sums, ids.clone(), objective);
        let part = problem.gradients(tile, grads);
        dx = dx + part.x;
        dtable.push(part.table);
        dproducts = dproducts.zip(part.products).map(|(sum, part)| sum + part);
    }
    LossAndGrads {
        loss: primitive(loss),
        dx: primitive(dx),
        dtable: primitive(Tensor::cat(dtable, 0)),
        dfactored: dproducts.map(primitive),
    }
}

struct Problem<B: Backend> {
    x: Tensor<B, 2>,
    table: Tensor<B, 2>,
    products: Option<Tensor<B, 2>>,
    features: Option<Tensor<B, 2>>,
    slices: Vec<Range<usize>>,
    /// Slices that are table columns.
    columns: usize,
}

/// What one tile of items adds.
struct TileGradients<B: Backend> {
    x: Tensor<B, 2>,
    /// The tile's own rows.
    table: Tensor<B, 2>,
    products: Option<Tensor<B, 2>>,
}

impl<B: Backend> Problem<B> {
    /// The two matrices whose product is a slice's scores, `[p, k]` and `[rows of items, k]`, before
    /// rows are taken.
    fn sides(&self, at: usize) -> (Tensor<B, 2>, Tensor<B, 2>) {
        match (at.checked_sub(self.columns), &self.products, &self.features) {
            (Some(at), Some(products), Some(features)) => {
                let f = features.dims()[1];
                (products.clone().narrow(1, at * f, f), features.clone())
            }
            _ => {
                let (start, width) = (self.slices[at].start, self.slices[at].len());
                (self.x.clone().narrow(1, start, width), self.table.clone().narrow(1, start, width))
            }
        }
    }

    /// Scores of one tile at every dim, `[p, tile]` each.
    fn scores(&self, tile: &Range<usize>) -> Vec<Tensor<B, 2>> {
        let mut all: Vec<Tensor<B, 2>> = Vec::with_capacity(self.slices.len());
        for at in 0..self.slices.len() {
            let (user, item) = self.sides(at);
            let product = user.matmul(item.narrow(0, tile.start, tile.len()).transpose());
            let scores = match all.last() {
                Some(smaller) => smaller.clone() + product,
                None => product,
            };
            all.push(scores);
        }
        all
    }

    /// `ln sum exp` of every dim, `[p, 1]` each.
    fn log_sums(&self, tiles: impl Iterator<Item = Range<usize>>, scales: &[f64]) -> Vec<Tensor<B, 2>> {
        let mut sums: Vec<Option<(Tensor<B, 2>, Tensor<B, 2>)>> = vec![None; self.slices.len()];
        for tile in tiles {
            for ((sum, scores), scale) in sums.iter_mut().zip(self.scores(&tile)).zip(scales) {
                let scores = scaled(scores, *scale);
                let max = scores.clone().max_dim(1);
                let max = match &*sum {
                    Some((before, _)) => before.clone().max_pair(max),
                    None => max,
                };
                let here = (scores - max.clone()).exp().sum_dim(1);
                let total = match sum.take() {
                    Some((before, earlier)) => earlier * (before - max.clone()).exp() + here,
                    None => here,
                };
                *sum = Some((max, total));
            }
        }
        sums.into_iter().flatten().map(|(max, sum)| max + sum.log()).collect()
    }

    /// `[1, 1]`.
    fn loss(&self, log_sums: &[Tensor<B, 2>], ids: Tensor<B, 1, Int>, objective: &Objective) -> Tensor<B, 2> {
        let mut score = Tensor::zeros_like(&log_sums[0]);
        let mut loss = Tensor::zeros_like(&log_sums[0]);
        for (at, log_sum) in log_sums.iter().enumerate() {
            let (user, item) = self.sides(at);
            score = score + (user * item.select(0, ids.clone())).sum_dim(1);
            loss = loss + (log_sum.clone() - scaled(score.clone(), objective.logit_scales[at])) * objective.weights[at];
        }
        loss.mean_dim(0)
    }

    /// Gradient of every slice's scores over one tile, `[p, tile]` each.
    fn logit_gradients(
        &self,
        tile: Range<usize>,
        log_sums: &[Tensor<B, 2>],
        ids: Tensor<B, 1, Int>,
        objective: &Objective,
    ) -> Vec<Tensor<B, 2>> {
        let p = ids.dims()[0];
        let here = Tensor::<B, 1, Int>::arange(tile.start as i64..tile.end as i64, &ids.device());
        let here = here.reshape([1, tile.len()]).expand([p, tile.len()]);
        let labelled = ids.reshape([p, 1]).expand([p, tile.len()]).equal(here);
        let scores = self.scores(&tile).into_iter().zip(log_sums).zip(&objective.logit_scales);
        let softmax: Vec<Tensor<B, 2>> =
            scores.map(|((scores, log), scale)| (scaled(scores, *scale) - log.clone()).exp()).collect();
        let label = labelled.float().cast(softmax[0].dtype());
        let last = softmax.len() - 1;
        let teacher = softmax[last].clone();
        let mut grads: Vec<Tensor<B, 2>> = Vec::with_capacity(softmax.len());
        for (at, softmax) in softmax.into_iter().enumerate().rev() {
            let share = if at == last { 0.0 } else { objective.distillation };
            let target = label.clone() * (1.0 - share) + teacher.clone() * share;
            let own = (softmax - target) * (objective.weights[at] / p as f64 * objective.logit_scales[at]);
            grads.push(match grads.last() {
                Some(larger) => larger.clone() + own,
                None => own,
            });
        }
        grads.reverse();
        grads
    }

    /// One tile's share of the gradients for `x` and the factored products, and its table rows'.
    fn gradients(&self, tile: Range<usize>, grads: Vec<Tensor<B, 2>>) -> TileGradients<B> {
        let (mut dx, mut dtable, mut dproducts) = (Vec::new(), Vec::new(), Vec::new());
        for (at, grad) in grads.into_iter().enumerate() {
            let (user, item) = self.sides(at);
            let back = grad.clone().matmul(item.narrow(0, tile.start, tile.len()));
            if at < self.columns {
                dx.push(back);
                dtable.push(grad.transpose().matmul(user));
            } else {
                dproducts.push(back);
            }
        }
        TileGradients {
            x: Tensor::cat(dx, 1),
            table: Tensor::cat(dtable, 1),
            products: (!dproducts.is_empty()).then(|| Tensor::cat(dproducts, 1)),
        }
    }
}

/// `scores * scale`, without a pass over them where the scale is the paper's.
fn scaled<B: Backend>(scores: Tensor<B, 2>, scale: f64) -> Tensor<B, 2> {
    if scale == 1.0 { scores } else { scores * scale }
}

fn tensor<B: Backend>(primitive: FloatTensor<B>) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend>(tensor: Tensor<B, 2>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
