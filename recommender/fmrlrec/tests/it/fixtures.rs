//! What an exact implementation computes: activations, logits, loss, gradients, parameters after
//! AdamW, for both fixture models, within 1e-5 in f32
//! and 1e-12 in f64.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use fmrlrec::model::dropout::Dropout;
use fmrlrec::model::{FmrlRec, gather};
use fmrlrec::ops::{NestedBackend, Objective, Real, host_values};
use fmrlrec::{
    AdamW, AdamWConfig, Cpu, CpuTraining, DecayRule, ModelConfig, ProjectorStart, load_params, named_params,
};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::PathBuf;

const DIMS: [usize; 3] = [4, 8, 16];

/// Element type of a fixture file.
trait Element: Real {
    const TOLERANCE: f64;
}

impl Element for f32 {
    const TOLERANCE: f64 = 1e-5;
}

impl Element for f64 {
    const TOLERANCE: f64 = 1e-12;
}

/// Says why a test does nothing, past the harness, which swallows what passing tests print.
pub(crate) fn say_skipped(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

/// The folder of fixtures, or none with a word about it.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/fmrlrec");
    if !dir.is_dir() {
        say_skipped("../shared is absent, so the model is not compared with its fixtures");
        return None;
    }
    Some(dir)
}

pub(crate) struct Fixture(Vec<u8>);

impl Fixture {
    pub(crate) fn open(name: &str) -> Option<Fixture> {
        Some(Fixture(std::fs::read(fixtures()?.join(name)).expect("the fixture is readable")))
    }

