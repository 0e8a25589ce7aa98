//! Whether the run itself can be trusted: the generator kept its schedule, the right build answered,
//! nobody else was sending, clocks agree.

use super::RunRecord;
use super::client;
use super::coverage::{CLOCK_LIMIT, Survey};
use super::decide::percent;
use super::names::grouped;
use super::tally;
use crate::query::Backend;
use crate::record::sampled::Sampled;
use crate::report::model::ValidityCheck;

/// Share of the cores above which the processor is taken for the cause of lateness.
const BUSY: f64 = 0.8;

/// All checks, in the order in which they matter.
pub(super) fn checks(record: &RunRecord, survey: &Survey) -> Vec<ValidityCheck> {
    let mut checks = vec![
        has_requests(record),
        schedule_complete(record),
        late_sends(record),
    ];
    checks.extend(super::shards::together(record));
    checks.extend(super::shards::met(record));
    checks.extend(super::generator::checks(record));
    checks.extend(faults_applied(record));
    checks.extend(expected_version(record, survey));
    checks.extend(foreign_traffic(record, survey));
    checks.extend(clocks(survey));
    checks
}

pub(super) fn check(
    name: &str,
    ok: Option<bool>,
    value: String,
    limit: &str,
    remedy: String,
) -> ValidityCheck {
    ValidityCheck {
        name: name.into(),
        ok,
        value,
        limit: limit.into(),
        remedy: (ok != Some(true)).then_some(remedy),
    }
}

fn has_requests(record: &RunRecord) -> ValidityCheck {
    let measured = client::measured(record);
    check(
        "no_requests",
        Some(measured > 0),
        format!("{} requests in the measured phase", grouped(measured)),
        "at least 1",
        "raise the rate or the length of the measured phase".into(),
    )
}

