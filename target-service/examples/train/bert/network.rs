//! The encoder as it is trained: primitive tensor operations only, since the fused ones that candle
//! offers (`layer_norm`, `softmax_last_dim`) cut the gradient without a word.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Recipe;
use crate::corpus::LABELS;

/// The weights, by their Hugging Face names.
pub(crate) struct Network {
    recipe: Recipe,
    vars: BTreeMap<String, Var>,
}

/// Documents of similar length, padded to the longest.
pub(crate) struct Batch {
    /// Token ids, batch × length.
    pub(crate) ids: Tensor,
    /// 1 for a token, 0 for padding; batch × length.
    pub(crate) real: Tensor,
    pub(crate) labels: Tensor,
}

impl Network {
    pub(crate) fn new(recipe: Recipe, words: &Tensor, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (h, f) = (recipe.hidden, recipe.feed_forward);
        let mut vars = BTreeMap::new();
        let mut add = |name: &str, value: Tensor| -> Result<()> {
            vars.insert(name.to_owned(), Var::from_tensor(&value)?);
            Ok(())
        };
        add("bert.embeddings.word_embeddings.weight", words.clone())?;
        add(
            "bert.embeddings.position_embeddings.weight",
            normal(&mut rng, &[recipe.max_tokens, h], 0.02)?,
        )?;
        let mut norms = vec!["bert.embeddings".to_owned()];
        let mut linears = vec![("classifier".to_owned(), h, LABELS.len())];
        for layer in 0..recipe.layers {
            let at = format!("bert.encoder.layer.{layer}");
            norms.extend([format!("{at}.attention.output"), format!("{at}.output")]);
            for part in ["query", "key", "value"] {
                linears.push((format!("{at}.attention.self.{part}"), h, h));
            }
            linears.push((format!("{at}.attention.output.dense"), h, h));
            linears.push((format!("{at}.intermediate.dense"), h, f));
            linears.push((format!("{at}.output.dense"), f, h));
        }
        for name in norms {
            add(
                &format!("{name}.LayerNorm.weight"),
                Tensor::ones(h, DType::F32, &Device::Cpu)?,
            )?;
            add(
                &format!("{name}.LayerNorm.bias"),
                Tensor::zeros(h, DType::F32, &Device::Cpu)?,
            )?;
        }
        for (name, from, to) in linears {
            let deviation = (2.0 / (from + to) as f32).sqrt();
            add(
                &format!("{name}.weight"),
                normal(&mut rng, &[to, from], deviation)?,
            )?;
            add(
                &format!("{name}.bias"),
                Tensor::zeros(to, DType::F32, &Device::Cpu)?,
            )?;
        }
        Ok(Self { recipe, vars })
    }

    /// Weights that are drawn towards zero: matrices, but not biases and norms.
    pub(crate) fn matrices(&self) -> Vec<Var> {
        self.select(|var| var.rank() == 2)
    }

    /// The others.
    pub(crate) fn vectors(&self) -> Vec<Var> {
        self.select(|var| var.rank() != 2)
    }

    fn select(&self, wanted: impl Fn(&Var) -> bool) -> Vec<Var> {
        self.vars.values().filter(|v| wanted(v)).cloned().collect()
    }

    /// Everything that is to be stored, halved in width.
    pub(crate) fn stored(&self) -> Result<std::collections::HashMap<String, Tensor>> {
        let mut tensors = std::collections::HashMap::new();
        for (name, var) in &self.vars {
            tensors.insert(name.clone(), var.as_tensor().to_dtype(DType::F16)?);
        }
        // One kind of text only; the layout wants the tensor nonetheless.
        tensors.insert(
            "bert.embeddings.token_type_embeddings.weight".to_owned(),
            Tensor::zeros((1, self.recipe.hidden), DType::F16, &Device::Cpu)?,
        );
        Ok(tensors)
    }

    /// An operation that does not carry gradients leaves part of the network untrained, and
    /// nothing else would tell.
    pub(crate) fn every_weight_learns(&self, gradients: &GradStore) -> Result<()> {
        for (name, var) in &self.vars {
            // The key's bias shifts all scores of a row alike, so its gradient is only noise.
            if name.ends_with("key.bias") {
                continue;
            }
            let size = match gradients.get(var) {
                Some(g) => g.sqr()?.sum_all()?.to_scalar::<f32>()?,
                None => 0.0,
            };
            ensure!(size > 0.0 && size.is_finite(), "{name} gets no gradient");
        }
        Ok(())
    }

