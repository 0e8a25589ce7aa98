//! What the files of a model of the BERT family say: sizes, names of tensors, pooling, head.
//!
//! Read are the Hugging Face classes `BertModel`, `RobertaModel`, `XLMRobertaModel` and `DistilBertModel`,
//! each bare (an embedder) or with `…ForSequenceClassification` (a classifier), and the sentence-transformers
//! files that lie beside them.

use serde_json::Value;

use super::super::ModelError;
use super::super::source::{Config, Source, Weights};

/// Which names configuration and tensors go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
    DistilBert,
}

/// The values of `model_type` that are read.
pub(in super::super) const MODEL_TYPES: &[&str] = &["bert", "roberta", "xlm-roberta", "distilbert"];

impl Family {
    pub(super) fn of(config: &Config) -> Result<Self, ModelError> {
        match config.text("model_type")? {
            "bert" => Ok(Self::Bert),
            "roberta" | "xlm-roberta" => Ok(Self::Roberta),
            "distilbert" => Ok(Self::DistilBert),
            other => Err(config.invalid(format!("\"model_type\" {other:?} is not of this family"))),
        }
    }

    /// What a model with a head puts before the names of the encoder's tensors.
    fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
            Self::DistilBert => "distilbert.",
        }
    }

    /// The prefix that the tensors really have.
    pub(super) fn prefix_in(self, weights: &Weights) -> &'static str {
        let word = format!("{}embeddings.word_embeddings.weight", self.prefix());
        if weights.has(&word) {
            self.prefix()
        } else {
            ""
        }
    }

    /// The names of a layer's parts, after the prefix.
    pub(super) fn layer(self, at: usize) -> LayerNames {
        let name = |part: &str| match self {
            Self::DistilBert => format!("transformer.layer.{at}.{part}"),
            _ => format!("encoder.layer.{at}.{part}"),
        };
        match self {
            Self::DistilBert => LayerNames {
                qkv: ["q_lin", "k_lin", "v_lin"].map(|part| name(&format!("attention.{part}"))),
                attended: name("attention.out_lin"),
                attended_norm: name("sa_layer_norm"),
                widen: name("ffn.lin1"),
                narrow: name("ffn.lin2"),
                narrow_norm: name("output_layer_norm"),
            },
            _ => LayerNames {
                qkv: ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}"))),
                attended: name("attention.output.dense"),
                attended_norm: name("attention.output.LayerNorm"),
                widen: name("intermediate.dense"),
                narrow: name("output.dense"),
                narrow_norm: name("output.LayerNorm"),
            },
        }
    }

    /// The dense layer before the labels, with what follows it, and the layer of the labels. The
    /// first is looked for under the encoder's prefix where the flag says so.
    pub(super) fn head(self) -> HeadNames {
        match self {
            Self::Bert => HeadNames {
                dense: "pooler.dense",
                in_encoder: true,
                activation: Activation::Tanh,
                labels: "classifier",
            },
            Self::Roberta => HeadNames {
                dense: "classifier.dense",
                in_encoder: false,
                activation: Activation::Tanh,
                labels: "classifier.out_proj",
            },
            Self::DistilBert => HeadNames {
                dense: "pre_classifier",
                in_encoder: false,
                activation: Activation::Relu,
                labels: "classifier",
            },
        }
    }
}

/// Names of tensors without `.weight` and `.bias`.
pub(super) struct LayerNames {
    pub(super) qkv: [String; 3],
    pub(super) attended: String,
    pub(super) attended_norm: String,
    pub(super) widen: String,
    pub(super) narrow: String,
    pub(super) narrow_norm: String,
}

/// Names of the head's tensors.
pub(super) struct HeadNames {
    pub(super) dense: &'static str,
    pub(super) in_encoder: bool,
    pub(super) activation: Activation,
    pub(super) labels: &'static str,
}

/// A function of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// By the error function.
    Gelu,
    Relu,
    Tanh,
}

impl Activation {
    pub(super) fn apply(self, level: super::kernels::Level, values: &mut [f32]) {
        match self {
            Self::Gelu => level.gelu(values),
            Self::Relu => values
                .iter_mut()
                .for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Self::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
        }
    }
}

/// How the rows of a document become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    First,
}

impl Pooling {
    /// How many of the rows from `position` on count.
    pub(super) fn rows(self, position: usize) -> usize {
        match self {
            Self::Mean => usize::MAX,
            Self::First => usize::from(position == 0),
        }
    }
}

/// The sizes that `config.json` gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) vocabulary: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) feed_forward: usize,
    /// Tokens that can be read: rows of the position table less those before the first.
    pub(super) positions: usize,
    /// Row of the position table that belongs to the first token.
    pub(super) first_position: usize,
    /// Kinds of text; 0 where the model knows none.
    pub(super) types: usize,
}

