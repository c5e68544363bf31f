//! Memory of a table: zeroed, page aligned, on huge pages where the system gives them.
//!
//! A scan of hundreds of megabytes on 4 KiB pages loses time to address translation, and a vector's
//! storage starts at any multiple of 16 bytes, so that every other register would straddle two
//! cache lines. An anonymous map has neither fault.

use crate::RetrievalError;
use bytemuck::Pod;
use memmap2::MmapMut;
use std::marker::PhantomData;

/// A fixed number of values.
pub(crate) struct Buffer<T> {
    map: MmapMut,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// The system has not that much memory.
    pub(crate) fn zeroed(len: usize) -> Result<Buffer<T>, RetrievalError> {
        let refused = || RetrievalError::Memory { values: len };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(refused)?;
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|_| refused())?;
        // Only a hint: small pages are slower, never wrong.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Buffer { map, len, values: PhantomData })
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        bytemuck::cast_slice(&self.map[..self.len * size_of::<T>()])
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map[..self.len * size_of::<T>()])
    }
}
