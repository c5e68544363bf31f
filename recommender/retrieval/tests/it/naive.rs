//! The slow and obvious version: score every row of the wide table, sort, cut.

use retrieval::Scored;

/// Top-k of `rows` [n + 1, width] by inner product with `query` over its first columns.
pub(crate) fn top_k(rows: &[f32], width: usize, query: &[f32], k: usize, allowed: &dyn Fn(u32) -> bool) -> Vec<Scored> {
    let score = |row: &[f32]| row.iter().zip(query).map(|(x, y)| x * y).sum::<f32>();
    rank(rows.chunks(width).map(score).collect(), k, allowed)
}

/// Items most like item `id` by cosine over the first `dim` columns.
pub(crate) fn most_similar(rows: &[f32], width: usize, id: u32, dim: usize) -> Vec<(u32, f64)> {
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
        if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
    };
    let row = |id: u32| &rows[id as usize * width..][..dim];
    let items = (rows.len() / width) as u32;
    (1..items).filter(|&other| other != id).map(|other| (other, cosine(row(id), row(other)))).collect()
}

fn rank(scores: Vec<f32>, k: usize, allowed: &dyn Fn(u32) -> bool) -> Vec<Scored> {
    let mut all: Vec<Scored> =
        scores.into_iter().enumerate().skip(1).map(|(id, score)| Scored { id: id as u32, score }).collect();
    all.retain(|scored| allowed(scored.id));
    all.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap().then(a.id.cmp(&b.id)));
    all.truncate(k);
    all
}