    pub(crate) fn floats<T: Real>(&self, name: &str) -> (Vec<usize>, Vec<T>) {
        let file = SafeTensors::deserialize(&self.0).expect("the fixture is whole");
        let view = file.tensor(name).unwrap_or_else(|_| panic!("the fixture has {name}"));
        let values = match view.dtype() {
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| T::from_f64(f32::from_le_bytes(b.try_into().unwrap()).into()))
                .collect(),
            Dtype::F64 => {
                view.data().chunks_exact(8).map(|b| T::from_f64(f64::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (view.shape().to_vec(), values)
    }

    pub(crate) fn ints(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).expect("the fixture is whole");
        let view = file.tensor(name).unwrap_or_else(|_| panic!("the fixture has {name}"));
        view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }
}

/// The fixture's tensor, and the row of it, that one of our parameters corresponds to.
fn reference_name(ours: &str) -> (String, Option<usize>) {
    let mut name = ours.replace("blocks.", "model.lru_blocks.").replace(".lru.", ".lru_layer.");
    name = name.replace("input_norm", "input_layernorm").replace("post_norm", "post_lru_layernorm");
    for (row, log) in ["nu_log", "theta_log", "gamma_log"].iter().enumerate() {
        if name.ends_with(log) {
            return (name.replace(log, "params_log"), Some(row));
        }
    }
    let part = if name.contains("_proj_im") {
        ".im"
    } else if name.contains("_proj_re") {
        ".re"
    } else {
        ""
    };
    name = name.replace("_proj_re", "_proj").replace("_proj_im", "_proj");
    let slice = if name.contains("layernorm") { "layernorm_" } else { "mrl_linear_" };
    name = name.replace("slices.", slice) + part;
    if name.starts_with("projector") { (format!("embedding.{name}"), None) } else { (name, None) }
}

/// A parameter-shaped thing of the fixture under our parameter's name.
fn expected<T: Real>(fixture: &Fixture, prefix: &str, ours: &str) -> Vec<T> {
    let (name, row) = reference_name(ours);
    let (shape, values) = fixture.floats(&format!("{prefix}{name}"));
    match row {
        Some(row) => values[row * shape[1]..(row + 1) * shape[1]].to_vec(),
        None => values,
    }
}

fn model<T: Real>(fixture: &Fixture, blocks: usize) -> FmrlRec<CpuTraining> {
    let config = ModelConfig {
        nesting_dims: DIMS.to_vec(),
        blocks,
        r_min: 0.0,
        r_max: 0.9,
        item_embedding: false,
        projector_start: ProjectorStart::Normal,
        vector_norm: false,
    };
    let model = FmrlRec::<CpuTraining>::new(&config, 11, 20, 1, &Default::default());
    let mut params = named_params::<T, _, _>(&model);
    for (name, param) in &mut params {
        param.values = expected(fixture, "param.", name);
    }
    load_params(model, &params).expect("shapes agree")
}

fn features<T: Real, B: Backend>(fixture: &Fixture) -> Tensor<B, 2> {
    let ((_, text), (_, image)): ((_, Vec<T>), (_, Vec<T>)) =
        (fixture.floats("item_text"), fixture.floats("item_image"));
    let mut rows = vec![T::ZERO; 11];
    for item in 0..20 {
        rows.extend_from_slice(&text[item * 6..][..6]);
        rows.extend_from_slice(&image[item * 5..][..5]);
    }
    Tensor::from_data(TensorData::new(rows, [21, 11]), (&Default::default(), T::dtype()))
}

/// The recurrence is cut where the token before is padding, as the fixture's mask says.
fn keep(ids: &[u32], length: usize) -> Vec<f32> {
    (0..ids.len()).map(|t| if t % length == 0 || ids[t - 1] == 0 { 0.0 } else { 1.0 }).collect()
}

fn assert_close<T: Element>(what: &str, found: &[T], expected: &[T]) {
    assert_eq!(found.len(), expected.len(), "{what}: sizes");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let (a, b) = (a.into_f64(), b.into_f64());
        assert!((a - b).abs() <= T::TOLERANCE, "{what}[{at}] = {a}, expected {b}");
    }
}

/// The last 7 of 8 padded positions of a `[5, 8, 16]` activation.
fn unpadded<T: Real>(fixture: &Fixture, name: &str) -> Vec<T> {
    let (_, values) = fixture.floats(name);
    values.chunks(8 * 16).flat_map(|user| user[16..].to_vec()).collect()
}

fn check_activations<T: Element>(file: &str, blocks: usize) {
    let Some(fixture) = Fixture::open(file) else { return };
    let model = model::<T>(&fixture, blocks).valid();
    let table = model.item_table(features::<T, Cpu>(&fixture));
    assert_close::<T>("item matrix", &host_values(table.clone()), &fixture.floats("act.item_matrix").1);
    let ids = fixture.ints("input_ids");
    let keep = keep(&ids, 7);
    let mut x = gather(table.clone(), &ids);
    assert_close::<T>("embedding", &host_values(x.clone()), &fixture.floats("act.embedding").1);
    for (index, block) in model.blocks.iter().enumerate() {
        let act = |name: &str| unpadded::<T>(&fixture, &format!("act.block{index}.{name}"));
        let normed = block.input_norm.forward(x.clone());
        assert_close::<T>("input norm", &host_values(normed.clone()), &act("input_layernorm"));
        let u_re = block.lru.in_proj_re.forward(normed.clone());
        assert_close::<T>("in_proj.re", &host_values(u_re), &act("in_proj.re"));
        let u_im = block.lru.in_proj_im.forward(normed.clone());
        assert_close::<T>("in_proj.im", &host_values(u_im), &act("in_proj.im"));
        let h = block.lru.states(normed.clone(), &keep);
        assert_close::<T>("scan.re", &host_values(h.re), &act("scan.re"));
        assert_close::<T>("scan.im", &host_values(h.im), &act("scan.im"));
        let y = block.lru.forward(normed, &keep);
        assert_close::<T>("lru", &host_values(y.clone()), &act("lru"));
        let y = x.clone() + y;
        let normed = block.post_norm.forward(y);
        assert_close::<T>("post norm", &host_values(normed.clone()), &act("post_lru_layernorm"));
        let ffn = block.feed_forward.forward(normed, &mut Dropout::off());
        assert_close::<T>("feed-forward", &host_values(ffn), &act("ffn"));
        x = block.forward(x, &keep, &mut Dropout::off());
        assert_close::<T>("block", &host_values(x.clone()), &act("out"));
    }
    for dim in DIMS {
        let logits = x.clone().narrow(1, 0, dim).matmul(table.clone().narrow(1, 0, dim).transpose());
        assert_close::<T>("logits", &host_values(logits), &fixture.floats(&format!("logits.d{dim}")).1);
    }
    let ids = fixture.ints("valid_input_ids");
    let x = model.forward(gather(table.clone(), &ids), &self::keep(&ids, 7), &mut Dropout::off());
    let last: Vec<T> = host_values::<T, _, 2>(x).chunks(7 * 16).flat_map(|user| user[6 * 16..].to_vec()).collect();
    let last = Tensor::<Cpu, 2>::from_data(TensorData::new(last, [5, 16]), (&Default::default(), T::dtype()));
    for dim in DIMS {
        let logits = last.clone().narrow(1, 0, dim).matmul(table.clone().narrow(1, 0, dim).transpose());
        assert_close::<T>(
            "validation logits",
            &host_values(logits),
            &fixture.floats(&format!("valid_logits_last.d{dim}")).1,
        );
    }
}

/// Loss over the positions that have a label, and its gradients by parameter name.
fn loss_and_grads<T: Real>(model: &FmrlRec<CpuTraining>, fixture: &Fixture) -> (T, GradientsParams) {
    let table = model.item_table(features::<T, CpuTraining>(fixture));
    let ids = fixture.ints("input_ids");
    let labels = fixture.ints("labels");
    let x = model.forward(gather(table.clone(), &ids), &keep(&ids, 7), &mut Dropout::off());
    let labelled: Vec<u32> = (0..labels.len() as u32).filter(|at| labels[*at as usize] != 0).collect();
    let kept: Vec<u32> = labelled.iter().map(|at| labels[*at as usize]).collect();
    let loss = CpuTraining::nested_cross_entropy(
        gather(x, &labelled).into_primitive().tensor(),
        table.into_primitive().tensor(),
        None,
        &kept,
        &Objective::mean(&DIMS),
    );
    let loss: Tensor<CpuTraining, 2> = Tensor::from_primitive(TensorPrimitive::Float(loss.loss));
    let value = host_values::<T, _, 2>(loss.clone())[0];
    (value, GradientsParams::from_grads(loss.backward(), model))
}

struct Grads<'a, T> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    found: BTreeMap<String, Vec<T>>,
}

