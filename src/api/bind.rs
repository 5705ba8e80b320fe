//! Binds every operation to its handler: the one place that says what is served.
//!
//! The match is exhaustive and each handler takes its operation's own parameters, so that a missing handler, a
//! handler of another operation and an operation that is gone from the specification do not compile.

use std::future::Future;
use std::pin::Pin;

use crate::api::call::{Incoming, Outcome};
use crate::api::error::ApiError;
use crate::api::handlers::{containers, distribution, exec, images, networks, plugins, system, volumes};
use crate::api::spec::{Operation, params};

/// Boxed one by one: a single future of all handlers would have the size of the largest for every request.
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

macro_rules! bind {
    (served { $($operation:ident => $handler:path,)* } not_yet { $($to_come:ident,)* }) => {
        /// Decodes the parameters of a request and runs its handler.
        pub fn call(incoming: Incoming) -> Running {
            match incoming.operation {
                $(Operation::$operation => match incoming.decode::<params::$operation>() {
                    Ok(call) => Box::pin($handler(call)),
                    Err(error) => Box::pin(std::future::ready(Err(error))),
                },)*
                $(Operation::$to_come)|* => Box::pin(std::future::ready(Err(ApiError::not_yet(incoming.operation)))),
            }
        }
    };
}

bind! {
    served {
        CheckpointCreate => containers::create_checkpoint,
        CheckpointDelete => containers::delete_checkpoint,
        CheckpointList => containers::list_checkpoints,
        ContainerArchive => containers::archive,
        ContainerArchiveInfo => containers::archive_info,
        ContainerAttach => containers::attach,
        ContainerAttachWebsocket => containers::attach_websocket,
        ContainerChanges => containers::changes,
        ContainerCreate => containers::create,
        ContainerDelete => containers::delete,
        ContainerExport => containers::export,
        ContainerInspect => containers::inspect,
        ContainerKill => containers::kill,
        ContainerList => containers::list,
        ContainerLogs => containers::logs,
        ContainerPause => containers::pause,
        ContainerPrune => containers::prune,
        ContainerRename => containers::rename,
        ContainerResize => containers::resize,
        ContainerRestart => containers::restart,
        ContainerStart => containers::start,
        ContainerStats => containers::stats,
        ContainerStop => containers::stop,
        ContainerTop => containers::top,
        ContainerUnpause => containers::unpause,
        ContainerUpdate => containers::update,
        ContainerWait => containers::wait,
        PutContainerArchive => containers::put_archive,
        ContainerExec => exec::create,
        ExecInspect => exec::inspect,
        ExecResize => exec::resize,
        ExecStart => exec::start,

        DistributionInspect => distribution::inspect,

        ImageCommit => images::commit,
        ImageCreate => images::create,
        ImageDelete => images::delete,
        ImageHistory => images::history,
        ImageInspect => images::inspect,
        ImageList => images::list,
        ImageLoad => images::load,
        ImagePrune => images::prune,
        ImageTag => images::tag,

        NetworkCreate => networks::create,
        NetworkDelete => networks::delete,
        NetworkInspect => networks::inspect,
        NetworkList => networks::list,
        NetworkPrune => networks::prune,

        PluginDelete => plugins::delete,
        PluginDisable => plugins::disable,
        PluginEnable => plugins::enable,
        PluginInspect => plugins::inspect,
        PluginList => plugins::list,
        PluginPush => plugins::push,
        PluginSet => plugins::set,
        PluginUpgrade => plugins::upgrade,

        SystemAuth => system::auth,
        SystemDataUsage => system::data_usage,
        SystemEvents => system::events,
        SystemInfo => system::info,
        SystemPing => system::ping,
        SystemPingHead => system::ping_head,
        SystemVersion => system::version,

        VolumeCreate => volumes::create,
        VolumeDelete => volumes::delete,
        VolumeInspect => volumes::inspect,
        VolumeList => volumes::list,
        VolumePrune => volumes::prune,
    }

    // Answered with 501, those of the swarm with what dockerd says when it is off.
    not_yet {
        // Container
        // Exec
        // Image
        BuildCancel,
        BuildPrune,
        ImageAttestations,
        ImageBuild,
        ImageGet,
        ImageGetAll,
        ImagePush,
        ImageSearch,
        // Volume
        VolumeUpdate,
        // Network
        NetworkConnect,
        NetworkDisconnect,
        // Session
        Grpc,
        Session,
        // Plugin
        GetPluginPrivileges,
        PluginCreate,
        PluginPull,
        // Swarm
        SwarmInit,
        SwarmInspect,
        SwarmJoin,
        SwarmLeave,
        SwarmUnlock,
        SwarmUnlockkey,
        SwarmUpdate,
        // Node
        NodeDelete,
        NodeInspect,
        NodeList,
        NodeUpdate,
        // Service
        ServiceCreate,
        ServiceDelete,
        ServiceInspect,
        ServiceList,
        ServiceLogs,
        ServiceUpdate,
        // Task
        TaskInspect,
        TaskList,
        TaskLogs,
        // Secret
        SecretCreate,
        SecretDelete,
        SecretInspect,
        SecretList,
        SecretUpdate,
        // Config
        ConfigCreate,
        ConfigDelete,
        ConfigInspect,
        ConfigList,
        ConfigUpdate,
    }
}
