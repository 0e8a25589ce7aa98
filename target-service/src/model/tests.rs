use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::*;

const CAR: &str = "The dealer wants 900 dollars for a new clutch and front brakes on my Honda \
    sedan, and the engine still stalls at every traffic light. Should I trade the car in?";
const BIKE: &str = "My motorcycle needs a new chain and rear tire. I ride every day, wear a helmet, \
    and countersteer through the corners; which bike would you buy next?";
const BASEBALL: &str = "The pitcher gave up two home runs in the ninth inning, and the shortstop is \
    batting .210. They need a bullpen and a better leadoff hitter before the playoffs.";
const HOCKEY: &str = "The goalie stopped forty shots, the defenseman took a bad penalty, and they \
    scored on the power play in overtime to win the Stanley Cup series.";

fn answer(model: &LoadedModel, text: &str) -> (String, Prediction) {
    let encoded = model.preprocess().encode(text).unwrap();
    let mut answers = model.engine(1).infer(&[&encoded]);
    let prediction = answers.remove(0).unwrap();
    (model.info.labels[prediction.best()].clone(), prediction)
}

#[test]
fn bundled_models_know_the_four_groups() {
    for name in BUNDLED {
        let model = bundled(name).unwrap();
        assert_eq!(model.info.name, *name);
        assert_eq!(model.info.revision.len(), 12);
        for (text, label) in [
            (CAR, "rec.autos"),
            (BIKE, "rec.motorcycles"),
            (BASEBALL, "rec.sport.baseball"),
            (HOCKEY, "rec.sport.hockey"),
        ] {
            let (said, prediction) = answer(&model, text);
            assert_eq!(said, label, "{name}: {prediction:?}");
            let sum: f32 = prediction.scores.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{name}: scores sum to {sum}");
        }
    }
}

#[test]
fn a_batch_says_what_single_runs_say() {
    for name in BUNDLED {
        let model = bundled(name).unwrap();
        let preprocess = model.preprocess();
        let long = BASEBALL.repeat(20);
        let documents: Vec<Encoded> = [CAR, "x", BIKE, &long, "", HOCKEY, "?!"]
            .iter()
            .map(|text| preprocess.encode(text).unwrap())
            .collect();
        let mut engine = model.engine(1);
        let together = engine.infer(&documents.iter().collect::<Vec<_>>());
        assert_eq!(together.len(), documents.len());
        for (document, batched) in documents.iter().zip(&together) {
            let alone = engine.infer(&[document]).remove(0).unwrap();
            let batched = batched.as_ref().unwrap();
            for (a, b) in alone.scores.iter().zip(&batched.scores) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} alone, {b} in a batch");
            }
        }
        assert!(engine.infer(&[]).is_empty());
    }
}

#[test]
fn stages_are_timed_in_order_and_under_their_names() {
    for name in BUNDLED {
        let preprocess = bundled(name).unwrap().preprocess();
        let (encoded, stages) = preprocess.encode_timed(CAR).unwrap();
        assert_eq!(encoded, preprocess.encode(CAR).unwrap());
        let names: Vec<_> = stages.iter().map(|s| s.name).collect();
        assert_eq!(names, preprocess.stages());
        assert!(stages.iter().all(|s| s.start <= s.end));
        assert!(stages.is_sorted_by_key(|s| s.start));
    }
}

#[test]
fn case_and_punctuation_do_not_change_the_reading() {
    for name in BUNDLED {
        let preprocess = bundled(name).unwrap().preprocess();
        let plain = preprocess.encode("the goalie s save it was close").unwrap();
        let written = preprocess
            .encode("The GOALIE's save -- it was: close!")
            .unwrap();
        assert_eq!(plain, written, "{name}");
    }
}

#[test]
fn cost_is_bounded_by_what_the_model_says() {
    for name in BUNDLED {
        let model = bundled(name).unwrap();
        let preprocess = model.preprocess();
        assert!(preprocess.encode("").unwrap().cost() >= 1);
        let long = preprocess.encode(&CAR.repeat(500)).unwrap();
        assert!(long.cost() <= model.info.max_tokens, "{name}");
    }
}

#[test]
fn documents_of_another_model_are_refused() {
    for name in BUNDLED {
        let mut engine = bundled(name).unwrap().engine(1);
        let foreign = Encoded {
            ids: vec![u32::MAX],
            weights: vec![1.0],
        };
        let error = engine.infer(&[&foreign]).remove(0).unwrap_err();
        assert!(matches!(error, ModelError::Mismatch(_)), "{name}: {error}");
    }
}

