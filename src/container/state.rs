//! A container's life as a pure state machine: what may happen in which phase, and what follows.
//!
//! Owns the rules and nothing else: no clock, no kernel, no file. The owner task feeds [`Input`]s, carries out the
//! [`Effect`]s in order, persists the new [`State`] and publishes it. States and words are those of `State` in the
//! Engine API; the rules are dockerd's (daemon/start.go, monitor.go, restartmanager).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;
use crate::base::time::Timestamp;

/// The first delay before an automatic restart; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest delay before an automatic restart.
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// A run at least this long makes the next delay start over.
const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// Where in its life a container is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Created,
    Starting,
    Running,
    Paused,
    Restarting,
    Exited,
    Removing,
    Dead,
}

impl Phase {
    /// The word of `State.Status` in the Engine API; a container that is being started is still `created` or
    /// `exited` to clients, which the caller knows by whether it ever ran.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// True while the container has a process.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartRule {
    No,
    Always,
    UnlessStopped,
    /// At most this many times in a row; 0 is without limit.
    OnFailure(u32),
}

/// What is remembered of a container's life, written at each transition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// The container's first process on the host, while it has one.
    pub pid: Option<i32>,
    pub exit_code: i32,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    pub oom_killed: bool,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Automatic restarts since the last start by a user.
    pub restart_count: u32,
    /// A user ended it (stop, kill): `unless-stopped` stays down.
    pub stopped_by_user: bool,
    /// The delay before the next automatic restart, in milliseconds.
    pub backoff_ms: u64,
    /// What its probes say; absent if it has none or has never run.
    #[serde(default)]
    pub health: Option<Health>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Created,
            pid: None,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: Timestamp::UNSET,
            finished_at: Timestamp::UNSET,
            restart_count: 0,
            stopped_by_user: false,
            backoff_ms: FIRST_BACKOFF.as_millis() as u64,
            health: None,
        }
    }
}

impl State {
    /// The phase to fall back to when a start comes to nothing.
    fn at_rest(&self) -> Phase {
        if self.started_at.is_unset() { Phase::Created } else { Phase::Exited }
    }

    /// The word of `State.Status` in the Engine API.
    pub fn status(&self) -> &'static str {
        match self.phase {
            Phase::Starting => self.at_rest().as_str(),
            phase => phase.as_str(),
        }
    }
}

/// How a container's first process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The exit code, or 128 + the signal that killed it.
    pub exit_code: i32,
    pub oom_killed: bool,
    pub at: Timestamp,
}

/// What happens to a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A user asks for a start.
    Start,
    /// The delay of an automatic restart is over.
    RestartDue,
    Launched {
        pid: i32,
        at: Timestamp,
    },
    LaunchFailed {
        exit_code: i32,
        error: String,
    },
    Ended(Ended),
    /// A user sends a signal that is meant to end it.
    EndRequested,
    Pause,
    Resume,
    Remove {
        force: Force,
    },
    /// Taking it apart failed half-way.
    RemoveFailed {
        error: String,
    },
}

/// Whether a removal may kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    Kill,
    OnlyStopped,
}

/// What the owner has to do after a transition, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    Launch,
    /// Release mounts and network of the ended process.
    Release,
    /// Start again after this delay.
    RestartAfter(Duration),
    /// Freeze or thaw all processes.
    Freeze,
    Thaw,
    /// Kill what runs; the removal goes on when it has ended.
    KillThenRemove,
    /// Take the container apart.
    TearDown,
}

/// Why an input is refused in the present phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("container is already running")]
    AlreadyRunning,
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    #[error("container is marked for removal and cannot be started")]
    StartRemoving,
    #[error("container is not running")]
    NotRunning,
    #[error("container is already paused")]
    AlreadyPaused,
    #[error("container is not paused")]
    NotPaused,
    #[error("container is restarting, wait until the container is running")]
    Restarting,
    #[error("container is {0}: stop the container before removing or force remove")]
    RemoveNotStopped(&'static str),
    #[error("removal is already in progress")]
    AlreadyRemoving,
}

/// The next state and what the owner has to do.
pub type Transition = (State, Vec<Effect>);

/// What follows from `input` in `state` for a container with `rule`. Pure.
pub fn apply(state: &State, rule: RestartRule, input: Input) -> Result<Transition, Refusal> {
    let next = state.clone();
    match input {
        Input::Start => start(next),
        Input::RestartDue => restart_due(next),
        Input::Launched { pid, at } => Ok((launched(next, pid, at), vec![])),
        Input::LaunchFailed { exit_code, error } => Ok((launch_failed(next, exit_code, error), vec![])),
        Input::Ended(ended) => Ok(ended_by_itself_or_not(next, rule, ended)),
        Input::EndRequested => Ok((end_requested(next), vec![])),
        Input::Pause => pause(next),
        Input::Resume => resume(next),
        Input::Remove { force } => remove(next, force),
        Input::RemoveFailed { error } => Ok((State { phase: Phase::Dead, error, ..next }, vec![])),
    }
}

