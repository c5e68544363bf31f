//! The three laws of the model, for any dims, blocks and sequences.

use burn::tensor::{Tensor, TensorData};
use fmrlrec::model::dropout::Dropout;
use fmrlrec::model::{FmrlRec, gather};
use fmrlrec::ops::host_values;
use fmrlrec::{Batch, Cpu, ModelConfig, ProjectorStart, load_params, named_params, pack_histories};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ITEMS: u32 = 12;

/// A model whose every weight is large enough to matter, biases and imaginary parts included; with odd
/// seeds item and user vectors are normed.
fn model(dims: &[usize], blocks: usize, seed: u64) -> (FmrlRec<Cpu>, Tensor<Cpu, 2>) {
    let config = ModelConfig {
        nesting_dims: dims.to_vec(),
        blocks,
        r_min: 0.3,
        r_max: 0.95,
        item_embedding: false,
        projector_start: ProjectorStart::Normal,
        vector_norm: seed % 2 == 1,
    };
    let model = FmrlRec::<Cpu>::new(&config, 5, ITEMS as usize, seed, &Default::default());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut params = named_params::<f32, _, _>(&model);
    for (name, param) in &mut params {
        if !name.ends_with("_log") {
            param.values.iter_mut().for_each(|value| *value += rng.random_range(-0.3..0.3));
        }
    }
    let features: Vec<f32> =
        (0..(ITEMS + 1) * 5).map(|at| if at < 5 { 0.0 } else { rng.random_range(-1.0..1.0) }).collect();
    let features = Tensor::from_data(TensorData::new(features, [ITEMS as usize + 1, 5]), &Default::default());
    let model = load_params(model, &params).unwrap();
    let table = model.item_table(features);
    (model, table)
}

fn forward(model: &FmrlRec<Cpu>, table: &Tensor<Cpu, 2>, batch: &Batch) -> Vec<f32> {
    host_values(model.forward(gather(table.clone(), &batch.tokens), &batch.keep, &mut Dropout::off()))
}

fn pack(histories: &[Vec<u32>]) -> Batch {
    pack_histories(histories.iter().map(Vec::as_slice), 100).0
}

/// With `vector_norm` every slice of an item vector and of a user vector is a fresh norm's output: mean 0, and
/// a length that does not depend on the features'.
#[test]
fn normed_vectors_have_one_length_a_slice() {
    let dims = [3, 8, 20];
    let config = ModelConfig {
        nesting_dims: dims.to_vec(),
        blocks: 1,
        r_min: 0.3,
        r_max: 0.95,
        item_embedding: false,
        projector_start: ProjectorStart::Normal,
        vector_norm: true,
    };
    let model = FmrlRec::<Cpu>::new(&config, 5, 3, 1, &Default::default());
    let features: Vec<f32> =
        (0..20).map(|at| if at < 5 { 0.0 } else { ((at * 7) % 11) as f32 * 10f32.powi(at / 5) }).collect();
    let table = model.item_table(Tensor::from_data(TensorData::new(features, [4, 5]), &Default::default()));
    let batch = pack(&[vec![1, 2, 3]]);
    let users = forward(&model, &table, &batch);
    let items: Vec<f32> = host_values(table);
    for (vectors, scale) in [(&items[20..], 1.0), (&users[..], 0.1)] {
        for vector in vectors.chunks(20) {
            for slice in [&vector[..3], &vector[3..8], &vector[8..]] {
                let mean = slice.iter().sum::<f32>() / slice.len() as f32;
                let deviation = (slice.iter().map(|value| value * value).sum::<f32>() / slice.len() as f32).sqrt();
                assert!(mean.abs() < 1e-3 && (deviation - scale).abs() < 0.05 * scale, "mean {mean}, {deviation}");
            }
        }
    }
}

fn close(a: &[f32], b: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        prop_assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{} is not {}", a, b);
    }
    Ok(())
}

fn dims() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(1usize..20, 1..4).prop_map(|dims| dims.into_iter().collect())
}