impl Sizes {
    pub(super) fn read(config: &Config, family: Family) -> Result<Self, ModelError> {
        let distil = family == Family::DistilBert;
        let pick = |usual: &'static str, distilled: &'static str| {
            if distil { distilled } else { usual }
        };
        let table = config.size("max_position_embeddings", 65_536)?;
        let first_position = match family {
            Family::Roberta => config.number_or("pad_token_id", 1.0)?.clamp(0.0, 1e6) as usize + 1,
            _ => 0,
        };
        let types = if distil {
            0
        } else {
            config.size("type_vocab_size", 16)?
        };
        let sizes = Self {
            vocabulary: config.size("vocab_size", 1_000_000)?,
            hidden: config.size(pick("hidden_size", "dim"), 8192)?,
            layers: config.size(pick("num_hidden_layers", "n_layers"), 128)?,
            heads: config.size(pick("num_attention_heads", "n_heads"), 128)?,
            feed_forward: config.size(pick("intermediate_size", "hidden_dim"), 65_536)?,
            positions: table.saturating_sub(first_position),
            first_position,
            types,
        };
        if !sizes.hidden.is_multiple_of(sizes.heads) {
            return Err(config.invalid(format!(
                "{:?} {} is not divisible by {:?} {}",
                pick("hidden_size", "dim"),
                sizes.hidden,
                pick("num_attention_heads", "n_heads"),
                sizes.heads
            )));
        }
        if sizes.positions == 0 {
            return Err(config.invalid(format!(
                "\"max_position_embeddings\" {table} leaves no position after the first {first_position}"
            )));
        }
        if let Some(kind) = config.maybe_text("position_embedding_type")?
            && kind != "absolute"
        {
            return Err(config.invalid(format!(
                "\"position_embedding_type\" is {kind:?}; built is \"absolute\""
            )));
        }
        Ok(sizes)
    }

    /// The width of the widest row.
    pub(super) fn widest(&self) -> usize {
        self.feed_forward.max(3 * self.hidden)
    }
}

/// The activation between the two maps of a feed-forward block.
pub(super) fn activation(config: &Config, family: Family) -> Result<Activation, ModelError> {
    let key = match family {
        Family::DistilBert => "activation",
        _ => "hidden_act",
    };
    match config.text(key)? {
        "gelu" => Ok(Activation::Gelu),
        "relu" => Ok(Activation::Relu),
        other => Err(config.invalid(format!(
            "{key:?} is {other:?}; built are \"gelu\" and \"relu\""
        ))),
    }
}

/// How a classifier pools, and whether a dense layer comes before the labels. Hugging Face's classes
/// take the first token through one; `"classifier_pooling": "mean"` asks for the mean without one.
pub(super) fn classifier_pooling(config: &Config) -> Result<(Pooling, bool), ModelError> {
    match config.maybe_text("classifier_pooling")? {
        None => Ok((Pooling::First, true)),
        Some("mean") => Ok((Pooling::Mean, false)),
        Some(other) => Err(config.invalid(format!(
            "\"classifier_pooling\" is {other:?}; built is \"mean\", or no such key for the first \
             token through a dense layer"
        ))),
    }
}

/// Whether the head judges the embedding, of length 1, and not the pooled row as it is:
/// `"classifier_input": "embedding"`.
pub(super) fn normalised(config: &Config) -> Result<bool, ModelError> {
    match config.maybe_text("classifier_input")? {
        None => Ok(false),
        Some("embedding") => Ok(true),
        Some(other) => Err(config.invalid(format!(
            "\"classifier_input\" is {other:?}; built is \"embedding\", or no such key for the pooled row"
        ))),
    }
}

/// How an embedder pools, from sentence-transformers' `modules.json` and `1_Pooling/config.json`; the mean
/// where there are none. Modules that would change the vector are refused.
pub(super) fn embedder_pooling(source: &Source<'_>) -> Result<Pooling, ModelError> {
    if let Some(modules) = source.maybe_json("modules.json")? {
        let file = source.describe("modules.json");
        let list = modules
            .as_array()
            .ok_or_else(|| ModelError::invalid(&file, "is not a list of modules"))?;
        for module in list {
            let kind = module
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let last = kind.rsplit('.').next().unwrap_or_default();
            if !["Transformer", "Pooling", "Normalize"].contains(&last) {
                return Err(ModelError::invalid(
                    &file,
                    format!("has a module {kind:?}; built are Transformer, Pooling and Normalize"),
                ));
            }
        }
    }
    let Some(pooling) = source.maybe_json("1_Pooling/config.json")? else {
        return Ok(Pooling::Mean);
    };
    let on: Vec<&str> = pooling
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on.as_slice() {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        other => Err(ModelError::invalid(
            source.describe("1_Pooling/config.json"),
            format!(
                "pools by {other:?}; built are \"pooling_mode_mean_tokens\" and \"pooling_mode_cls_token\""
            ),
        )),
    }
}

/// The most tokens of a document: what sentence-transformers says, but never more than there are
/// positions. The truncation in `tokenizer.json` is often that of the last training run, so it is not
/// asked.
pub(super) fn max_tokens(source: &Source<'_>, positions: usize) -> Result<usize, ModelError> {
    let name = "sentence_bert_config.json";
    let Some(json) = source.maybe_json(name)? else {
        return Ok(positions);
    };
    match json.get("max_seq_length") {
        None | Some(Value::Null) => Ok(positions),
        Some(value) => value
            .as_u64()
            .filter(|n| *n > 0)
            .and_then(|n| usize::try_from(n).ok())
            .map(|n| n.min(positions))
            .ok_or_else(|| {
                ModelError::invalid(
                    source.describe(name),
                    "needs \"max_seq_length\" with a positive integer",
                )
            }),
    }
}