    /// Logits, batch × labels. With `rng` some of the activations are dropped.
    pub(crate) fn forward(&self, batch: &Batch, rng: &mut Option<ChaCha8Rng>) -> Result<Tensor> {
        let (b, l) = batch.ids.dims2()?;
        let h = self.recipe.hidden;
        let words = self.vars["bert.embeddings.word_embeddings.weight"]
            .index_select(&batch.ids.flatten_all()?, 0)?
            .reshape((b, l, h))?;
        let positions = self.vars["bert.embeddings.position_embeddings.weight"].narrow(0, 0, l)?;
        let x = self.norm("bert.embeddings", &words.broadcast_add(&positions)?)?;
        let mut x = self.dropped(x.reshape((b * l, h))?, rng)?;
        let mask = ((batch.real.reshape((b, 1, 1, l))? - 1.0)? * 1e4)?;
        for layer in 0..self.recipe.layers {
            let at = format!("bert.encoder.layer.{layer}");
            let attended = self.attention(&at, &x, &mask, (b, l))?;
            let attended = self.linear(&format!("{at}.attention.output.dense"), &attended)?;
            let attended = self.dropped(attended, rng)?;
            x = self.norm(&format!("{at}.attention.output"), &(x + attended)?)?;
            let wide = self
                .linear(&format!("{at}.intermediate.dense"), &x)?
                .gelu_erf()?;
            let narrow = self.linear(&format!("{at}.output.dense"), &wide)?;
            let narrow = self.dropped(narrow, rng)?;
            x = self.norm(&format!("{at}.output"), &(x + narrow)?)?;
        }
        let real = batch.real.reshape((b, l, 1))?;
        let sum = x.reshape((b, l, h))?.broadcast_mul(&real)?.sum(1)?;
        let pooled = sum.broadcast_div(&batch.real.sum_keepdim(1)?)?;
        self.linear("classifier", &self.dropped(pooled, rng)?)
    }

    fn attention(
        &self,
        at: &str,
        x: &Tensor,
        mask: &Tensor,
        (b, l): (usize, usize),
    ) -> Result<Tensor> {
        let (h, heads) = (self.recipe.hidden, self.recipe.heads);
        let width = h / heads;
        let part = |name: &str| -> Result<Tensor> {
            Ok(self
                .linear(&format!("{at}.attention.self.{name}"), x)?
                .reshape((b, l, heads, width))?
                .transpose(1, 2)?
                .contiguous()?)
        };
        let (q, k, v) = (part("query")?, part("key")?, part("value")?);
        let scores = (q.matmul(&k.t()?)? * (1.0 / (width as f64).sqrt()))?;
        let scores = scores.broadcast_add(mask)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        Ok(weights.matmul(&v)?.transpose(1, 2)?.reshape((b * l, h))?)
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = &self.vars[&format!("{name}.weight")];
        let bias = &self.vars[&format!("{name}.bias")];
        Ok(x.matmul(&weight.t()?)?.broadcast_add(bias)?)
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + super::EPSILON)?.sqrt()?)?;
        Ok(normed
            .broadcast_mul(&self.vars[&format!("{name}.LayerNorm.weight")])?
            .broadcast_add(&self.vars[&format!("{name}.LayerNorm.bias")])?)
    }

    /// candle's own dropout cannot be seeded.
    fn dropped(&self, x: Tensor, rng: &mut Option<ChaCha8Rng>) -> Result<Tensor> {
        let Some(rng) = rng else { return Ok(x) };
        let kept = 1.0 / (1.0 - self.recipe.dropout);
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| {
                if rng.random::<f32>() < self.recipe.dropout {
                    0.0
                } else {
                    kept
                }
            })
            .collect();
        Ok((&x * Tensor::from_vec(mask, x.shape(), &Device::Cpu)?)?)
    }
}

/// Normally distributed numbers (Box–Muller) with mean 0.
fn normal(rng: &mut ChaCha8Rng, shape: &[usize], deviation: f32) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
            deviation * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        })
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
