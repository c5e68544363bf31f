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
    /// A `preprocessor_config.json` without a size or a resampling, or with a resampling or a step that is not known.
    pub(crate) fn read(dir: &Path) -> Result<Preprocess, BuildError> {
        let path = dir.join("preprocessor_config.json");
        if !path.is_file() {
            return Ok(Preprocess::efficientnet_lite0());
        }
        let config = read_json(&path)?;
        refuse_other_steps(&path, &config)?;
        let side = |name: &str| config["size"][name].as_u64().or(config["size"].as_u64());
        let side = |name: &str| {
            side(name)
                .filter(|side| (1..=u64::from(MAX_SIDE)).contains(side))
                .map(|side| side as usize)
                .ok_or_else(|| BuildError::input(&path, format!("`size` gives no {name} in 1..={MAX_SIDE}")))
        };
        let channels = |name: &str| {
            let values = config[name].as_array().into_iter().flatten();
            let values: Option<Vec<f32>> = values.map(|value| value.as_f64().map(|value| value as f32)).collect();
            let three = values.and_then(|values| <[f32; 3]>::try_from(values).ok());
            three.ok_or_else(|| BuildError::input(&path, format!("`{name}` is not three numbers")))
        };
        let resample = &config["resample"];
        // PIL's numbers: 2 is bilinear, 3 bicubic.
        let filter = match resample.as_u64() {
            Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            // What is meant where nothing is said depends on the program that the encoder comes from.
            None if resample.is_null() => {
                return Err(BuildError::input(
                    &path,
                    "says no `resample`; write 2 (bilinear) or 3 (bicubic), as the encoder was trained with",
                ));
            }
            _ => {
                return Err(BuildError::input(
                    &path,
                    format!("`resample` is {resample}; 2 (bilinear) and 3 (bicubic) are known"),
                ));
            }
        };
        // Both steps are done unless the config says otherwise.
        let scale = match config["do_rescale"].as_bool() {
            Some(false) => 1.0,
            _ => config["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) as f32,
        };
        let (mean, std) = match config["do_normalize"].as_bool() {
            Some(false) => ([0.0; 3], [1.0; 3]),
            _ => (channels("image_mean")?, channels("image_std")?),
        };
        Ok(Preprocess { height: side("height")?, width: side("width")?, scale, mean, std, filter })
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

/// Steps of other encoders that are not done here: without them an image would give another embedding than the
/// encoder's own program makes of it.
fn refuse_other_steps(path: &Path, config: &serde_json::Value) -> Result<(), BuildError> {
    let way_out = "images are resized to a `size` with `height` and `width`, and not cropped; give such a config";
    let refuse = |field: &str, value: &serde_json::Value| {
        Err(BuildError::input(path, format!("`{field}` is {value}, which is not done here: {way_out}")))
    };
    let edge = &config["size"]["shortest_edge"];
    if !edge.is_null() {
        return refuse("size.shortest_edge", edge);
    }
    for (field, odd) in [("do_center_crop", true), ("do_resize", false)] {
        if config[field].as_bool() == Some(odd) {
            return refuse(field, &config[field]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a config with these fields more or less says.
    fn read(fields: &str) -> Result<Preprocess, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("preprocessor_config.json");
        std::fs::write(path, format!("{{{fields}}}")).unwrap();
        Preprocess::read(dir.path()).map_err(|error| error.to_string())
    }

    const SIZE: &str = r#""size": {"height": 8, "width": 6}"#;
    const SCALE: f32 = (1.0_f64 / 255.0) as f32;
    const NORMAL: &str = r#""image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]"#;

    #[test]
    fn steps_are_done_or_left_out_as_the_config_says() {
        let check = |fields: &str, scale: f32, mean: f32, std: f32| {
            let expect =
                Preprocess { height: 8, width: 6, scale, mean: [mean; 3], std: [std; 3], filter: Filter::Bicubic };
            assert_eq!(read(&format!("{SIZE}, {fields}")).unwrap(), expect, "{fields}");
        };
        let check = |fields: &str, scale, mean, std| check(&format!(r#"{fields}, "resample": 3"#), scale, mean, std);
        check(NORMAL, SCALE, 0.5, 0.25);
        check(&format!(r#"{NORMAL}, "do_rescale": true, "do_normalize": true"#), SCALE, 0.5, 0.25);
        check(&format!(r#"{NORMAL}, "do_rescale": false"#), 1.0, 0.5, 0.25);
        check(r#""do_normalize": false"#, SCALE, 0.0, 1.0);
        check(&format!(r#"{NORMAL}, "do_center_crop": false, "do_resize": true"#), SCALE, 0.5, 0.25);
    }

    #[test]
    fn steps_that_are_not_done_are_refused_by_field_and_value() {
        let check = |fields: &str, parts: &[&str]| {
            let error = read(&format!("{NORMAL}, {fields}")).unwrap_err();
            for part in parts.iter().chain(&["preprocessor_config.json"]) {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        };
        check(r#""size": {"shortest_edge": 224}"#, &["`size.shortest_edge` is 224"]);
        check(&format!(r#"{SIZE}, "do_center_crop": true"#), &["`do_center_crop` is true"]);
        check(&format!(r#"{SIZE}, "do_resize": false"#), &["`do_resize` is false"]);
        check(r#""size": {"height": 8}, "resample": 3"#, &["no width"]);
        check(&format!(r#"{SIZE}, "resample": 1"#), &["`resample` is 1", "2 (bilinear)"]);
        check(SIZE, &["no `resample`", "2 (bilinear)"]);
        check(&format!(r#"{SIZE}, "resample": null"#), &["no `resample`", "3 (bicubic)"]);
        check(&format!(r#"{SIZE}, "resample": "bilinear""#), &["`resample` is \"bilinear\"", "2 (bilinear)"]);
    }
}
