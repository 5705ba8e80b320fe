//! The scenarios, one file for each subject.

mod attach;
mod copy;
mod copy_attacks;
mod crash;
mod errors;
mod events;
mod exec;
mod health;
mod layers;
mod limits;
mod lists;
mod logs;
mod mounts;
mod network;
mod pull;
mod readme;
mod resilience;
mod restart;
mod run;
mod sdk;
mod security;
mod server;
mod session;
mod versions;
mod volumes;
mod wait;
