//! The daemon's outside: command line, listeners, TLS, signals, start and end.
//!
//! Start-up order: configuration, locks, listeners, then the engine, so that `/_ping` is answered within milliseconds
//! of exec; recovery runs while clients are already connected. Knows no operation of the API.

mod accept;
mod activation;
mod error;
mod listen;
mod logging;
mod notify;
mod pidfile;
mod remap;
mod roots;
mod signals;
mod tls;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::{Api, transfers};
use crate::base::sys::process;
use crate::config::{self, Invocation, Source, Started};
use crate::engine::Engine;
use crate::logs;

pub use error::StartError;

/// Worker threads beyond this many would only wait: the daemon's work is system calls and waiting.
const MAX_WORKERS: usize = 4;
const STACK: usize = 1 << 20;
/// Threads for blocking work: file trees, decompression, and those that may wait for clients.
const MAX_BLOCKING: usize = 128 + transfers::MAX;

/// Runs the daemon; `args` are those after the program's name.
pub fn main(args: Vec<String>) -> ExitCode {
    let done = match config::load(&args) {
        Ok(Invocation::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::Check(config)) => check(&config).map(|()| println!("configuration OK")),
        Ok(Invocation::Run(started)) => run(*started),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to start daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is beyond the configuration's own knowledge.
fn check(config: &config::Config) -> Result<(), StartError> {
    Ok(logs::options::validate(&config.log_driver, &config.log_opts)?)
}

fn run(started: Started) -> Result<(), StartError> {
    let Started { config, source, ignored } = started;
    let log = logging::start(&config);
    for (option, reason) in ignored {
        tracing::info!(option, reason, "option has no effect");
    }
    check(&config)?;
    let config = remap::apply(config)?;
    prepare_process(&config)?;
    let _roots = roots::prepare(&config)?;
    let _pidfile = pidfile::claim(&config.pidfile)?;
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
    let listeners = listen::open(&config, tls)?;
    let _sockets = listen::Sockets::of(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).clamp(2, MAX_WORKERS))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_stack_size(STACK)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(Arc::new(config), source, listeners, log));
    // What still runs after the shutdown has nothing left to say.
    runtime.shutdown_background();
    served
}

/// What holds for the whole process; it has one thread yet.
fn prepare_process(config: &config::Config) -> Result<(), StartError> {
    let proxies = [
        ("HTTP_PROXY", &config.http_proxy),
        ("HTTPS_PROXY", &config.https_proxy),
        ("NO_PROXY", &config.no_proxy),
    ];
    for (name, value) in proxies {
        if let Some(value) = value {
            process::set_variable(name, value)?;
            process::set_variable(&name.to_lowercase(), value)?;
        }
    }
    // Neither is worth not starting for.
    if let Err(error) = process::raise_open_files() {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
    if let Some(Err(error)) = config.oom_score_adjust.map(process::set_oom_score) {
        tracing::warn!(%error, "cannot set the daemon's OOM score");
    }
    Ok(())
}

async fn serve(
    config: Arc<config::Config>,
    source: Source,
    listeners: Vec<listen::Listener>,
    log: logging::Control,
) -> Result<(), StartError> {
    let mut signals = signals::Signals::listen()?;
    let engine = Engine::open(config)?;
    let api = Api::new(engine.clone());
    let (close, closing) = watch::channel(false);
    for listener in listeners {
        tracing::info!(address = %listener.address, "API listen");
        accept::start(listener.into_tokio()?, api.clone(), closing.clone());
    }
    let recovered = tokio::select! {
        () = engine.recover() => true,
        () = signals.stop() => false,
    };
    if recovered {
        notify::ready();
        tracing::info!("daemon has completed initialization");
        while let Some(()) = signals.reload_or_stop().await {
            reload(&engine, &source, &log);
        }
    }
    stop(&engine, signals, close).await;
    Ok(())
}

fn reload(engine: &Engine, source: &Source, log: &logging::Control) {
    notify::reloading();
    match engine.config.reload(source) {
        Ok(attributes) => {
            log.set(&engine.config);
            tracing::info!(?attributes, "configuration reloaded");
            engine.config_reloaded(attributes);
        }
        Err(error) => tracing::error!(%error, "error reconfiguring the daemon"),
    }
    notify::ready();
}

/// Ends everything in order; another signal ends it at once.
async fn stop(engine: &Engine, mut signals: signals::Signals, close: watch::Sender<bool>) {
    notify::stopping();
    tracing::info!("processing signal: shutting down");
    close.send_replace(true);
    tokio::select! {
        () = engine.shutdown() => {}
        () = signals.stop() => tracing::warn!("forced to end before all containers have stopped"),
    }
}