fn start(state: State) -> Result<Transition, Refusal> {
    match state.phase {
        Phase::Created | Phase::Exited | Phase::Restarting => {
            let next = State {
                phase: Phase::Starting,
                restart_count: 0,
                stopped_by_user: false,
                backoff_ms: State::default().backoff_ms,
                ..state
            };
            Ok((next, vec![Effect::Launch]))
        }
        Phase::Starting | Phase::Running => Err(Refusal::AlreadyRunning),
        Phase::Paused => Err(Refusal::StartPaused),
        Phase::Removing | Phase::Dead => Err(Refusal::StartRemoving),
    }
}

fn restart_due(state: State) -> Result<Transition, Refusal> {
    if state.phase != Phase::Restarting {
        return Err(Refusal::NotRunning);
    }
    let restart_count = state.restart_count.saturating_add(1);
    Ok((State { phase: Phase::Starting, restart_count, ..state }, vec![Effect::Launch]))
}

fn launched(state: State, pid: i32, at: Timestamp) -> State {
    State {
        phase: Phase::Running,
        pid: Some(pid),
        exit_code: 0,
        error: String::new(),
        oom_killed: false,
        started_at: at,
        finished_at: Timestamp::UNSET,
        ..state
    }
}

fn launch_failed(state: State, exit_code: i32, error: String) -> State {
    State { phase: state.at_rest(), pid: None, exit_code, error, ..state }
}

fn ended_by_itself_or_not(state: State, rule: RestartRule, ended: Ended) -> Transition {
    let ran = ended.at.since(state.started_at);
    let mut next = State {
        phase: Phase::Exited,
        pid: None,
        exit_code: ended.exit_code,
        oom_killed: ended.oom_killed,
        finished_at: ended.at,
        ..state
    };
    let mut effects = vec![Effect::Release];
    if state.phase == Phase::Removing {
        next.phase = Phase::Removing;
    } else if restarts(&next, rule) {
        if ran >= HEALTHY_RUN {
            next.backoff_ms = FIRST_BACKOFF.as_millis() as u64;
        }
        effects.push(Effect::RestartAfter(Duration::from_millis(next.backoff_ms)));
        next.backoff_ms = (next.backoff_ms * 2).min(LAST_BACKOFF.as_millis() as u64);
        next.phase = Phase::Restarting;
    }
    (next, effects)
}

fn restarts(state: &State, rule: RestartRule) -> bool {
    if state.stopped_by_user {
        return false;
    }
    match rule {
        RestartRule::No => false,
        RestartRule::Always | RestartRule::UnlessStopped => true,
        RestartRule::OnFailure(max) => state.exit_code != 0 && (max == 0 || state.restart_count < max),
    }
}

fn end_requested(state: State) -> State {
    let phase = if state.phase == Phase::Restarting { Phase::Exited } else { state.phase };
    State { phase, stopped_by_user: true, ..state }
}

fn pause(state: State) -> Result<Transition, Refusal> {
    match state.phase {
        Phase::Running => Ok((State { phase: Phase::Paused, ..state }, vec![Effect::Freeze])),
        Phase::Paused => Err(Refusal::AlreadyPaused),
        Phase::Restarting => Err(Refusal::Restarting),
        Phase::Created | Phase::Starting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Refusal::NotRunning)
        }
    }
}

fn resume(state: State) -> Result<Transition, Refusal> {
    match state.phase {
        Phase::Paused => Ok((State { phase: Phase::Running, ..state }, vec![Effect::Thaw])),
        _ => Err(Refusal::NotPaused),
    }
}

