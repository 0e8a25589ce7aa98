//! Sentences with slots, and documents made of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

const SHARED: &str = "shared";

#[derive(Default)]
struct Section {
    slots: BTreeMap<String, Vec<String>>,
    sentences: Vec<String>,
}

pub(crate) struct Templates {
    sections: BTreeMap<String, Section>,
    groups: Vec<String>,
}

impl Templates {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut sections = BTreeMap::<String, Section>::new();
        let mut current = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                current = Some(sections.entry(name.to_owned()).or_default());
                continue;
            }
            let section = current
                .as_mut()
                .with_context(|| format!("line {}: before the first [section]", at + 1))?;
            match line.split_once(" = ") {
                Some((name, values)) => {
                    let values = values.split(" | ").map(str::to_owned).collect();
                    section.slots.insert(name.to_owned(), values);
                }
                None => section.sentences.push(line.to_owned()),
            }
        }
        let groups: Vec<String> = sections.keys().filter(|k| *k != SHARED).cloned().collect();
        ensure!(
            !groups.is_empty() && sections.contains_key(SHARED),
            "needs [shared] and a group"
        );
        Ok(Self { sections, groups })
    }

    /// The newsgroups, in alphabetical order.
    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// A document on `group` of about `length` bytes: paragraphs of sentences of the group, now and
    /// then one of those that fit anywhere. A sentence comes again only when all have been used.
    pub(crate) fn compose(
        &self,
        group: &str,
        length: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<String> {
        let (own, shared) = (&self.sections[group], &self.sections[SHARED]);
        let (mut own_deck, mut shared_deck) = (Vec::new(), Vec::new());
        let mut text = String::new();
        let (mut in_paragraph, mut paragraph) = (0, rng.random_range(2..6));
        loop {
            // The first sentence says what the document is about.
            let aside = !text.is_empty() && rng.random::<f32>() < 0.15;
            let (deck, section) = if aside {
                (&mut shared_deck, shared)
            } else {
                (&mut own_deck, own)
            };
            if deck.is_empty() {
                deck.extend(section.sentences.iter());
                deck.shuffle(rng);
            }
            let Some(template) = deck.pop() else {
                bail!("{group} has no sentences")
            };
            let sentence = self.fill(template, own, rng)?;
            let closer = (text.len() + sentence.len() / 2) <= length;
            if !text.is_empty() && !closer {
                return Ok(text);
            }
            if !text.is_empty() {
                let end = in_paragraph == paragraph;
                text.push_str(if end { "\n\n" } else { " " });
                if end {
                    (in_paragraph, paragraph) = (0, rng.random_range(2..6));
                }
            }
            in_paragraph += 1;
            text.push_str(&sentence);
        }
    }

    fn fill(&self, template: &str, own: &Section, rng: &mut ChaCha8Rng) -> Result<String> {
        let mut sentence = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .with_context(|| format!("{template:?} has a slot without an end"))?;
            let values = own
                .slots
                .get(name)
                .or_else(|| self.sections[SHARED].slots.get(name))
                .with_context(|| format!("{template:?}: nothing fills {{{name}}}"))?;
            // Twice the same make or team in one sentence would read oddly.
            let fresh: Vec<&String> = values
                .iter()
                .filter(|v| !sentence.contains(v.as_str()))
                .collect();
            let value = fresh
                .choose(rng)
                .map_or_else(|| values[0].as_str(), |v| v.as_str());
            sentence.push_str(before);
            sentence.push_str(value);
            rest = after;
        }
        sentence.push_str(rest);
        let mut letters = sentence.chars();
        Ok(letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect())
            .unwrap_or_default())
    }
}
