//! candle's operators, as a CUDA device has them, on the processor: against the plain pass and our own kernels.

use super::*;
use crate::model::{ModelError, load_on};

/// An engine that computes by candle's operators, as on a CUDA device, but on the processor.
fn by_operators(dir: &Path) -> Box<dyn Infer> {
    let device = model::Device::Candle(Device::Cpu);
    load_on(dir, &device).unwrap().engine(1)
}

#[test]
fn candles_operators_compute_what_the_plain_pass_does() {
    let tensors = made_up();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), &tensors);
    let plain = Plain::new(&tensors);
    let mut engine = by_operators(dir.path());
    let mut documents = documents();
    let foreign = document(&[VOCABULARY as u32]);
    documents.insert(2, foreign.clone());
    let answers = engine.infer(&documents.iter().collect::<Vec<_>>());
    for (document, answer) in documents.iter().zip(answers) {
        if *document == foreign {
            assert!(matches!(answer, Err(ModelError::Mismatch(_))));
            continue;
        }
        let answer = answer.unwrap();
        assert_close(&answer.scores, &plain.predict(&document.ids));
        let embedding = unit(&mean(&plain.hidden(&document.ids)));
        assert_close(&answer.embedding, &embedding);
    }
    assert!(engine.infer(&[]).is_empty());
    // More than go through the layers together.
    let many = vec![document(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]); 1000];
    let want = plain.predict(&many[0].ids);
    for answer in engine.infer(&many.iter().collect::<Vec<_>>()) {
        assert_close(&answer.unwrap().scores, &want);
    }
}

/// Whatever the files ask for, candle's operators and our own kernels answer alike.
#[test]
fn candles_operators_know_what_our_kernels_know() {
    let mut tensors = made_up();
    let mut seed = 11;
    for (part, shape) in [("weight", vec![HIDDEN, HIDDEN]), ("bias", vec![HIDDEN])] {
        let values = noise(shape.iter().product(), &mut seed);
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(format!("bert.pooler.dense.{part}"), tensor);
    }
    let with = |changes: &[(&str, serde_json::Value)]| {
        let mut keys = config();
        for (key, value) in changes {
            keys[*key] = value.clone();
        }
        keys
    };
    let none = serde_json::Value::Null;
    let bare = serde_json::json!(["BertModel"]);
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for keys in [
        with(&[("hidden_act", "relu".into())]),
        // The first token, through a dense layer.
        with(&[("classifier_pooling", none)]),
        with(&[("architectures", bare)]),
    ] {
        write(dir.path(), &keys, &tensors);
        let mut theirs = by_operators(dir.path());
        let documents = documents();
        let theirs = theirs.infer(&documents.iter().collect::<Vec<_>>());
        for (ours, theirs) in answers(dir.path()).into_iter().zip(theirs) {
            let theirs = theirs.unwrap();
            let wide =
                |values: &[f32]| -> Vec<f64> { values.iter().map(|v| (*v).into()).collect() };
            assert_close(&theirs.scores, &wide(&ours.scores));
            assert_close(&theirs.embedding, &wide(&ours.embedding));
            seen.push(ours);
        }
    }
    // The files did ask for different things.
    let each = documents().len();
    assert!(seen[0] != seen[each] && seen[each] != seen[2 * each]);
}

/// Weights so large that a token's row is no number: its document fails, and no other.
#[test]
fn a_document_that_becomes_no_number_leaves_its_neighbours_alone() {
    let mut tensors = made_up();
    let name = "bert.embeddings.word_embeddings.weight";
    let mut rows: Vec<Vec<f32>> = tensors[name].to_vec2().unwrap();
    rows[11] = vec![3e38; HIDDEN];
    let table = Tensor::new(rows, &Device::Cpu).unwrap();
    tensors.insert(name.to_owned(), table);
    let dir = tempfile::tempdir().unwrap();
    for activation in ["gelu", "relu"] {
        let mut keys = config();
        keys["hidden_act"] = activation.into();
        write(dir.path(), &keys, &tensors);
        let bad = document(&[1, 11, 2]);
        let good = [document(&[3]), document(&[4, 5, 6, 7, 8])];
        for mut engine in [
            load(dir.path()).unwrap().engine(1),
            load(dir.path()).unwrap().engine(2),
            by_operators(dir.path()),
        ] {
            let alone = good
                .each_ref()
                .map(|d| engine.infer(&[d]).remove(0).unwrap());
            for batch in [
                [&bad, &good[0], &bad, &good[1]],
                [&bad, &good[0], &good[1], &bad],
            ] {
                let answers = engine.infer(&batch);
                let mut whole = alone.iter();
                for (document, answer) in batch.into_iter().zip(answers) {
                    if *document == bad {
                        assert!(answer.is_err(), "{activation}: {answer:?}");
                        continue;
                    }
                    let (answer, alone) = (answer.unwrap(), whole.next().unwrap());
                    let pairs = answer.scores.iter().zip(&alone.scores);
                    assert!(
                        pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5),
                        "{pairs:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn weighted_words_are_refused_on_a_device() {
    let device = model::Device::Candle(Device::Cpu);
    let error = model::bundled_on("tfidf", &device).unwrap_err();
    assert!(error.to_string().contains("--device cpu"), "{error}");
}