fn schedule_complete(record: &RunRecord) -> ValidityCheck {
    let scheduled = record.facts.generator.scheduled;
    let sampled = tally::of(record);
    let damaged = sampled.and_then(|sampled| tally::fits(record, sampled).err());
    let rows = record.rows.len() as u64;
    let mut ids: Vec<_> = record.rows.iter().map(|r| r.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let distinct = ids.len() as u64;
    let all = sampled.map_or(rows, |sampled| sampled.requests);
    let value = if let Some(why) = &damaged {
        format!("the rows are not the sample that was kept: {why}")
    } else if let Some(sampled) = sampled.filter(|_| distinct == rows) {
        format!(
            "{} of {} scheduled requests recorded, the rows of one in {}",
            grouped(all),
            grouped(scheduled),
            sampled.one_in
        )
    } else if distinct == rows {
        format!(
            "{} of {} scheduled requests recorded",
            grouped(rows),
            grouped(scheduled)
        )
    } else {
        format!(
            "{} rows of {} requests: some are recorded twice",
            grouped(rows),
            grouped(distinct)
        )
    };
    check(
        "schedule_complete",
        Some(all == scheduled && distinct == rows && damaged.is_none()),
        value,
        "all, each once",
        "the record of the run is damaged or the generator was stopped; run again".into(),
    )
}

fn late_sends(record: &RunRecord) -> ValidityCheck {
    let allowed = &record.scenario.spec.validity.late_sends;
    let mut late = 0_u64;
    let mut total = 0_u64;
    let mut worst = 0.0_f64;
    for cell in tally::of(record).into_iter().flat_map(Sampled::measured) {
        total += cell.requests();
        late += cell.late;
        worst = worst.max(cell.latest.as_secs_f64());
    }
    let rows = client::rows(record, None);
    for row in rows.filter(|_| tally::of(record).is_none()) {
        let by = row.lateness().as_duration();
        total += 1;
        late += u64::from(by > allowed.over.0);
        worst = worst.max(by.as_secs_f64());
    }
    // Of several generators the one that was latest counts: the others' requests do not excuse it.
    let mut whose = String::new();
    if let Some((shard, its_late, its_total)) = super::shards::latest(record, allowed.over.0) {
        (late, total) = (its_late, its_total);
        whose = format!(" of shard {shard}");
    }
    let share = late as f64 / (total as f64).max(1.0);
    let over_ms = allowed.over.0.as_secs_f64() * 1000.0;
    check(
        "late_sends",
        Some(share <= allowed.share.0),
        format!(
            "{} ({}) of {} requests{whose} sent more than {over_ms} ms late, the latest{} by {:.1} ms",
            grouped(late),
            percent(share),
            grouped(total),
            if whose.is_empty() { "" } else { " of all" },
            worst * 1000.0
        ),
        &format!("{} over {over_ms} ms", percent(allowed.share.0)),
        remedy_for_lateness(record),
    )
}

/// What to change depends on what the generator was short of.
fn remedy_for_lateness(record: &RunRecord) -> String {
    let generator = &record.facts.generator;
    let busy = generator
        .cpu_seconds
        .map(|cpu| cpu / generator.wall_seconds.max(1e-9) / f64::from(generator.cores.max(1)));
    if generator.connection_waits > 0 {
        let limit = match record.scenario.spec.target.max_connections {
            Some(n) => format!(" (now {n})"),
            None => String::new(),
        };
        return format!(
            "{} requests waited for a free connection: raise target.maxConnections{limit} or lower the rate",
            grouped(generator.connection_waits)
        );
    }
    match busy {
        Some(busy) if busy > BUSY => format!(
            "the generator used {} of its {} cores: give it more cores, or fewer requests",
            percent(busy.min(1.0)),
            generator.cores
        ),
        _ => format!(
            "the generator was not scheduled in time (longest stall {:.1} ms): leave it more of the machine{}, or lower the rate",
            generator.longest_stall.as_secs_f64() * 1000.0,
            match generator.runs_first || generator.cores < 2 {
                true => "",
                false => ", let it run first (CAP_SYS_NICE)",
            }
        ),
    }
}

/// A service that was to be judged under faults was not when one of them never took hold. Not asked of
/// a run that was stopped: there the faults to come are missing by right, and it is invalid anyway.
fn faults_applied(record: &RunRecord) -> Option<ValidityCheck> {
    let wanted = record.scenario.spec.faults.len();
    if wanted == 0 || record.facts.stop.is_some() {
        return None;
    }
    let applied = |f: &&crate::record::FaultApplied| f.at.is_some() && f.error.is_none();
    let done = record.facts.faults.iter().filter(applied).count();
    Some(check(
        "faults_applied",
        Some(done == wanted),
        format!("{done} of {wanted} faults were put on the target"),
        "all",
        "see the notes for what the target answered; start it with its fault interface enabled"
            .into(),
    ))
}

fn expected_version(record: &RunRecord, survey: &Survey) -> Option<ValidityCheck> {
    let expected = record.facts.expect_version.as_ref()?;
    let seen: Vec<&str> = survey.versions.iter().map(String::as_str).collect();
    let ok = if seen.is_empty() {
        None
    } else {
        Some(seen.iter().all(|version| version == expected))
    };
    let value = if seen.is_empty() {
        "no service.version in the telemetry".into()
    } else {
        format!("service.version seen: {}", seen.join(", "))
    };
    let remedy = if ok.is_none() {
        "let the service export `target_info` or spans with service.version, or leave out target.expectVersion"
    } else {
        "another build answered: deploy the one that is to be judged, or correct target.expectVersion"
    };
    Some(check(
        "expected_version",
        ok,
        value,
        expected,
        remedy.into(),
    ))
}

/// Requests that the service counted beyond those sent. Its own counter decides; the request log only
/// where there is no counter, since lines can be collected twice.
fn foreign_traffic(record: &RunRecord, survey: &Survey) -> Option<ValidityCheck> {
    let allowed = record.scenario.spec.validity.foreign_traffic.0;
    let sent = survey.coverage.sent;
    let counted = [Backend::Prometheus, Backend::Loki]
        .into_iter()
        .find_map(|b| survey.counted.get(&b).map(|n| (b, *n)));
    // Beside a shard there are the others, by right.
    let (backend, counted) = counted.filter(|_| super::shards::alone(record).is_none())?;
    let beyond = counted.saturating_sub(sent);
    let ok = beyond as f64 <= sent as f64 * allowed;
    Some(check(
        "foreign_traffic",
        Some(ok),
        format!(
            "{} requests counted in {backend} beyond the {} sent",
            grouped(beyond),
            grouped(sent)
        ),
        &format!("{} of those sent", percent(allowed)),
        "others use the same service: give the run one of its own, or narrow telemetry.requestCounter to it".into(),
    ))
}

fn clocks(survey: &Survey) -> Option<ValidityCheck> {
    let offset = survey.clock_offset?;
    Some(check(
        "clocks",
        Some(offset.abs() <= CLOCK_LIMIT),
        format!(
            "the service's spans lie {:.3} s outside the client's (median)",
            offset.abs()
        ),
        &format!("{CLOCK_LIMIT} s"),
        "synchronise the clocks of the generator and the service (NTP)".into(),
    ))
}
