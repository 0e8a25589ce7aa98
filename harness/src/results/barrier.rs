//! The barrier before the load: every shard says that it is ready and how its clock lies, the first
//! publishes one instant, and each turns it once into its own time. Whoever cannot start tells the
//! others by publishing that nobody does.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use harness_core::record::together::{
    Common, Member, READY_SCHEMA, Ready, START_SCHEMA, Start, StartedTogether, missing,
    why_not_start,
};
use harness_core::schedule::Shard;
use harness_core::units::UnixNanos;
use tokio::time::Instant;

use super::{Store, StoreError, every, named, parted};
use crate::clock::wall_now;
use crate::progress::Progress;

/// Name of the object that holds the start.
pub(super) const START: &str = "start.json";
/// Where shards say that they are ready.
pub(super) const READY: &str = "ready";
/// Least time between the publishing of the start and the start.
const LEAD: Duration = Duration::from_secs(3);
const SECOND: u64 = 1_000_000_000;

/// A shard's way to the start.
#[derive(Debug)]
pub struct Meeting {
    /// Where the shards meet.
    pub store: Store,
    /// Longest that the others are waited for.
    pub within: Duration,
    /// What all of them must send.
    pub common: Common,
}

impl Meeting {
    /// Waits until all are there, and gives the start that was published.
    ///
    /// # Errors
    /// A sentence: who is missing, what does not belong together, or that the place does not answer.
    /// Nobody starts then, or at least not this shard.
    pub async fn meet(
        &self,
        shard: Shard,
        run_id: &str,
        progress: &Progress,
    ) -> Result<StartedTogether, String> {
        let deadline = Instant::now() + self.within;
        // Before anything else: who comes after the start has no part in it.
        if let Some(start) = self.published(deadline).await? {
            return Err(self.too_late(&start, run_id));
        }
        progress.moving("holding the clocks against each other".into());
        let clock = self
            .store
            .clock()
            .await
            .map_err(|error| error.to_string())?;
        let ready = Ready {
            schema: READY_SCHEMA.into(),
            member: Member {
                shard,
                run_id: run_id.into(),
                clock,
            },
            common: self.common.clone(),
        };
        let name = format!("{READY}/{}.json", named(shard, run_id));
        let put = self.store.create(&name, &ready).await;
        put.map_err(|error| format!("it cannot say that it is ready: {error}"))?;
        progress.moving(format!("waiting for {} shards", shard.of()));
        let start = match shard.index() {
            0 => self.call_the_start(shard.of(), deadline).await?,
            _ => self.wait_for_it(shard, deadline).await?,
        };
        if !start.refused.is_empty() {
            return Err(start.refused.join("; "));
        }
        let takes_part = |m: &Member| m.shard == shard && m.run_id == run_id;
        let at = start.at.filter(|_| start.members.iter().any(takes_part));
        Ok(StartedTogether {
            at: at.ok_or_else(|| self.too_late(&start, run_id))?,
            before: clock,
            after: None,
        })
    }

    fn too_late(&self, start: &Start, run_id: &str) -> String {
        let when = start.at.map_or_else(
            || "was called off".to_owned(),
            |at| format!("was published for {}", at.rfc3339()),
        );
        format!(
            "the start at {} {when}, without {run_id}: each run needs a place of its own, and a shard is not begun again",
            self.store.name()
        )
    }

    /// The start, if there is one; a place that does not answer is asked again until the deadline.
    async fn published(&self, deadline: Instant) -> Result<Option<Start>, String> {
        loop {
            match self.store.read(START).await {
                Ok(start) => return Ok(start),
                Err(error @ StoreError::Changed { .. }) => return Err(error.to_string()),
                Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(every(1)).await,
            }
        }
    }

    async fn wait_for_it(&self, shard: Shard, deadline: Instant) -> Result<Start, String> {
        // The first publishes its refusal when its own time is over, which may have begun later.
        let patience = deadline + self.within.min(Duration::from_secs(10));
        while Instant::now() < patience {
            if let Some(start) = self.published(patience).await? {
                return Ok(start);
            }
            tokio::time::sleep(every(shard.of())).await;
        }
        Err(format!(
            "no start was published at {} within {:?}; shard 0/{} has to do it",
            self.store.name(),
            self.within,
            shard.of()
        ))
    }

    /// Waits for all, and publishes when to start, or why not.
    async fn call_the_start(&self, of: u32, deadline: Instant) -> Result<Start, String> {
        let mut ready: BTreeMap<String, Ready> = BTreeMap::new();
        let refused = loop {
            let last_error = self.look(&mut ready).await.err();
            let all: Vec<Ready> = ready.values().cloned().collect();
            let wrong = why_not_start(of, &all);
            let absent = missing(of, all.iter().map(|one| one.member.shard));
            if !wrong.is_empty() || absent.is_empty() {
                break wrong;
            }
            if Instant::now() >= deadline {
                let mut why = format!(
                    "shard {} never became ready within {:?}",
                    absent.join(", "),
                    self.within
                );
                if let Some(error) = last_error {
                    why.push_str(&format!(" ({error})"));
                }
                break vec![why];
            }
            tokio::time::sleep(every(of)).await;
        };
        let members: Vec<Member> = ready.into_values().map(|one| one.member).collect();
        let at = match refused.is_empty() {
            true => Some(self.soon(of).await?),
            false => None,
        };
        let start = Start {
            schema: START_SCHEMA.into(),
            of,
            at,
            members,
            common: self.common.clone(),
            refused,
        };
        match self.store.create(START, &start).await {
            Ok(true) => Ok(start),
            // Another shard 0 was faster. It did not see us, or it would have refused.
            Ok(false) => self
                .published(deadline)
                .await?
                .ok_or_else(|| "the start was published and is gone".into()),
            Err(error) => Err(format!("the start cannot be published: {error}")),
        }
    }

    /// Reads what is new of who is ready.
    async fn look(&self, known: &mut BTreeMap<String, Ready>) -> Result<(), String> {
        let names = self.store.list(READY).await.map_err(|e| e.to_string())?;
        let new = names
            .into_iter()
            .filter(|name| !known.contains_key(name) && parted(name).is_some());
        let new: Vec<String> = new.collect();
        let mut reading = futures::stream::iter(new)
            .map(|name| async {
                let read = self.store.read::<Ready>(&format!("{READY}/{name}")).await;
                (name, read)
            })
            .buffer_unordered(16);
        while let Some((name, read)) = reading.next().await {
            if let Some(ready) = read.map_err(|error| error.to_string())? {
                known.insert(name, ready);
            }
        }
        Ok(())
    }

    /// A whole second by the place's clock, far enough away that everybody has read of it: Tempo counts
    /// spans by whole seconds.
    async fn soon(&self, of: u32) -> Result<UnixNanos, String> {
        let clock = self
            .store
            .clock()
            .await
            .map_err(|error| error.to_string())?;
        let offset = clock.least_ms.midpoint(clock.most_ms);
        let there = wall_now()
            .0
            .saturating_add_signed(offset.saturating_mul(1_000_000));
        let lead = LEAD + every(of) * 2;
        let soonest = there + u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX / 2);
        Ok(UnixNanos(soonest.div_ceil(SECOND) * SECOND))
    }
}
