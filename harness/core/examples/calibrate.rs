//! How often a verdict is wrong: simulated services whose truth is known, judged by the real statistics.
//!
//! `cargo run --release -p harness-core --example calibrate [RUNS] [SEED]` prints the tables.
//! The same at a smaller size is a test (`tests/calibration.rs`).

#[path = "../tests/simulated/mod.rs"]
mod simulated;

use simulated::{Service, Share, judge_many, requests_to_decide};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (runs, seed) = (number(10_000), number(42) as u64);

    println!("## Wrong verdicts\n\n{runs} runs a line, seed {seed}, 95 % confidence.\n");
    println!(
        "| service | requests | target | wrong passes | wrong fails | passes when a fifth of the misses allowed happen |"
    );
    println!("|---|---|---|---|---|---|");
    for service in [
        Service::Independent,
        Service::Queue(0.5),
        Service::Queue(0.8),
        Service::Queue(0.9),
    ] {
        for target in [0.9, 0.95, 0.99] {
            for requests in [300, 1_000, 3_000] {
                let edge = judge_many(service, requests, &[target], 1.0, runs, seed);
                let good = judge_many(service, requests, &[target], 0.2, runs / 10, seed + 1);
                println!(
                    "| {service} | {requests} | {target} | {} | {} | {} |",
                    percent(edge.passes),
                    percent(edge.fails),
                    percent(good.passes)
                );
            }
        }
    }

    println!(
        "\n## A machine with two speeds\n\n| service | requests | target | wrong passes | wrong fails |\n|---|---|---|---|---|"
    );
    for stay in [30.0, 300.0, 3_000.0] {
        let service = Service::TwoSpeeds(stay);
        for target in [0.9, 0.99] {
            for requests in [1_000, 3_000, 10_000] {
                let edge = judge_many(service, requests, &[target], 1.0, runs / 10, seed);
                println!(
                    "| {service} | {requests} | {target} | {} | {} |",
                    percent(edge.passes),
                    percent(edge.fails)
                );
            }
        }
    }

    println!(
        "\n## Long runs\n\n| service | requests | target | wrong passes | wrong fails | passes when a fifth of the misses allowed happen |\n|---|---|---|---|---|---|"
    );
    for service in [
        Service::Independent,
        Service::Queue(0.5),
        Service::Queue(0.8),
        Service::Queue(0.9),
        Service::TwoSpeeds(3_000.0),
    ] {
        for target in [0.99, 0.999] {
            for requests in [10_000, 100_000] {
                let edge = judge_many(service, requests, &[target], 1.0, runs / 10, seed);
                let good = judge_many(service, requests, &[target], 0.2, runs / 100, seed + 1);
                println!(
                    "| {service} | {requests} | {target} | {} | {} | {} |",
                    percent(edge.passes),
                    percent(edge.fails),
                    percent(good.passes)
                );
            }
        }
    }

    println!(
        "\n## Five objectives\n\nAll five sit exactly on their targets (the worst case for a fail), or one does and four are met easily (the worst case for a pass).\n"
    );
    println!(
        "| service | requests | wrong passes, one on its target | wrong fails, all on their targets | wrong fails without Holm |"
    );
    println!("|---|---|---|---|---|");
    for service in [
        Service::Independent,
        Service::Queue(0.5),
        Service::Queue(0.8),
    ] {
        let requests = 1_000;
        let one = judge_many(
            service,
            requests,
            &[0.95, 0.2, 0.2, 0.2, 0.2],
            1.0,
            runs,
            seed,
        );
        let all = judge_many(service, requests, &[0.95; 5], 1.0, runs, seed + 2);
        println!(
            "| {service} | {requests} | {} | {} | {} |",
            percent(one.passes),
            percent(all.fails),
            percent(all.fails_uncorrected)
        );
    }

    println!(
        "\n## Requests until a pass\n\nMedian number of requests after which a run passes, looked at in steps of 5 %, beside MLPerf's floors.\n"
    );
    println!(
        "| target | confidence | MLPerf's floor (one miss) | no miss at all | independent, a fifth of the misses | queue at 0.5, a fifth of the misses |"
    );
    println!("|---|---|---|---|---|---|");
    for (target, floor) in [(0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662)] {
        let none = harness_core::judge::stat::more_to_decide(
            1,
            1,
            0,
            target,
            0.99,
            harness_core::judge::stat::Correlation::none(1.0),
        );
        println!(
            "| {target} | 99 % | {floor} | {} | {} | {} |",
            none.map_or(0, |n| n + 1),
            requests_to_decide(Service::Independent, target, 0.99, 100, seed),
            requests_to_decide(Service::Queue(0.5), target, 0.99, 100, seed),
        );
    }
}

fn percent(share: Share) -> String {
    format!(
        "{:.2} % ± {:.2}",
        100.0 * share.value(),
        196.0 * share.error()
    )
}