fn histories() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(1..=ITEMS, 1..15), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn matryoshka_a_prefix_is_the_smaller_models_output(dims in dims(), blocks in 1usize..3, seed in 0u64..1000, histories in histories()) {
        let (model, table) = model(&dims, blocks, seed);
        let largest = *dims.last().unwrap();
        let batch = pack(&histories);
        let full = forward(&model, &table, &batch);
        for &dim in &dims {
            let prefix: Vec<f32> = full.chunks(largest).flat_map(|row| row[..dim].to_vec()).collect();
            close(&forward(&model.slice(dim), &table.clone().narrow(1, 0, dim), &batch), &prefix)?;
        }
    }

    /// A cut is what one gets by hand: slices of blocks on slices of columns, the rest passed on. Its
    /// prefixes are cuts of the smaller model.
    #[test]
    fn a_cut_is_the_one_made_by_hand(dims in dims(), cut in prop::collection::vec(0usize..5, 3), seed in 0u64..1000, histories in histories()) {
        let (model, table) = model(&dims, cut.len(), seed);
        let width = *dims.last().unwrap();
        // 0 leaves a block out, 4 stands for its whole width.
        let block_dims: Vec<usize> = cut.iter().map(|at| match at { 0 => 0, 4 => width, at => dims[(at - 1) % dims.len()] }).collect();
        let batch = pack(&histories);
        let x = gather(table.clone(), &batch.tokens);
        let got = host_values::<f32, _, 2>(model.forward_cut(x.clone(), &batch.keep, &block_dims));

        let mut expect: Vec<f32> = host_values(x.clone());
        for (block, &dim) in model.blocks.iter().zip(&block_dims) {
            if dim == 0 {
                continue;
            }
            let columns: Vec<f32> = expect.chunks(width).flat_map(|row| row[..dim].to_vec()).collect();
            let columns = Tensor::<Cpu, 2>::from_data(TensorData::new(columns, [batch.tokens.len(), dim]), &Default::default());
            let out: Vec<f32> = host_values(block.slice(dim).forward(columns, &batch.keep, &mut Dropout::off()));
            expect.chunks_mut(width).zip(out.chunks(dim)).for_each(|(row, out)| row[..dim].copy_from_slice(out));
        }
        // At some tokens only: every third one.
        let some: Vec<u32> = (0..batch.tokens.len() as u32).step_by(3).collect();
        let (at_some, _) = model.forward_cut_at(x.clone(), &batch.keep, &block_dims, &some);
        let rows: Vec<f32> = some.iter().flat_map(|at| got[*at as usize * width..][..width].to_vec()).collect();
        close(&host_values::<f32, _, 2>(at_some), &rows)?;

        let expect = Tensor::<Cpu, 2>::from_data(TensorData::new(expect, [batch.tokens.len(), width]), &Default::default());
        close(&got, &host_values::<f32, _, 2>(model.user_vectors(expect)))?;
        for &dim in &dims {
            let prefix: Vec<f32> = got.chunks(width).flat_map(|row| row[..dim].to_vec()).collect();
            let smaller = model.slice(dim).forward_cut(x.clone().narrow(1, 0, dim), &batch.keep, &block_dims);
            close(&host_values::<f32, _, 2>(smaller), &prefix)?;
        }
    }

    /// The output after a block is that of the model cut there.
    #[test]
    fn an_exit_is_a_cut(dims in dims(), blocks in 1usize..4, seed in 0u64..1000, histories in histories()) {
        let (model, table) = model(&dims, blocks, seed);
        let batch = pack(&histories);
        let x = gather(table, &batch.tokens);
        for (at, output) in model.forward_depths(x.clone(), &batch.keep, &mut Dropout::off()).into_iter().enumerate() {
            let cut = model.forward_cut(x.clone(), &batch.keep, &model.block_dims(at + 1));
            close(&host_values::<f32, _, 2>(output), &host_values::<f32, _, 2>(cut))?;
        }
    }

    #[test]
    fn recurrence_folding_steps_is_the_forward_pass(dims in dims(), blocks in 1usize..3, seed in 0u64..1000, history in prop::collection::vec(1..=ITEMS, 1..30)) {
        let (model, table) = model(&dims, blocks, seed);
        let width = *dims.last().unwrap();
        let full = forward(&model, &table, &pack(std::slice::from_ref(&history)));
        let mut state = model.start(1, width, &Default::default());
        for (at, item) in history.iter().enumerate() {
            let (y, next) = model.step(gather(table.clone(), &[*item]), state);
            state = next;
            close(&host_values(y), &full[at * width..(at + 1) * width])?;
        }
    }

    #[test]
    fn padding_and_batch_mates_change_nothing(dims in dims(), blocks in 1usize..3, seed in 0u64..1000, histories in histories(), pads in 1usize..6) {
        let (model, table) = model(&dims, blocks, seed);
        let width = *dims.last().unwrap();
        let packed = forward(&model, &table, &pack(&histories));
        let mut at = 0;
        for history in &histories {
            let alone = forward(&model, &table, &pack(std::slice::from_ref(history)));
            close(&packed[at..at + alone.len()], &alone)?;
            let padded = Batch {
                tokens: std::iter::repeat_n(0, pads).chain(history.iter().copied()).collect(),
                // The state never passes from a pad to the first item.
                keep: (0..pads + history.len()).map(|t| if t <= pads { 0.0 } else { 1.0 }).collect(),
                labels: Vec::new(),
            };
            close(&forward(&model, &table, &padded)[pads * width..], &alone)?;
            at += alone.len();
        }
    }
}
