//! Exits after earlier blocks: what is minimised, what the report says, cuts from an opened Bundle.

use crate::training::{config, snapshot};
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use fmrlrec::model::dropout::Dropout;
use fmrlrec::model::{FmrlRec, gather};
use fmrlrec::ops::{Objective, Scoring, host_values, nested_cross_entropy};
use fmrlrec::{
    AdamW, AdamWConfig, Batch, Bundle, BundleError, CpuTraining, Cut, Device, Exit, ExitConfig, Learner, ModelConfig,
    Part, ProjectorStart, Split, TrainConfig, evaluate, train,
};

/// Two blocks, an exit after the first at dims 4 and 8.
fn with_exit() -> TrainConfig {
    let mut config = config();
    config.model.blocks = 2;
    config.objective.exits = vec![ExitConfig { depth: 1, dim: 8, weight: 0.5 }];
    config
}

#[test]
fn a_trained_exit_is_good_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let trained = |name: &str, config: &TrainConfig| {
        let output = dir.path().join(name);
        let report = train(&snapshot, config, &output, false, Device::Cpu, &mut ()).unwrap();
        (report, Bundle::open(&output).unwrap())
    };
    let at_exit =
        |bundle: &Bundle| evaluate(bundle, &snapshot, Split::Test, Part::Cut(&[16, 0]), &mut |_, _| ()).unwrap();
    let (report, bundle) = trained("exit", &with_exit());
    assert_eq!(evaluate(&bundle, &snapshot, Split::Test, Part::Whole, &mut |_, _| ()).unwrap(), report);
    let [exit] = &report.exits[..] else { panic!("one exit: {:?}", report.exits) };
    let cut = at_exit(&bundle);
    assert_eq!((exit.depth, &exit.dims[..]), (1, &cut.dims[..2]), "a cut without the last block is the exit");
    assert_eq!(cut.block_dims, Some(vec![16, 0]));

    let (without, plain) = trained("plain", &TrainConfig { objective: config().objective, ..with_exit() });
    assert!(without.exits.is_empty());
    let (with, without) = (cut.dims[1].metrics["ndcg@10"], at_exit(&plain).dims[1].metrics["ndcg@10"]);
    assert!(with > without, "the exit at dim 8 has {with}, and {without} where it was not trained");
    assert!(report.dims[2].metrics["ndcg@10"] > 0.9, "the whole model is still learned: {:?}", report.dims[2]);
}

#[test]
fn a_cut_of_a_bundle_gives_its_own_user_vector_and_wrong_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let config = TrainConfig { epochs: 1, ..with_exit() };
    train(&snapshot, &config, &dir.path().join("bundle"), false, Device::Cpu, &mut ()).unwrap();
    let bundle = Bundle::open(&dir.path().join("bundle")).unwrap();
    let history = [3, 4, 5];
    let rows: Vec<&[f32]> = history.iter().map(|id| &bundle.item_table()[*id as usize * 16..][..16]).collect();
    let vector = |block_dims: &[usize]| {
        let cut = Cut::new(block_dims, &bundle.shape())?;
        Ok::<_, BundleError>(bundle.fold_of(&rows, 16, &cut)?.vector().to_vec())
    };
    let whole = bundle.user_vector(&history, 16).unwrap();
    assert_eq!(vector(&[16, 16]).unwrap(), whole);
    assert_eq!(vector(&[16, 8]).unwrap()[..8], whole[..8]);
    assert_eq!(vector(&[16, 8]).unwrap()[8..], vector(&[16, 0]).unwrap()[8..]);
    let refused = |block_dims: &[usize], expect: &str| {
        let message = vector(block_dims).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
        let message =
            evaluate(&bundle, &snapshot, Split::Test, Part::Cut(block_dims), &mut |_, _| ()).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    refused(&[16], "block dims [16]: the model has 2 blocks");
    refused(&[0, 0], "at least one of them above 0");
    refused(&[16, 5], "dim 5 was not trained; trained dims: [4, 8, 16]");
}

/// The loss of a step is the last block's plus each exit's, with and without factored slices.
#[test]
fn a_step_minimises_the_sum_of_the_exits_losses() {
    // 40 items: with few columns all slices are formed, with many positions and wide slices some are factored.
    for (dims, vector_norm) in
        [(vec![2, 4], false), (vec![2, 4, 64], false), (vec![2, 4], true), (vec![2, 4, 64], true)]
    {
        check_loss(&dims, 6, vector_norm);
    }
}

fn check_loss(dims: &[usize], feature_dim: usize, vector_norm: bool) {
    const ITEMS: usize = 40;
    let model_config = ModelConfig {
        nesting_dims: dims.to_vec(),
        blocks: 2,
        r_min: 0.1,
        r_max: 0.9,
        item_embedding: false,
        projector_start: ProjectorStart::Normal,
        vector_norm,
    };
    let device = Default::default();
    let model = FmrlRec::<CpuTraining>::new(&model_config, feature_dim, ITEMS, 5, &device);
    let values: Vec<f32> = (0..(ITEMS + 1) * feature_dim).map(|at| ((at * 37 % 101) as f32 - 50.0) / 10.0).collect();
    let features = Tensor::from_data(TensorData::new(values, [ITEMS + 1, feature_dim]), &device);
    let batch = Batch {
        tokens: (0..12).map(|at| if at % 4 == 0 { 0 } else { at * 3 + 1 }).collect(),
        keep: (0..12).map(|at| if at % 4 < 2 { 0.0 } else { 1.0 }).collect(),
        labels: (0..12).map(|at| (at * 7) % ITEMS as u32 + 1).collect(),
    };
    let scales = |dims: &[usize]| dims.iter().map(|dim| (16.0 / *dim as f64).sqrt()).collect();
    let exit = Objective {
        dims: dims[..2].to_vec(),
        weights: vec![0.3, 0.2],
        logit_scales: scales(&dims[..2]),
        distillation: 0.0,
    };
    let main = Objective { logit_scales: scales(dims), ..Objective::mean(dims) };

    let host = model.valid();
    let table = host.item_table(features.clone().inner());
    let outputs = host.forward_depths(gather(table.clone(), &batch.tokens), &batch.keep, &mut Dropout::off());
    let loss = |x: &Tensor<_, 2>, objective: &Objective| {
        let width = objective.dims[objective.dims.len() - 1];
        let (x, table): (Vec<f32>, Vec<f32>) =
            (host_values(x.clone().narrow(1, 0, width)), host_values(table.clone().narrow(1, 0, width)));
        let (factored, features) = (&[][..], &[][..]);
        nested_cross_entropy(Scoring { x: &x, table: &table, factored, features, labels: &batch.labels }, objective)
            .loss
    };
    let expect = loss(&outputs[1], &main) + loss(&outputs[0], &exit);

    let optimizer = AdamW::new(AdamWConfig::new(0.0, 5.0));
    let exits = vec![Exit { depth: 1, objective: exit }];
    let mut learner = Learner { model, optimizer, dropout: Vec::new(), seed: 1, exits, old_table: None };
    let got = learner.step(&batch, &features, &main, 0.01).unwrap();
    assert!((got - expect).abs() < 1e-4 * expect, "dims {dims:?}: {got} is not {expect}");
    let after = (0..20).map(|_| learner.step(&batch, &features, &main, 0.01).unwrap()).last().unwrap();
    assert!(after < got - 0.1, "it is minimised: {got}, then {after}");
}
