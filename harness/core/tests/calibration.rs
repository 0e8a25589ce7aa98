//! Wrong verdicts stay within what the confidence promises. A small, seeded part of the example `calibrate`.

mod simulated;

use simulated::{Service, judge_many};

/// Sits exactly on its target, where a wrong verdict is likeliest.
#[track_caller]
fn holds(service: Service, requests: usize, targets: &[f64], runs: usize) {
    let judged = judge_many(service, requests, targets, 1.0, runs, 42);
    for (what, share) in [("passes", judged.passes), ("fails", judged.fails)] {
        // The seed is fixed; three standard errors keep the test from being about that seed.
        let allowed = 0.05 + 3.0 * (0.05 * 0.95 / runs as f64).sqrt();
        assert!(
            share.value() <= allowed,
            "{service}, {requests} requests, targets {targets:?}: {:.2} % wrong {what}",
            100.0 * share.value()
        );
    }
}

#[test]
fn independent_requests() {
    holds(Service::Independent, 1_000, &[0.95], 400);
    holds(Service::Independent, 1_000, &[0.99], 400);
}

#[test]
fn requests_in_a_queue() {
    holds(Service::Queue(0.5), 1_000, &[0.9], 300);
    holds(Service::Queue(0.8), 1_000, &[0.9], 300);
    // As if they were independent, far more than promised would pass.
    let mut rng =
        <rand_chacha::ChaCha8Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(1);
    let service = Service::Queue(0.8);
    let naive = (0..300).filter(|_| {
        let latencies = service.latencies(1_000, &mut rng);
        let good = latencies
            .iter()
            .filter(|l| **l <= service.limit(0.1))
            .count();
        harness_core::judge::stat::p_met(good as f64, 1_000.0, 0.9) <= 0.05
    });
    assert!(naive.count() > 60);
}

#[test]
fn a_machine_that_changes_its_speed() {
    holds(Service::TwoSpeeds(30.0), 1_000, &[0.9], 300);
    holds(Service::TwoSpeeds(30.0), 2_000, &[0.99], 150);
}

#[test]
fn five_objectives() {
    holds(Service::Independent, 500, &[0.95; 5], 200);
    holds(Service::Queue(0.5), 500, &[0.95, 0.2, 0.2, 0.2, 0.2], 200);
}
