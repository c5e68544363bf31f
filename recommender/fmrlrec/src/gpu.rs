//! Training on a GPU: the same loop over burn-cuda (feature `cuda`) or burn-wgpu (feature `wgpu`:
//! Vulkan, Metal). What is missing is said before a backend would panic over it.

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

/// Whether there is what CUDA needs: the driver, a device that it sees, and NVRTC with the headers that kernels
/// are compiled with.
///
/// # Errors
/// What is missing.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
pub fn check_cuda() -> Result<(), TrainError> {
    // SAFETY: both calls only look for a shared library by its usual names.
    let (driver, compiler) =
        unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    let missing =
        |what: &str, way_out: &str| Err(TrainError::Device(format!("{what}: {way_out} or train with --device cpu")));
    let toolkit = "install the CUDA runtime (NVRTC and headers) and set CUDA_PATH to it";
    if !driver {
        return missing("libcuda was not found", "install the NVIDIA driver");
    }
    // Only after the library was found: without it these calls would panic.
    let see = "see what nvidia-smi and CUDA_VISIBLE_DEVICES say";
    match cudarc::driver::CudaContext::device_count() {
        Err(error) => return missing(&format!("the CUDA driver does not start ({error:?})"), see),
        Ok(..=0) => return missing("the CUDA driver sees no device", see),
        Ok(_) => (),
    }
    if !compiler {
        return missing("libnvrtc was not found", toolkit);
    }
    // Where the backend itself looks; every kernel includes this header.
    let header = cubecl::cuda::install::cuda_path().map(|path| path.join("include").join("cuda_runtime.h"));
    match header {
        None => missing("no CUDA installation was found", toolkit),
        Some(header) if !header.is_file() => missing(&format!("{} was not found", header.display()), toolkit),
        Some(_) => Ok(()),
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
    // The ones that the backend asks for; OpenGL, which wgpu finds too, has no part in it.
    let backends = if cfg!(target_os = "macos") { wgpu::Backends::METAL } else { wgpu::Backends::VULKAN };
    let adapters = cubecl::future::block_on(instance.enumerate_adapters(backends));
    if adapters.is_empty() {
        return Err(TrainError::Device(
            "no device with Vulkan or Metal was found: install its driver or train with --device cpu".into(),
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
