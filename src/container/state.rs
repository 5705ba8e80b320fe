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
    /// Automatic restarts since the last start by a user or with the daemon, the one that is waited for included.
    pub restart_count: u32,
    /// A user ended it (stop, kill): `unless-stopped` stays down, over restarts of the daemon too.
    pub stopped_by_user: bool,
    /// Somebody asked for its end: no rule starts it again until the daemon does.
    #[serde(default)]
    pub stays_down: bool,
    /// The delay before the next automatic restart, in milliseconds.
    pub backoff_ms: u64,
    /// What its probes say; absent if it has none or has never run.
    #[serde(default)]
    pub health: Option<Health>,
    /// What goes along with the container in the removal that has begun: one that is cut off is finished by the next
    /// daemon.
    #[serde(default)]
    pub removing: Option<Volumes>,
}

/// Whether anonymous volumes go with their container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Volumes {
    Keep,
    RemoveAnonymous,
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
            removing: None,
            stays_down: false,
        }
    }
}

impl State {
    /// The phase to fall back to when a start comes to nothing.
    fn at_rest(&self) -> Phase {
        if self.started_at.is_unset() { Phase::Created } else { Phase::Exited }
    }

    /// The phase as clients see it: a start shows when it is done, and an automatic one ends the wait for it.
    pub fn shown(&self) -> Phase {
        match self.phase {
            Phase::Starting if self.restart_count > 0 => Phase::Restarting,
            Phase::Starting => self.at_rest(),
            phase => phase,
        }
    }

    /// The word of `State.Status` in the Engine API.
    pub fn status(&self) -> &'static str {
        self.shown().as_str()
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
    EndRequested(EndRequest),
    Pause,
    Resume,
    Remove {
        force: Force,
        volumes: Volumes,
    },
    /// Taking it apart failed half-way.
    RemoveFailed {
        error: String,
    },
}

/// Why a container's process is sent a signal.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum EndRequest {
    /// A user wants it to end.
    #[default]
    Stop,
    /// A user sends a signal other than the one that stops this container.
    Signal,
    /// The daemon ends, and what should run again will when it is back.
    Shutdown,
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
        Input::EndRequested(request) => Ok((end_requested(next, request), vec![])),
        Input::Pause => pause(next),
        Input::Resume => resume(next),
        Input::Remove { force, volumes } => remove(next, force, volumes),
        Input::RemoveFailed { error } => {
            Ok((State { phase: Phase::Dead, error, removing: None, ..next }, vec![]))
        }
    }
}

fn start(state: State) -> Result<Transition, Refusal> {
    match state.phase {
        Phase::Created | Phase::Exited => {
            let next = State {
                phase: Phase::Starting,
                restart_count: 0,
                stopped_by_user: false,
                stays_down: false,
                backoff_ms: State::default().backoff_ms,
                ..state
            };
            Ok((next, vec![Effect::Launch]))
        }
        Phase::Starting | Phase::Running | Phase::Restarting => Err(Refusal::AlreadyRunning),
        Phase::Paused => Err(Refusal::StartPaused),
        Phase::Removing | Phase::Dead => Err(Refusal::StartRemoving),
    }
}

fn restart_due(state: State) -> Result<Transition, Refusal> {
    if state.phase != Phase::Restarting {
        return Err(Refusal::NotRunning);
    }
    Ok((State { phase: Phase::Starting, ..state }, vec![Effect::Launch]))
}

fn launched(state: State, pid: i32, at: Timestamp) -> State {
    State {
        phase: Phase::Running,
        pid: Some(pid),
        exit_code: 0,
        error: String::new(),
        oom_killed: false,
        started_at: at,
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
        next.restart_count = next.restart_count.saturating_add(1);
        next.phase = Phase::Restarting;
    }
    (next, effects)
}

fn restarts(state: &State, rule: RestartRule) -> bool {
    !state.stays_down && wants_to_run(state, rule)
}

/// Whether a container that is at rest is started when the daemon starts. Pure.
pub fn starts_with_daemon(state: &State, rule: RestartRule) -> bool {
    state.phase == Phase::Exited && !state.started_at.is_unset() && wants_to_run(state, rule)
}

