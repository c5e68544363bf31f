//! From an image file's bytes to a pixel tensor: RGB, resized without keeping the aspect ratio, and
//! normalised, by `preprocessor_config.json` or by the EfficientNet-Lite0 rule.

use super::read_json;
use crate::BuildError;
use image::imageops::FilterType;
use image::{ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Longest side of an image that is decoded, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Most memory a decoder may take for one image, in bytes.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Size and normalisation: `(value * scale - mean) / std` for each channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preprocess {
    /// Rows.
    pub(crate) height: usize,
    /// Columns.
    pub(crate) width: usize,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
    filter: Filter,
}

/// How pixels are resampled; both filters widen when shrinking, as PIL's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Bilinear,
    Bicubic,
}

impl Preprocess {
    /// What the folder of an encoder asks for.
    ///
    /// # Errors
    /// A `preprocessor_config.json` without a size, or with a resampling that is not known.
    pub(crate) fn read(dir: &Path) -> Result<Preprocess, BuildError> {
        let path = dir.join("preprocessor_config.json");
        if !path.is_file() {
            return Ok(Preprocess::efficientnet_lite0());
        }
        let config = read_json(&path)?;
        let side = |name: &str| {
            let size = &config["size"];
            size[name].as_u64().or(size["shortest_edge"].as_u64()).or(size.as_u64())
        };
        let side = |name: &str| {
            side(name)
                .filter(|side| (1..=u64::from(MAX_SIDE)).contains(side))
                .map(|side| side as usize)
                .ok_or_else(|| BuildError::input(&path, format!("`size` gives no {name} in 1..={MAX_SIDE}")))
        };
        let channels = |name: &str| {
            let values: Vec<f32> =
                config[name].as_array().into_iter().flatten().filter_map(|v| v.as_f64()).map(|v| v as f32).collect();
            <[f32; 3]>::try_from(values).map_err(|_| BuildError::input(&path, format!("`{name}` is not three numbers")))
        };
        // PIL's numbers: 2 is bilinear, 3 bicubic.
        let filter = match config["resample"].as_u64() {
            Some(2) => Filter::Bilinear,
            Some(3) | None => Filter::Bicubic,
            Some(other) => {
                return Err(BuildError::input(
                    &path,
                    format!("`resample` is {other}; 2 (bilinear) and 3 (bicubic) are known"),
                ));
            }
        };
        Ok(Preprocess {
            height: side("height")?,
            width: side("width")?,
            scale: config["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) as f32,
            mean: channels("image_mean")?,
            std: channels("image_std")?,
            filter,
        })
    }

    /// 224 x 224, bicubic, `(value - 127) / 128`.
    fn efficientnet_lite0() -> Preprocess {
        Preprocess { height: 224, width: 224, scale: 1.0, mean: [127.0; 3], std: [128.0; 3], filter: Filter::Bicubic }
    }

    /// Bytes of an image file -> `[3, height, width]`; the error is the decoder's sentence.
    pub(crate) fn pixels(&self, bytes: &[u8]) -> Result<Vec<f32>, String> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_DECODED_BYTES);
        reader.limits(limits);
        let image = reader.decode().map_err(|e| e.to_string())?.to_rgb8();
        let filter = match self.filter {
            Filter::Bilinear => FilterType::Triangle,
            Filter::Bicubic => FilterType::CatmullRom,
        };
        let image = image::imageops::resize(&image, self.width as u32, self.height as u32, filter);
        let plane = self.height * self.width;
        let mut pixels = vec![0.0; 3 * plane];
        for (at, pixel) in image.pixels().enumerate() {
            for channel in 0..3 {
                let value = f32::from(pixel[channel]) * self.scale;
                pixels[channel * plane + at] = (value - self.mean[channel]) / self.std[channel];
            }
        }
        Ok(pixels)
    }
}
