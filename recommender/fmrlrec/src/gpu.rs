//! Training on a GPU: the same loop over burn-cuda (feature `cuda`) or burn-wgpu (feature `wgpu`:
//! Vulkan, Metal, DirectX 12). What is missing is said before a backend would panic over it.

use crate::train::Job;
use crate::{Report, TrainError, TrainObserver};

/// The first NVIDIA GPU.
#[cfg(feature = "cuda")]
pub type CudaTraining = burn::backend::Autodiff<burn_cuda::Cuda>;

/// The device that the graphics API prefers; `CUBECL_WGPU_DEFAULT_DEVICE` names another.
#[cfg(feature = "wgpu")]
pub type WgpuTraining = burn::backend::Autodiff<burn_wgpu::Wgpu>;

/// As [`crate::train`] through CUDA.
#[cfg(feature = "cuda")]
pub(crate) fn train_cuda(job: &Job<'_>, observer: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    check_cuda()?;
    crate::train::train_on::<CudaTraining>(job, &Default::default(), observer)
}

/// Whether there is what CUDA needs.
///
/// # Errors
/// The library that is missing.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
pub fn check_cuda() -> Result<(), TrainError> {
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

/// As [`crate::train`] through the graphics API.
#[cfg(feature = "wgpu")]
pub(crate) fn train_wgpu(job: &Job<'_>, observer: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    check_wgpu()?;
    crate::train::train_on::<WgpuTraining>(job, &Default::default(), observer)
}

/// Whether there is a device with a graphics API.
///
/// # Errors
/// There is none.
#[cfg(feature = "wgpu")]
pub fn check_wgpu() -> Result<(), TrainError> {
    let instance = wgpu::Instance::default();
    let adapters = cubecl::future::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    if adapters.is_empty() {
        return Err(TrainError::Device(
            "no device with Vulkan, Metal or DirectX 12 was found: install its driver or train with --device cpu"
                .into(),
        ));
    }
    Ok(())
}

/// Says how to get a program that can.
#[cfg(not(feature = "cuda"))]
pub(crate) fn train_cuda(_: &Job<'_>, _: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    Err(TrainError::Device(
        "this program was built without CUDA: build it with --features cuda or train with --device cpu".into(),
    ))
}

/// Says how to get a program that can.
#[cfg(not(feature = "wgpu"))]
pub(crate) fn train_wgpu(_: &Job<'_>, _: &mut dyn TrainObserver) -> Result<Report, TrainError> {
    Err(TrainError::Device(
        "this program was built without a graphics API: build it with --features wgpu or train with --device cpu"
            .into(),
    ))
}