fn remove(state: State, force: Force) -> Result<Transition, Refusal> {
    let effect = match (state.phase, force) {
        (Phase::Created | Phase::Exited | Phase::Dead, _) => Effect::TearDown,
        (Phase::Restarting, Force::Kill) => Effect::TearDown,
        (Phase::Starting | Phase::Running | Phase::Paused, Force::Kill) => Effect::KillThenRemove,
        (Phase::Starting, Force::OnlyStopped) => return Err(Refusal::RemoveNotStopped("running")),
        (Phase::Running | Phase::Paused | Phase::Restarting, Force::OnlyStopped) => {
            return Err(Refusal::RemoveNotStopped(state.phase.as_str()));
        }
        (Phase::Removing, _) => return Err(Refusal::AlreadyRemoving),
    };
    let stopped_by_user = state.stopped_by_user || effect == Effect::KillThenRemove;
    Ok((State { phase: Phase::Removing, stopped_by_user, ..state }, vec![effect]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: Phase) -> State {
        State { phase, started_at: Timestamp::from_nanos(0), ..State::default() }
    }

    fn ended(exit_code: i32, seconds: i64) -> Input {
        Input::Ended(Ended {
            exit_code,
            oom_killed: false,
            at: Timestamp::from_nanos(seconds * 1_000_000_000),
        })
    }

    #[test]
    fn each_phase_answers_each_request_as_dockerd_does() {
        use Phase::*;
        let remove = |force| Input::Remove { force };
        let table: &[(Phase, Input, Result<Phase, Refusal>)] = &[
            (Created, Input::Start, Ok(Starting)),
            (Exited, Input::Start, Ok(Starting)),
            (Restarting, Input::Start, Ok(Starting)),
            (Running, Input::Start, Err(Refusal::AlreadyRunning)),
            (Paused, Input::Start, Err(Refusal::StartPaused)),
            (Removing, Input::Start, Err(Refusal::StartRemoving)),
            (Dead, Input::Start, Err(Refusal::StartRemoving)),
            (Running, Input::Pause, Ok(Paused)),
            (Paused, Input::Pause, Err(Refusal::AlreadyPaused)),
            (Exited, Input::Pause, Err(Refusal::NotRunning)),
            (Restarting, Input::Pause, Err(Refusal::Restarting)),
            (Paused, Input::Resume, Ok(Running)),
            (Running, Input::Resume, Err(Refusal::NotPaused)),
            (Exited, remove(Force::OnlyStopped), Ok(Removing)),
            (Dead, remove(Force::OnlyStopped), Ok(Removing)),
            (Running, remove(Force::OnlyStopped), Err(Refusal::RemoveNotStopped("running"))),
            (Paused, remove(Force::OnlyStopped), Err(Refusal::RemoveNotStopped("paused"))),
            (Running, remove(Force::Kill), Ok(Removing)),
            (Restarting, remove(Force::Kill), Ok(Removing)),
            (Removing, remove(Force::Kill), Err(Refusal::AlreadyRemoving)),
        ];
        for (phase, input, expected) in table {
            let got = apply(&at(*phase), RestartRule::No, input.clone()).map(|(state, _)| state.phase);
            assert_eq!(got, *expected, "{phase:?} {input:?}");
        }
    }

    #[test]
    fn restart_rules_decide_by_exit_code_count_and_who_ended_it() {
        use RestartRule::*;
        let table = [
            (No, 1, 0, false, false),
            (Always, 0, 0, false, true),
            (Always, 0, 0, true, false),
            (UnlessStopped, 0, 9, false, true),
            (OnFailure(0), 0, 0, false, false),
            (OnFailure(0), 1, 99, false, true),
            (OnFailure(2), 1, 1, false, true),
            (OnFailure(2), 1, 2, false, false),
        ];
        for (rule, code, restart_count, stopped_by_user, again) in table {
            let running = State { restart_count, stopped_by_user, ..at(Phase::Running) };
            let (state, effects) = apply(&running, rule, ended(code, 1)).unwrap();
            assert_eq!(state.phase == Phase::Restarting, again, "{rule:?} {code} {restart_count}");
            assert_eq!(effects.len(), 1 + usize::from(again));
        }
    }

    #[test]
    fn the_delay_doubles_to_a_minute_and_starts_over_after_a_long_run() {
        let mut state = at(Phase::Running);
        let mut delays = vec![];
        for _ in 0..12 {
            let (next, effects) = apply(&state, RestartRule::Always, ended(1, 1)).unwrap();
            let Some(Effect::RestartAfter(delay)) = effects.last() else { panic!("{effects:?}") };
            delays.push(delay.as_millis());
            state = State { phase: Phase::Running, ..next };
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[11], 60_000);
        let (_, effects) = apply(&state, RestartRule::Always, ended(1, 10)).unwrap();
        assert_eq!(effects.last(), Some(&Effect::RestartAfter(FIRST_BACKOFF)));
    }

    #[test]
    fn a_failed_launch_leaves_created_or_exited_with_the_code_and_the_reason() {
        let fail = Input::LaunchFailed { exit_code: 127, error: "no".into() };
        let (state, _) = apply(&State::default(), RestartRule::Always, fail.clone()).unwrap();
        assert_eq!((state.phase, state.exit_code, state.error.as_str()), (Phase::Created, 127, "no"));
        let (state, _) = apply(&at(Phase::Starting), RestartRule::Always, fail).unwrap();
        assert_eq!(state.phase, Phase::Exited);
    }

    #[test]
    fn an_exit_while_being_removed_never_restarts() {
        let (state, effects) = apply(&at(Phase::Removing), RestartRule::Always, ended(137, 1)).unwrap();
        assert_eq!((state.phase, effects), (Phase::Removing, vec![Effect::Release]));
    }
}
