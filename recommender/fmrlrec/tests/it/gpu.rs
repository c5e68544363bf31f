//! The numbers of the CPU on a GPU: each kernel, and training steps. Mesa's
//! software device (Debian: mesa-vulkan-drivers) is enough for the feature `wgpu`.

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
#[test]
fn a_gpu_gives_the_numbers_of_the_cpu() {
    crate::fixtures::say_skipped("GPU: built without the features cuda and wgpu");
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_gives_the_numbers_of_the_cpu() {
    match fmrlrec::gpu::check_cuda() {
        Ok(()) => parity::check::<burn_cuda::Cuda>(),
        Err(missing) => crate::fixtures::say_skipped(&missing.to_string()),
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_graphics_api_gives_the_numbers_of_the_cpu() {
    match fmrlrec::gpu::check_wgpu() {
        Ok(()) => parity::check::<burn_wgpu::Wgpu>(),
        Err(missing) => crate::fixtures::say_skipped(&missing.to_string()),
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod parity {
    use burn::backend::Autodiff;
    use burn::tensor::{Tensor, TensorData, TensorPrimitive};
    use fmrlrec::model::FmrlRec;
    use fmrlrec::ops::{Mask, MaskColumn, NestedBackend, Objective, Update, UpdateBackend, host_values};
    use fmrlrec::{
        AdamW, AdamWConfig, Batch, Cpu, Exit, Learner, LeaveOneOut, ModelConfig, ProjectorStart, TrainingBackend,
        training_batches,
    };
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const ITEMS: usize = 300;
    const FEATURES: usize = 24;

    pub(super) fn check<G: NestedBackend + UpdateBackend>() {
        scans_agree::<G>();
        masks_agree::<G>();
        updates_agree::<G>();
        training_agrees::<G>();
    }

    fn random(seed: u64, n: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn close(what: &str, got: &[f32], expect: &[f32]) {
        assert_eq!(got.len(), expect.len(), "{what}");
        for (at, (got, expect)) in got.iter().zip(expect).enumerate() {
            assert!((got - expect).abs() <= 1e-4 * (1.0 + expect.abs()), "{what}[{at}]: {got} is not {expect}");
        }
    }

    /// Sequences of 1 to 60 tokens, an odd number of channels.
    fn scans_agree<G: NestedBackend>() {
        let (lengths, d) = ([1, 60, 7, 2, 33], 19);
        let keep: Vec<f32> = lengths.iter().flat_map(|len| (0..*len).map(|t| if t == 0 { 0.0 } else { 1.0 })).collect();
        let (u, grad) = (random(1, keep.len() * 2 * d), random(2, keep.len() * 2 * d));
        // Within the unit circle, as lambda always is.
        let lambda: Vec<f32> = random(3, 2 * d).iter().map(|value| 0.7 * value).collect();
        let cpu = scan::<Cpu>(&u, &lambda, &keep, &grad);
        let gpu = scan::<G>(&u, &lambda, &keep, &grad);
        for (what, (gpu, cpu)) in ["h", "du", "dlambda"].iter().zip(gpu.iter().zip(&cpu)) {
            close(what, gpu, cpu);
        }
    }

    /// States and the gradients for inputs and lambda.
    fn scan<B: NestedBackend>(u: &[f32], lambda: &[f32], keep: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let tensor = |values: &[f32], rows: usize| {
            let data = TensorData::new(values.to_vec(), [rows, values.len() / rows]);
            Tensor::<B, 2>::from_data(data, &Default::default()).into_primitive().tensor()
        };
        let host = |primitive| host_values(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(primitive)));
        let h = B::lru_scan(tensor(u, keep.len()), tensor(lambda, 2), keep);
        let [du, dlambda] = B::lru_scan_backward(h.clone(), tensor(lambda, 2), keep, tensor(grad, keep.len()));
        [host(h), host(du), host(dlambda)]
    }

    /// Bit by bit, from any word of a block on and past the lower half of the block's number.
    fn masks_agree<G: NestedBackend>() {
        for (start, [rows, width]) in
            [(0, [1, 1]), (0, [3, 16]), (5, [7, 13]), (31, [1, 1]), ((16 << 32) - 40, [9, 11])]
        {
            let columns = (0..width).map(|column| MaskColumn::new([0.6, 0.0, 0.25][column % 3])).collect();
            let mask = Mask { key: [0xa7; 32], stream: (3 << 32) + 9, start, columns };
            let gpu = G::dropout_mask(&mask, rows, &Default::default());
            let gpu: Vec<f32> = host_values(Tensor::<G, 2>::from_primitive(TensorPrimitive::Float(gpu)));
            assert_eq!(gpu, mask.values(rows), "from word {start}");
        }
    }

    /// Twice, so that the second update starts from moments that are not 0; the gradients' norm too.
    fn updates_agree<G: NestedBackend + UpdateBackend>() {
        let (cpu, gpu) = (updated::<Cpu>(), updated::<G>());
        for (what, (gpu, cpu)) in ["values", "moments", "squares"].iter().zip(gpu.iter().zip(&cpu)) {
            // By the size of what is compared: moments are far below 1.
            let largest = cpu.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let of_largest = |values: &[f32]| values.iter().map(|value| value / largest).collect::<Vec<f32>>();
            close(what, &of_largest(gpu), &of_largest(cpu));
        }
    }

    fn updated<B: UpdateBackend>() -> [Vec<f32>; 3] {
        const N: usize = 1000;
        let tensor = |values: Vec<f32>, rows: usize| {
            let data = TensorData::new(values, [rows, N]);
            Tensor::<B, 2>::from_data(data, &Default::default()).into_primitive().tensor()
        };
        let host = |primitive| host_values(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(primitive)));
        let (mut values, mut moments) = (tensor(random(7, N), 1), tensor(vec![0.0; 2 * N], 2));
        for step in 1..=2 {
            let update = Update {
                clip: 0.7,
                beta_1: 0.9,
                beta_2: 0.999,
                epsilon: 1e-9,
                decay: 1e-6,
                rate: 0.01 / (1.0 - 0.9f64.powi(step)),
                root: (1.0 - 0.999f64.powi(step)).sqrt(),
            };
            [values, moments] = B::adamw(values, tensor(random(7 + step as u64, N), 1), moments, &update);
        }
        let squares = B::sum_of_squares(&[values.clone(), moments.clone()]);
        [host(values), host(moments), vec![squares as f32]]
    }

    fn training_agrees<G: NestedBackend + UpdateBackend>() {
        // Wide slices: the last is factored on both sides; with norms and learned vectors, as on Amazon, none is.
        for (dims, normed) in [(vec![4, 8], false), (vec![4, 8, 64], false), (vec![4, 8, 64], true)] {
            let (cpu, gpu) = (losses::<Autodiff<Cpu>>(&dims, normed), losses::<Autodiff<G>>(&dims, normed));
            assert!(cpu[7] < cpu[0] - 0.05, "it learns: {cpu:?}");
            for (cpu, gpu) in cpu.iter().zip(&gpu) {
                assert!((cpu - gpu).abs() < 1e-3 * cpu, "dims {dims:?}: CPU {cpu}, GPU {gpu}");
            }
        }
    }

    /// The losses of eight steps from the same weights, with the same dropout masks.
    fn losses<B: TrainingBackend>(dims: &[usize], normed: bool) -> Vec<f64> {
        let device = Default::default();
        let config = ModelConfig {
            nesting_dims: dims.to_vec(),
            blocks: 2,
            r_min: 0.1,
            r_max: 0.95,
            item_embedding: normed,
            projector_start: ProjectorStart::Normal,
            vector_norm: normed,
        };
        let values = random(4, (ITEMS + 1) * FEATURES);
        let features = Tensor::from_data(TensorData::new(values, [ITEMS + 1, FEATURES]), &device);
        let exit =
            Objective { dims: dims[..1].to_vec(), weights: vec![0.3], logit_scales: vec![2.0], distillation: 0.0 };
        let mut learner = Learner::<B> {
            model: FmrlRec::new(&config, FEATURES, ITEMS, 9, &device),
            optimizer: AdamW::new(AdamWConfig::new(0.01, 1.0)),
            dropout: (0..dims[dims.len() - 1]).map(|column| if column < dims[0] { 0.0 } else { 0.2 }).collect(),
            seed: 5,
            exits: vec![Exit { depth: 1, objective: exit }],
            old_table: None,
        };
        let logit_scales = dims.iter().map(|dim| (16.0 / *dim as f64).sqrt()).collect();
        let objective = Objective { distillation: 0.1, logit_scales, ..Objective::mean(dims) };
        let batch = batch();
        (0..8).map(|_| learner.step(&batch, &features, &objective, 0.01).unwrap()).collect()
    }

    fn batch() -> Batch {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let sequences =
            (0..12).map(|user| (0..5 + user).map(|_| rng.random_range(1..=ITEMS as u32)).collect()).collect();
        training_batches(&LeaveOneOut::new(sequences), 50, usize::MAX, 1, 0).remove(0)
    }
}
