//! Training on an NVIDIA GPU, behind the feature `cuda`: the same loop over burn-cuda. What is
//! missing is said before the backend would panic over it.

use crate::train::Job;
use crate::{Report, TrainError, TrainObserver};

/// As [`crate::train`] on the first GPU.
#[cfg(feature = "cuda")]
pub(crate) fn train(job: &Job<'_>, observer: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    type Gpu = burn::backend::Autodiff<burn_cuda::Cuda>;
    check_driver()?;
    crate::train::train_on::<Gpu>(job, &Default::default(), observer)
}

/// # Errors
/// The library that is missing.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
pub(crate) fn check_driver() -> Result<(), TrainError> {
    // SAFETY: both calls only look for a shared library by its usual names.
    let (driver, compiler) =
        unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    let missing = |what: &str| {
        Err(TrainError::Device(format!(
            "{what} was not found: install the NVIDIA driver and the CUDA runtime (NVRTC and headers, found by CUDA_PATH) or train with --device cpu"
        )))
    };
    match (driver, compiler) {
        (false, _) => missing("libcuda"),
        (_, false) => missing("libnvrtc"),
        _ => Ok(()),
    }
}

/// Says how to get a program that can.
#[cfg(not(feature = "cuda"))]
pub(crate) fn train(_: &Job<'_>, _: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    Err(TrainError::Device(
        "this program was built without CUDA: build it with --features cuda or train with --device cpu".into(),
    ))
}