fn wants_to_run(state: &State, rule: RestartRule) -> bool {
    match rule {
        RestartRule::No => false,
        RestartRule::Always => true,
        RestartRule::UnlessStopped => !state.stopped_by_user,
        RestartRule::OnFailure(max) => state.exit_code != 0 && (max == 0 || state.restart_count < max),
    }
}

fn end_requested(state: State, request: EndRequest) -> State {
    let stays_down = state.stays_down || request != EndRequest::Signal;
    let stopped_by_user = state.stopped_by_user || request != EndRequest::Shutdown;
    let phase = if state.phase == Phase::Restarting && stays_down { Phase::Exited } else { state.phase };
    State { phase, stays_down, stopped_by_user, ..state }
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

fn remove(state: State, force: Force, volumes: Volumes) -> Result<Transition, Refusal> {
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
    let killed = effect == Effect::KillThenRemove;
    let next = State {
        phase: Phase::Removing,
        stopped_by_user: state.stopped_by_user || killed,
        stays_down: true,
        removing: Some(volumes),
        ..state
    };
    Ok((next, vec![effect]))
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
        let remove = |force| Input::Remove { force, volumes: Volumes::Keep };
        let table: &[(Phase, Input, Result<Phase, Refusal>)] = &[
            (Created, Input::Start, Ok(Starting)),
            (Exited, Input::Start, Ok(Starting)),
            (Restarting, Input::Start, Err(Refusal::AlreadyRunning)),
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
            // The rule, the exit code, restarts so far, who ended it; whether it is restarted, and with the daemon.
            (No, 1, 0, None, false, false),
            (Always, 0, 0, None, true, true),
            (Always, 0, 0, Some(EndRequest::Stop), false, true),
            (Always, 0, 0, Some(EndRequest::Signal), true, true),
            (Always, 0, 0, Some(EndRequest::Shutdown), false, true),
            (UnlessStopped, 0, 9, None, true, true),
            (UnlessStopped, 0, 0, Some(EndRequest::Stop), false, false),
            (UnlessStopped, 0, 0, Some(EndRequest::Signal), false, false),
            (UnlessStopped, 0, 0, Some(EndRequest::Shutdown), false, true),
            (OnFailure(0), 0, 0, None, false, false),
            (OnFailure(0), 1, 99, None, true, true),
            (OnFailure(2), 1, 1, None, true, false),
            (OnFailure(2), 1, 2, None, false, false),
            (OnFailure(2), 137, 0, Some(EndRequest::Shutdown), false, true),
        ];
        for (rule, code, restart_count, by, again, with_daemon) in table {
            let mut running = State { restart_count, ..at(Phase::Running) };
            if let Some(request) = by {
                running = apply(&running, rule, Input::EndRequested(request)).unwrap().0;
            }
            let (state, effects) = apply(&running, rule, ended(code, 1)).unwrap();
            let case = format!("{rule:?} {code} {restart_count} {by:?}");
            assert_eq!(state.phase == Phase::Restarting, again, "{case}");
            assert_eq!(effects.len(), 1 + usize::from(again), "{case}");
            assert_eq!(state.restart_count, restart_count + u32::from(again), "{case}");
            let resting = State { phase: Phase::Exited, ..state };
            assert_eq!(starts_with_daemon(&resting, rule), with_daemon, "{case}");
        }
        assert!(!starts_with_daemon(&State::default(), Always), "what never ran waits for its first start");
    }

    #[test]
    fn a_start_shows_when_it_is_done() {
        let never = State { phase: Phase::Starting, ..State::default() };
        assert_eq!(never.status(), "created");
        assert_eq!(at(Phase::Starting).status(), "exited");
        assert_eq!(State { restart_count: 1, ..at(Phase::Starting) }.status(), "restarting");
        let (running, _) = apply(
            &State { finished_at: Timestamp::from_nanos(5), ..at(Phase::Starting) },
            RestartRule::No,
            Input::Launched { pid: 1, at: Timestamp::from_nanos(9) },
        )
        .unwrap();
        assert_eq!(running.finished_at, Timestamp::from_nanos(5), "dockerd keeps the end of the last run");
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
