//! Exposed samples written out again.

use harness_evidence::receive::exposition::{ExposedSample, Format, parse};

/// Every sample as a line in which the metric's name is quoted too, so that it may be any text.
///
/// # Panics
/// When a line does not read as the sample it was written for.
pub(crate) fn reads_back(samples: &[ExposedSample]) {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{}\"", text.replace('\n', "\\n"))
    };
    for sample in samples {
        let mut pairs = vec![quoted(sample.labels.metric_name())];
        let others = sample.labels.iter().filter(|(name, _)| *name != "__name__");
        pairs.extend(others.map(|(name, value)| format!("{}={}", quoted(name), quoted(value))));
        let mut line = format!("{{{}}} {:?}", pairs.join(","), sample.value);
        if let Some(t) = sample.t_ms {
            line += &format!(" {t}");
        }
        let read = parse(&line, Format::Text).unwrap_or_else(|e| panic!("{line}: {e}"));
        let [again] = read.as_slice() else {
            panic!("{line}: {} samples", read.len());
        };
        // NaN is no number, and here it is itself.
        let value = (sample.value.is_nan(), sample.value.to_bits());
        let same = again.value.is_nan() == value.0 && (value.0 || again.value.to_bits() == value.1);
        assert!(same, "{line}: {}", again.value);
        assert_eq!((&again.labels, again.t_ms), (&sample.labels, sample.t_ms));
    }
}