impl<T: Real> ModuleVisitor<CpuTraining> for Grads<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<CpuTraining, D>>) {
        let grad = self.grads.get::<Cpu, D>(param.id).expect("every parameter has a gradient");
        self.found.insert(self.path.join("."), host_values(grad));
    }
}

fn check_gradients<T: Element>(file: &str, blocks: usize) {
    let Some(fixture) = Fixture::open(file) else { return };
    let model = model::<T>(&fixture, blocks);
    let (loss, grads) = loss_and_grads::<T>(&model, &fixture);
    assert_close::<T>("loss", &[loss], &fixture.floats("loss").1);
    let mut reader = Grads::<T> { grads: &grads, path: Vec::new(), found: BTreeMap::new() };
    burn::module::Module::visit(&model, &mut reader);
    assert_eq!(reader.found.len(), named_params::<T, _, _>(&model).len());
    for (name, grad) in &reader.found {
        assert_close::<T>(&format!("gradient of {name}"), grad, &expected(&fixture, "grad.", name));
    }
}

fn check_adamw<T: Element>(file: &str, blocks: usize, run: &str, clip_norm: f64, compared: &[usize]) {
    let Some(fixture) = Fixture::open(file) else { return };
    let mut model = model::<T>(&fixture, blocks);
    let mut optimizer =
        AdamW::<Cpu>::new(AdamWConfig { rule: DecayRule::AllButBiases, ..AdamWConfig::new(0.01, clip_norm) });
    let (_, losses) = fixture.floats(&format!("adamw.{run}.loss"));
    let (_, norms) = fixture.floats(&format!("adamw.{run}.grad_norm"));
    for step in 1..=3 {
        let (loss, grads) = loss_and_grads::<T>(&model, &fixture);
        let (next, norm) = optimizer.step(model, grads, 1e-3).expect("the gradients are finite");
        model = next;
        assert_close::<T>("loss", &[loss], &losses[step - 1..step]);
        assert_close::<T>("gradient norm", &[T::from_f64(norm)], &norms[step - 1..step]);
        if compared.contains(&step) {
            for (name, param) in named_params::<T, _, _>(&model) {
                let what = format!("{run} step {step} {name}");
                let expected = expected(&fixture, &format!("adamw.{run}.step{step}.param."), &name);
                assert_close::<T>(&what, &param.values, &expected);
            }
        }
    }
}

/// Calls a check with both files of a model.
macro_rules! in_both_types {
    ($check:ident, $file:literal $(, $argument:expr)*) => {
        $check::<f32>(concat!($file, "_f32.safetensors") $(, $argument)*);
        $check::<f64>(concat!($file, "_f64.safetensors") $(, $argument)*);
    };
}

#[test]
fn activations_and_logits_of_the_one_block_model() {
    in_both_types!(check_activations, "b1_refinit", 1);
}

#[test]
fn activations_and_logits_of_the_two_block_model() {
    in_both_types!(check_activations, "b2_perturbed", 2);
}

#[test]
fn loss_and_every_gradient_of_the_one_block_model() {
    in_both_types!(check_gradients, "b1_refinit", 1);
}

#[test]
fn loss_and_every_gradient_of_the_two_block_model() {
    in_both_types!(check_gradients, "b2_perturbed", 2);
}

#[test]
fn parameters_after_adamw_without_clipping() {
    in_both_types!(check_adamw, "b1_refinit", 1, "clip5", 5.0, &[1, 3]);
    in_both_types!(check_adamw, "b2_perturbed", 2, "clip5", 5.0, &[1, 3]);
}

#[test]
fn parameters_after_adamw_with_clipping() {
    in_both_types!(check_adamw, "b1_refinit", 1, "clip0p1", 0.1, &[3]);
    in_both_types!(check_adamw, "b2_perturbed", 2, "clip0p1", 0.1, &[3]);
}
