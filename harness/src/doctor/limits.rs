//! What the generator itself has, against what the scenario asks of it.

use harness_core::report::checkup::{Checkup, State};
use harness_core::scenario::Scenario;

use crate::own;

/// Files that the harness itself needs beside one for each connection: its own connections to the
/// backends, the record of the run, the runtime.
const OWN_FILES: u64 = 128;

/// Most connections that a scenario may open at once.
fn connections(scenario: &Scenario) -> u64 {
    let loads = scenario.spec.loads.iter().map(|load| {
        if load.executor.is_open() {
            u64::from(load.in_flight_limit())
        } else {
            u64::from(load.vus.unwrap_or(1))
        }
    });
    let out: u64 = loads.sum();
    let most = scenario.spec.target.max_connections.map_or(out, u64::from);
    out.min(most)
}

pub(super) fn check(scenario: &Scenario, checkup: &mut Checkup) {
    let needed = connections(scenario);
    let (state, said, hint) = files(own::raise_open_files(), needed);
    checkup.add("generator", "open files", state, said, Some(&hint));
    let (state, said, hint) = ports(own::ephemeral_ports(), needed);
    checkup.add("generator", "ephemeral ports", state, said, Some(&hint));
    let cores = own::cores();
    let state = if cores < 2 { State::Warn } else { State::Ok };
    let hint = "one core is shared by the schedule, the requests, the embedded evidence and a started target: give the generator two, or the run may be invalid for late sends";
    checkup.add("generator", "cores", state, cores.to_string(), Some(hint));
}

fn files(limit: Option<u64>, connections: u64) -> (State, String, String) {
    let needed = connections + OWN_FILES;
    let hint = format!("raise it: `ulimit -n {}`", needed.next_power_of_two());
    let (state, said) = match limit {
        None => (State::Ok, format!("no limit, {needed} may be needed")),
        Some(limit) if limit < needed => (
            State::Fail,
            format!("at most {limit}, {needed} may be needed"),
        ),
        Some(limit) => (
            State::Ok,
            format!("at most {limit}, {needed} may be needed"),
        ),
    };
    (state, said, hint)
}

fn ports(range: Option<u64>, connections: u64) -> (State, String, String) {
    let hint = "widen it: `sysctl net.ipv4.ip_local_port_range=\"1024 65535\"`, or set target.maxConnections";
    let (state, said) = match range {
        None => (State::Ok, "the system does not tell".to_owned()),
        Some(range) if connections > range => (
            State::Fail,
            format!("{range} for up to {connections} connections"),
        ),
        Some(range) if connections > range / 2 => (
            State::Warn,
            format!("{range} for up to {connections} connections"),
        ),
        Some(range) => (
            State::Ok,
            format!("{range} for up to {connections} connections"),
        ),
    };
    (state, said, hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_or_ports_fail_and_say_what_would_do() {
        let (state, said, hint) = files(Some(256), 512);
        assert_eq!(state, State::Fail);
        assert!(said.contains("256") && said.contains("640"), "{said}");
        assert!(hint.contains("ulimit -n 1024"), "{hint}");
        assert_eq!(files(Some(1024), 512).0, State::Ok);
        assert_eq!(files(None, 512).0, State::Ok);
        assert_eq!(ports(Some(100), 200).0, State::Fail);
        assert_eq!(ports(Some(300), 200).0, State::Warn);
        assert_eq!(ports(Some(28_000), 200).0, State::Ok);
        assert_eq!(ports(None, 200).0, State::Ok);
    }
}