#[test]
fn unknown_names_say_which_there_are() {
    let error = bundled("gpt").unwrap_err().to_string();
    assert!(
        error.contains("\"gpt\"") && error.contains("tfidf"),
        "{error}"
    );
}

#[test]
fn scores_that_are_no_numbers_are_errors() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = Prediction::from_logits(&[0.0, bad]).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { label: 1 }));
    }
    let huge = Prediction::from_logits(&[3e38, -3e38]).unwrap();
    assert_eq!(huge.scores, [1.0, 0.0]);
}

/// A copy of a bundled model in a directory, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (_, bundle) = BUNDLES.iter().find(|(known, _)| *known == name).unwrap();
    for (file, bytes) in *bundle {
        std::fs::write(dir.path().join(file), bytes).unwrap();
    }
    dir
}

fn refused(dir: &Path, file: &str, what: &str) {
    let error = load(dir).unwrap_err().to_string();
    assert!(error.contains(file) && error.contains(what), "{error}");
}

#[test]
fn a_directory_answers_as_the_bundle_does() {
    for name in BUNDLED {
        let dir = copy(name);
        let (loaded, compiled) = (load(dir.path()).unwrap(), bundled(name).unwrap());
        assert_eq!(loaded.info.revision, compiled.info.revision);
        assert_eq!(answer(&loaded, HOCKEY), answer(&compiled, HOCKEY));
    }
}

#[test]
fn missing_files_are_named() {
    for (name, bundle) in BUNDLES {
        for (file, _) in *bundle {
            let dir = copy(name);
            std::fs::remove_file(dir.path().join(file)).unwrap();
            refused(dir.path(), file, "cannot be read");
        }
    }
}

#[test]
fn weights_cut_short_anywhere_are_refused() {
    for name in BUNDLED {
        let dir = copy(name);
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            refused(
                dir.path(),
                "model.safetensors",
                "not a whole safetensors file",
            );
        }
    }
}

#[test]
fn damaged_configurations_are_refused() {
    let dir = copy("tfidf");
    let path = dir.path().join("config.json");
    for (text, what) in [
        ("{", "not JSON"),
        ("{}", "model_type"),
        (r#"{"model_type": "gpt2"}"#, "gpt2"),
        (r#"{"model_type": "tfidf-linear"}"#, "id2label"),
        (
            r#"{"model_type": "tfidf-linear", "id2label": {"0": "a", "2": "b"}}"#,
            "id2label",
        ),
        (
            r#"{"model_type": "tfidf-linear", "id2label": {"0": "a", "1": "a"}}"#,
            "id2label",
        ),
        (
            r#"{"model_type": "tfidf-linear", "id2label": {"0": "a", "1": "b"}}"#,
            "vocab_size",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(dir.path(), "config.json", what);
    }
}

#[test]
fn vocabulary_and_weights_must_agree() {
    let dir = copy("tfidf");
    let path = dir.path().join("vocabulary.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}wordthatisnew\n")).unwrap();
    refused(dir.path(), "vocabulary.txt", "weights for");
    let second = text.lines().nth(1).unwrap();
    std::fs::write(&path, format!("{second}\n{text}")).unwrap();
    refused(dir.path(), "vocabulary.txt", "twice");
}

#[test]
fn tensors_must_have_the_shape_the_configuration_says_and_finite_numbers() {
    let dir = copy("tfidf");
    std::fs::write(dir.path().join("vocabulary.txt"), "one\ntwo\n").unwrap();
    std::fs::write(
        dir.path().join("config.json"),
        r#"{"model_type": "tfidf-linear", "vocab_size": 2, "id2label": {"0": "a", "1": "b"}}"#,
    )
    .unwrap();
    let write = |idf: &[f32], rows: usize| {
        let tensors = HashMap::from([
            ("idf", Tensor::new(idf, &Device::Cpu).unwrap()),
            (
                "linear.weight",
                Tensor::from_vec(vec![0f32; rows * 2], (rows, 2), &Device::Cpu).unwrap(),
            ),
            (
                "linear.bias",
                Tensor::new(&[0f32, 1.0], &Device::Cpu).unwrap(),
            ),
        ]);
        candle_core::safetensors::save(&tensors, dir.path().join("model.safetensors")).unwrap();
    };
    write(&[1.0, 1.0], 2);
    assert_eq!(answer(&load(dir.path()).unwrap(), "one one two").0, "b");
    write(&[1.0, 1.0], 3);
    refused(dir.path(), "model.safetensors", "[3, 2]");
    write(&[1.0, f32::NAN], 2);
    refused(dir.path(), "model.safetensors", "finite");
}
