//! Text encoders in the Hugging Face layout: tokenizer, ONNX graph, pooling, unit norm.
//!
//! ```text
//! text -> input_ids, attention_mask, token_type_ids [1, l] -> hidden [1, l, d] -> mean or CLS -> [d]
//! ```
//! A text is its own batch, so there is nothing to pad and the mean is over all its tokens.

use super::session::{Elements, Input, InputKind, Runtime, Session};
use super::{encoder_name, model_file, read_json, session, unit_norm, weights_sha256};
use crate::BuildError;
use crate::config::TextEncoderConfig;
use feature_store::{EncoderInfo, sha256_bytes, sha256_file};
use std::path::{Path, PathBuf};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// Raised when the arithmetic between text and vector changes: it parts the cache from older ones.
const VERSION: u32 = 1;
const MODELS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
const OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// A loaded text encoder.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    session: Box<dyn Session>,
    pooling: Pooling,
    model: PathBuf,
    dim: usize,
    info: EncoderInfo,
    identity: String,
}

/// How token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    Cls,
}

impl TextEncoder {
    /// Loads `dir`; texts are cut after `max_tokens` tokens, the special ones included.
    ///
    /// # Errors
    /// A file of the layout is missing or unusable: named. Or the graph takes fewer tokens.
    pub fn load(dir: &Path, runtime: &Runtime, max_tokens: usize) -> Result<TextEncoder, BuildError> {
        let model = model_file(dir, &MODELS)?;
        let pooling_file = dir.join("1_Pooling/config.json");
        let pooling = read_pooling(&pooling_file)?;
        let tokenizer_file = dir.join("tokenizer.json");
        let tokenizer = read_tokenizer(&tokenizer_file, max_tokens)?;
        let weights = weights_sha256(&model)?;
        let (_, tokenizer_sha256) = sha256_file(&tokenizer_file)?;
        let identity =
            format!("text {VERSION} {} {weights} {tokenizer_sha256} {pooling:?} {max_tokens}", runtime.name());
        let mut encoder = TextEncoder {
            tokenizer,
            session: session::load(runtime, &model, InputKind::Tokens, &OUTPUTS)?,
            pooling,
            model,
            dim: 0,
            info: EncoderInfo { name: encoder_name(dir), weights_sha256: Some(weights) },
            identity: sha256_bytes(identity.as_bytes()),
        };
        // One run says what the width is, and that the graph takes what it is given.
        encoder.dim = encoder.encode("width")?.len();
        encoder.check_longest(max_tokens)?;
        Ok(encoder)
    }

    /// Encodes a text of as many tokens as are allowed: a graph has a position for each of so many, and a longer text
    /// would end a build in its midst. Not read from a config, since models count positions differently.
    fn check_longest(&self, max_tokens: usize) -> Result<(), BuildError> {
        self.encode(&"a ".repeat(max_tokens)).map(drop).map_err(|error| {
            let way_out = "lower text_encoder.max_tokens to what the model was made for, such as 512";
            let error = match error {
                BuildError::Input { reason, .. } => reason,
                other => other.to_string(),
            };
            let reason = format!("does not take a text of {max_tokens} tokens ({error}); {way_out}");
            BuildError::input(&self.model, reason)
        })
    }

    /// As [`TextEncoder::load`], from a configuration.
    pub(crate) fn from_config(config: &TextEncoderConfig, base_dir: &Path) -> Result<TextEncoder, BuildError> {
        TextEncoder::load(&base_dir.join(&config.dir), &config.runtime, config.max_tokens)
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Name and checksum of the weights.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Digest of everything but the text that an embedding depends on.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// One text -> `[dim]`, norm 1.
    ///
    /// # Errors
    /// The tokenizer or the graph refuses, which no text should cause, or the graph gives numbers that are not finite.
    pub fn encode(&self, text: &str) -> Result<Vec<f32>, BuildError> {
        let tokens = self.tokenizer.encode_fast(text, true).map_err(|e| BuildError::input(&self.model, e))?;
        let inputs = self
            .session
            .inputs()
            .iter()
            .map(|name| token_input(name, &tokens).ok_or_else(|| self.unknown_input(name)))
            .collect::<Result<Vec<_>, _>>()?;
        let hidden = self.session.run(inputs).map_err(|e| BuildError::input(&self.model, e))?;
        let &[1, length @ 1..=usize::MAX, dim @ 1..=usize::MAX] = hidden.shape.as_slice() else {
            return Err(BuildError::input(
                &self.model,
                format!("gives shape {:?}; [1, tokens, width] is expected", hidden.shape),
            ));
        };
        let mut vector = hidden.values[..dim].to_vec();
        if self.pooling == Pooling::Mean {
            // The sum is enough: the norm takes the count out again.
            for row in hidden.values[dim..length * dim].chunks_exact(dim) {
                vector.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        unit_norm(vector).map_err(|reason| BuildError::input(&self.model, reason))
    }

    fn unknown_input(&self, name: &str) -> BuildError {
        let known = "input_ids, attention_mask and token_type_ids";
        BuildError::input(&self.model, format!("wants an input `{name}`; a text encoder is given {known}"))
    }
}

fn token_input(name: &str, tokens: &Encoding) -> Option<Input> {
    let ids = match name {
        "input_ids" => tokens.get_ids(),
        "attention_mask" => tokens.get_attention_mask(),
        "token_type_ids" => tokens.get_type_ids(),
        _ => return None,
    };
    let values: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    Some(Input { shape: vec![1, values.len()], elements: Elements::I64(values) })
}

fn read_tokenizer(path: &Path, max_tokens: usize) -> Result<Tokenizer, BuildError> {
    std::fs::metadata(path).map_err(BuildError::io(path))?;
    let unusable = |e: tokenizers::Error| BuildError::input(path, format!("is no tokenizer: {e}"));
    let mut tokenizer = Tokenizer::from_file(path).map_err(unusable)?;
    let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(unusable)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn read_pooling(path: &Path) -> Result<Pooling, BuildError> {
    let config = read_json(path)?;
    let on = |mode: &str| config[mode].as_bool() == Some(true);
    match (on("pooling_mode_mean_tokens"), on("pooling_mode_cls_token")) {
        (true, false) => Ok(Pooling::Mean),
        (false, true) => Ok(Pooling::Cls),
        _ => Err(BuildError::input(path, "asks for neither mean nor CLS pooling alone; those two are known")),
    }
}
