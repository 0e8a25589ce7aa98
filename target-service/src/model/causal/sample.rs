//! The choice of the next token.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::ModelError;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Scores are divided by it; at 0 the best token is taken, of equals the first.
    pub temperature: f32,
    /// Only the most probable tokens that together have this share are chosen from; in (0, 1].
    pub top_p: f32,
    /// The same seed, prompt and parameters give the same text.
    pub seed: u64,
}

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    /// Probabilities and tokens of a choice, kept for the next.
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// At the beginning of a sequence.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
            candidates: Vec::new(),
        }
    }

    /// The next token by its scores.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`] when a score is not a number, or there is none.
    pub fn choose(&mut self, scores: &[f32]) -> Result<u32, ModelError> {
        let bad = scores.iter().position(|v| !v.is_finite());
        if let Some(label) = bad.or(scores.is_empty().then_some(0)) {
            return Err(ModelError::NotFinite { label });
        }
        let best = (1..scores.len()).fold(
            0,
            |best, at| {
                if scores[at] > scores[best] { at } else { best }
            },
        );
        let Sampling {
            temperature, top_p, ..
        } = self.sampling;
        if temperature == 0.0 {
            return Ok(best as u32);
        }
        let weight = |v: f32| ((v - scores[best]) / temperature).exp();
        let all: f32 = scores.iter().map(|v| weight(*v)).sum();
        // One of n that has less than (1 - p) / n cannot be needed: all such together have less than 1 - p.
        let least = match top_p < 1.0 {
            true => (1.0 - top_p) / scores.len() as f32,
            false => 0.0,
        };
        self.candidates.clear();
        let probable = scores.iter().zip(0u32..);
        let probable = probable.map(|(v, token)| (weight(*v) / all, token));
        self.candidates
            .extend(probable.filter(|(p, _)| *p >= least));
        if top_p < 1.0 {
            self.candidates
                .sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let mut sum = 0.0;
            let enough = self.candidates.iter().position(|(p, _)| {
                sum += p;
                sum >= top_p
            });
            if let Some(last) = enough {
                self.candidates.truncate(last + 1);
            }
        }
        let sum: f32 = self.candidates.iter().map(|(p, _)| p).sum();
        let mut left = self.random.random::<f32>() * sum;
        for (p, token) in &self.candidates {
            left -= p;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        // Rounding may leave a little; there is always the best.
        Ok(self
            .candidates
            .last()
            .map_or(best as u32, |(_, token)| *token))
    }
}
